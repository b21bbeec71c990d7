"""Pictures of tables of numbers as greys: the mean of every unit by group, the likeness of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import axes_of, title
from mistique.queries import Cka, ClassMeans, Corr

_MAX_NAMED = 40
_MAX_SQUARES = 20


def draw_class_means(answer: ClassMeans, ax: Any = None) -> Any:
    """A line of greys for each group. Columns of a table, each of its own scale, are drawn relative to their spread."""
    means = answer.values
    is_table = answer.what == "column" and not answer.columns[0].split(" ")[0].isdigit()
    shade = "mean"
    if is_table:
        means = relative(means)
        shade = "from the smallest (0) to the largest (1) mean of a column"
    ax = axes_of(ax, width=9.0, height=0.32 * len(means) + 2.2)
    # Dark is large, as ink is.
    image = ax.imshow(np.ma.masked_invalid(means), aspect="auto", cmap="gray_r", interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", shrink=0.5, aspect=40)
    bar.set_label(shade, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    ticks = [f"{group} ({n:,})" for group, n in zip(answer.rows, answer.n_rows, strict=True)]
    ax.set_yticks(np.arange(len(ticks)), ticks, fontsize=8)
    ax.set_ylabel(f"{answer.by} (rows)")
    if len(answer.columns) <= _MAX_NAMED:
        slanted = {"rotation": 60, "ha": "right"} if is_table else {}
        ax.set_xticks(np.arange(len(answer.columns)), answer.columns, fontsize=8, **slanted)
    if not is_table:
        ax.set_xlabel(answer.what)
    title(ax, f"Mean of every {answer.what} by {answer.by}", answer.key)
    return ax


def relative(table: np.ndarray) -> np.ndarray:
    """Each column from its smallest value, 0, to its largest, 1; NaN and infinities are NaN."""
    known = np.ma.masked_invalid(table)
    low = known.min(axis=0)
    spread = known.max(axis=0) - low
    spread[spread == 0] = 1.0
    return np.asarray(((known - low) / spread).filled(np.nan))


def draw_similarities(answer: Cka, ax: Any = None) -> Any:
    """A square for each pair of layers, with its similarity where there is room for it. Below 0 is drawn as 0."""
    ax = _squares(answer, answer.values, "CKA", ax)
    prefixes = [f"{key.rpartition('@')[0]}@{key.rpartition('@')[2].partition('/')[0]}" for key in answer.keys]
    others = [f"{key.rpartition('@')[0]}@{key.rpartition('@')[2].partition('/')[0]}" for key in answer.others]
    of = ", ".join(dict.fromkeys([*prefixes, *others]))
    title(ax, f"Likeness of layers (linear CKA, {answer.n_rows:,} rows)", of)
    return ax


def draw_corr(answer: Corr, ax: Any = None) -> Any:
    """A square for each pair of columns, dark where they follow one another; the number in it has the sign."""
    ax = _squares(answer, np.abs(answer.values), "size of the correlation", ax)
    of = answer.key if answer.other == answer.key else f"{answer.key} and {answer.other}"
    title(ax, f"Correlations of columns ({answer.counts.max(initial=0):,} rows)", of)
    return ax


def _squares(answer: Cka | Corr, shades: np.ndarray, what: str, ax: Any) -> Any:
    """Greys from 0 to 1 for each row and column of an answer, with its values where there is room."""
    n_rows, n_columns = shades.shape
    ax = axes_of(ax, width=min(0.45 * n_columns, 14.0) + 4.0, height=min(0.4 * n_rows, 14.0) + 2.4)
    is_few = max(n_rows, n_columns) <= _MAX_SQUARES
    # Squares as long as there are few: of hundreds of columns against one nothing would be seen.
    aspect = "equal" if is_few else "auto"
    shown = np.ma.masked_invalid(shades)
    image = ax.imshow(shown, vmin=0.0, vmax=1.0, cmap="gray_r", interpolation="nearest", aspect=aspect)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(what, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    if n_columns <= _MAX_NAMED:
        ax.set_xticks(np.arange(n_columns), answer.columns, fontsize=8, rotation=60, ha="right")
    if n_rows <= _MAX_NAMED:
        ax.set_yticks(np.arange(n_rows), answer.rows, fontsize=8)
    if is_few:
        for (i, j), value in np.ndenumerate(answer.values):
            color = "w" if shades[i, j] > 0.5 else "k"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    return ax
