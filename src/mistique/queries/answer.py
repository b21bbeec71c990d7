"""What every answer carries, and how it shows itself in a terminal and a notebook."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from textwrap import fill
from typing import Any, ClassVar

import numpy as np

from mistique.planner.plan import Plan, format_bound
from mistique.queries.exchange import to_arrow, to_xarray

_SHOWN_ROWS, _SHOWN_COLUMNS, _SHOWN_CELL, _SHOWN_LABEL = 10, 8, 14, 40


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """An answer: values, row labels, column names, error bound, plan.

    Parameters
    ----------
    key : str
        What was asked.
    values : ndarray
        Rows along the first axis. A sparse matrix of more than 4,096 columns stays one.
    rows : ndarray of shape (n_rows,)
        Labels of the rows.
    columns : tuple of str
        Names of the columns.
    max_abs_error : float
        Largest absolute error of any value; 0.0: they are exact.
    plan : Plan
        The road taken, and why.
    """

    _dims: ClassVar[tuple[str, ...]] = ("row", "column")

    key: str
    values: np.ndarray
    rows: np.ndarray
    columns: tuple[str, ...]
    max_abs_error: float
    plan: Plan

    def to_frame(self) -> Any:
        """A pandas frame, rows labelled."""
        import pandas as pd

        if hasattr(self.values, "toarray"):
            return pd.DataFrame.sparse.from_spmatrix(self.values, self.rows, list(self.columns))
        table = self.values if self.values.ndim > 1 else self.values[:, None]
        return pd.DataFrame(
            table.reshape(len(table), int(np.prod(table.shape[1:]))), index=self.rows, columns=list(self.columns)
        )

    def to_numpy(self) -> np.ndarray:
        """The values."""
        return self.values

    def to_xarray(self) -> Any:
        """The values as an `xarray.DataArray`, dimensions named and labelled.

        Raises
        ------
        MissingExtraError
            xarray is not installed.
        """
        return to_xarray(self)

    def dimensions(self) -> tuple[tuple[str, ...], tuple[np.ndarray | None, ...]]:
        """Names of the dimensions of `values`, and the labels along each; None: they are numbered."""
        n_dims = self.values.ndim
        names = (*self._dims, *(f"dimension_{i}" for i in range(2, n_dims)))[:n_dims]
        columns = np.array(self.columns, object) if n_dims == 2 else None
        return names, (self.rows, columns, *[None] * n_dims)[:n_dims]

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The frame for whatever reads Arrow: ``polars.DataFrame(answer)``, ``pyarrow.table(answer)``, DuckDB."""
        return to_arrow(self).__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        notes = (_wrapped(note) for note in self._more())
        return "\n".join([_wrapped(self._title()), *text_table(self._head(), self._body()), *notes])

    def _repr_html_(self) -> str:
        return html_table(self._title(), self._head(), self._body(), self._more())

    def _title(self) -> str:
        return f"{type(self).__name__} of {self.key}"

    def _head(self) -> list[str]:
        return ["row", *self.columns[:_SHOWN_COLUMNS]]

    def _body(self) -> list[list[str]]:
        shown = zip(self.rows[:_SHOWN_ROWS], self._first_rows(_SHOWN_ROWS)[:, :_SHOWN_COLUMNS], strict=True)
        return [[str(label), *map(format_value, row)] for label, row in shown]

    def _first_rows(self, n_rows: int) -> np.ndarray:
        """The first rows as a table, in the order of `columns`."""
        values: Any = self.values[:n_rows]
        if hasattr(values, "toarray"):
            return np.asarray(values.toarray())
        return np.asarray(values.reshape(len(values), int(np.prod(values.shape[1:]))))

    def _more(self) -> list[str]:
        n_columns = int(np.prod(self.values.shape[1:], dtype=int))
        notes = []
        if len(self.rows) > _SHOWN_ROWS or n_columns > _SHOWN_COLUMNS:
            notes.append(f"... {len(self.rows):,} rows x {n_columns:,} columns in all")
        return [*notes, f"{format_bound(self.max_abs_error)}; {self.plan}"]


@dataclass(frozen=True, eq=False, repr=False)
class Plotted(Answer):
    """An answer that has a picture."""

    _store: Any = field(default=None, kw_only=True)

    def plot(self, ax: Any = None) -> Any:
        """The picture of the answer, on matplotlib axes.

        Returns
        -------
        Axes, or array of Axes
        """
        plots = importlib.import_module("mistique.plots")
        return plots.plot(self, ax)


def _wrapped(text: str) -> str:
    return fill(text, 80, subsequent_indent="  ", break_on_hyphens=False)


def format_value(value: Any) -> str:
    """One value in a few characters."""
    if value is None:
        return "null"
    if isinstance(value, (float, np.floating)) or type(value).__name__ == "bfloat16":
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1e5 and number.is_integer() else f"{number:.4g}"
    text = str(value)
    return text if len(text) <= _SHOWN_CELL else text[: _SHOWN_CELL - 3] + "..."


def text_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; numbers to the right."""
    names = [name if len(name) <= _SHOWN_CELL else name[: _SHOWN_CELL - 3] + "..." for name in head]
    body = [[_clipped(row[0]), *row[1:]] for row in body]
    widths = [max(map(len, column)) for column in zip(names, *body, strict=True)]
    # As many columns as a terminal of 80 holds.
    n_fitting = max(1, int(np.searchsorted(np.cumsum([w + 2 for w in widths]), 80, side="right")))
    lines = []
    for row in [names, *body]:
        first, *rest = row[:n_fitting]
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:n_fitting], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def _clipped(label: str) -> str:
    return label if len(label) <= _SHOWN_LABEL else label[: _SHOWN_LABEL - 3] + "..."


def html_table(title: str, head: Sequence[str], body: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The same for a notebook."""
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    footer = "".join(f"<p><small>{escape(note)}</small></p>" for note in notes)
    return f"<p><b>{escape(title)}</b></p><table><tr>{header}</tr>{rows}</table>{footer}"
