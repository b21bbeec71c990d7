"""Pictures of values as they are: images, feature maps, rows by columns."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mistique.errors import QueryError
from mistique.plots.axes import axes_of, title
from mistique.plots.heat import relative
from mistique.plots.images import draw_images
from mistique.queries import Part
from mistique.queries.answer import format_value
from mistique.queries.examples import is_image

_MAX_IMAGES, _MAX_ROWS, _MAX_UNITS = 20, 8, 8
_MAX_LINES, _MAX_COLUMNS, _MAX_NAMED, _LONGEST = 40, 400, 40, 40


def draw_part(answer: Part, ax: Any = None) -> Any:
    """Images as images, a map for each row and unit of a layer of maps, and else a line of greys for each row."""
    if not len(answer.rows):
        raise QueryError(f"{answer.key}: no rows were asked for, so there is nothing to draw")
    values: Any = answer.values
    if answer.intermediate.role == "input" and is_image(values):
        shown, of = min(len(values), _MAX_IMAGES), f"{answer.key}{_first(len(values), _MAX_IMAGES, 'rows')}"
        return draw_images("Images", of, values[:shown], [format_value(label) for label in answer.rows[:shown]], ax)
    if values.ndim == 4 and not answer.intermediate.is_table and ax is None:
        return _draw_maps(answer)
    return _draw_lines(answer, ax)


def _draw_maps(answer: Part) -> Any:
    """The maps, dark where they are large, on one scale."""
    maps = answer.values[:_MAX_ROWS, ..., :_MAX_UNITS].astype(np.float64)
    n_rows, n_units = len(maps), maps.shape[-1]
    units = np.asarray(answer.dimensions()[1][-1])
    figure = plt.figure(figsize=(1.2 * n_units + 1.8, 1.25 * n_rows + 0.9), layout="constrained")
    grid = figure.subplots(n_rows, n_units, squeeze=False)
    more = _first(len(answer.rows), _MAX_ROWS, "rows") + _first(answer.values.shape[-1], _MAX_UNITS, "units")
    figure.suptitle(f"Feature maps\n{answer.key}{more}", fontsize=10, parse_math=False)
    known = np.ma.masked_invalid(maps)
    scale = {"vmin": float(known.min()), "vmax": float(known.max())} if known.count() else {}
    for row, cells in enumerate(grid):
        for place, cell in enumerate(cells):
            image = cell.imshow(known[row, ..., place], cmap="gray_r", interpolation="nearest", **scale)
            cell.set_xticks([])
            cell.set_yticks([])
            if row == 0:
                cell.set_title(f"unit {units[place]}", fontsize=8)
        cells[0].set_ylabel(format_value(answer.rows[row]), fontsize=8, parse_math=False)
    figure.colorbar(image, ax=grid, shrink=0.8).ax.tick_params(labelsize=8)
    return grid


def _draw_lines(answer: Part, ax: Any) -> Any:
    """A line of greys for each row; columns of a table, each of its own scale, from their smallest to their largest."""
    table, names = _numbers(answer)
    more = _first(len(answer.rows), _MAX_LINES, "rows") + _first(len(names), _MAX_COLUMNS, "columns")
    table, names = table[:, :_MAX_COLUMNS], names[:_MAX_COLUMNS]
    is_table = answer.intermediate.is_table and len(names) > 1
    ax = axes_of(ax, width=9.0, height=0.24 * len(table) + 2.2)
    shades = np.ma.masked_invalid(relative(table) if is_table else table)
    # Dark is large, as ink is.
    image = ax.imshow(shades, aspect="auto", cmap="gray_r", interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", shrink=0.5, aspect=40)
    bar.set_label("from the smallest (0) to the largest (1) value of a column" if is_table else "value", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    labels = [str(label)[:_LONGEST] for label in answer.rows[: len(table)]]
    ax.set_yticks(np.arange(len(labels)), labels, fontsize=8, parse_math=False)
    ax.set_ylabel("row")
    if len(names) <= _MAX_NAMED:
        slanted = {"rotation": 60, "ha": "right"} if answer.intermediate.is_table else {}
        ax.set_xticks(np.arange(len(names)), names, fontsize=8, parse_math=False, **slanted)
    if not answer.intermediate.is_table:
        ax.set_xlabel("column")
    title(ax, f"Values{more}", answer.key)
    return ax


def _numbers(answer: Part) -> tuple[np.ndarray, list[str]]:
    """The first rows of the columns that hold numbers, float64, and their names."""
    table = answer._first_rows(_MAX_LINES)
    kept, columns = [], []
    for i, name in enumerate(answer.columns):
        try:
            columns.append(table[:, i].astype(np.float64))
        except (TypeError, ValueError):
            continue  # texts and dates have no shade
        kept.append(str(name))
    if not kept:
        raise QueryError(f"{answer.key}: {', '.join(answer.columns[:6])} hold no numbers, so there is nothing to draw")
    return np.stack(columns, axis=1), kept


def _first(n: int, most: int, what: str) -> str:
    return f", the first {most} of {n:,} {what}" if n > most else ""
