"""The picture of two rows compared: both values of each column, joined by a line."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.transforms import ScaledTranslation

from mistique.plots.axes import axes_of, title
from mistique.queries import RowDiff
from mistique.queries.answer import format_value

_MAX_COLUMNS = 20
_SAME_SCALE = 1000  # the largest number over the smallest


def draw_row_diff(answer: RowDiff, ax: Any = None) -> Any:
    """The columns that differ most, the first row as a ring and the second as a dot.

    Rooms and square feet have no scale in common: columns that are so far apart are drawn relative to the larger of
    their two values, which stand beside their names.
    """
    shown = answer.values[:_MAX_COLUMNS, :2]
    names = [str(name) for name in answer.rows[:_MAX_COLUMNS]]
    ax = axes_of(ax, width=8.5, height=0.26 * len(shown) + 1.8)
    sizes = np.abs(shown[np.isfinite(shown) & (shown != 0)])
    if len(sizes) and sizes.max() > _SAME_SCALE * sizes.min():
        pairs = zip(names, shown, strict=True)
        names = [f"{name}: {format_value(a)}, {format_value(b)}" for name, (a, b) in pairs]
        with np.errstate(invalid="ignore"):
            larger = np.nanmax(np.abs(np.nan_to_num(shown)), axis=1, keepdims=True)
            shown = shown / np.where(larger > 0, larger, 1.0)
        ax.set_xlabel("value, relative to the larger of the two")
    else:
        ax.set_xlabel("value")
    places = np.arange(len(shown))[::-1]
    ax.hlines(places, shown[:, 0], shown[:, 1], color="0.6", linewidth=1.5, zorder=1)
    for side, face in ((0, "white"), (1, "0.15")):
        ax.scatter(shown[:, side], places, s=32, color=face, edgecolor="0.15", zorder=2, label=answer.columns[side])
    ax.set_yticks(places, names, fontsize=8)
    if names and names[0].isdigit():
        ax.set_ylabel("unit")
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    # Below the name of the axis, however high the axes are.
    below = ax.transAxes + ScaledTranslation(0, -0.4, ax.figure.dpi_scale_trans)
    ax.legend(fontsize=8, frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=below)
    of = answer.key if answer.other == answer.key else f"{answer.key} and {answer.other}"
    more = f" (the {len(shown)} of {len(answer.rows):,} that differ most)" if len(answer.rows) > len(shown) else ""
    title(ax, f"Columns in which {answer.columns[0]} and {answer.columns[1]} differ{more}", of)
    return ax
