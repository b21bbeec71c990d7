"""Pictures of tables of numbers as greys: the mean of every unit by group."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import axes_of, title
from mistique.queries import ClassMeans

_MAX_NAMED = 40


def draw_class_means(answer: ClassMeans, ax: Any = None) -> Any:
    """A line of greys for each group. Columns of a table, each of its own scale, are drawn relative to their spread."""
    means = answer.values
    is_table = answer.what == "column" and not answer.columns[0].split(" ")[0].isdigit()
    shade = "mean"
    if is_table:
        spread = np.nanmax(means, axis=0) - np.nanmin(means, axis=0)
        means = (means - np.nanmin(means, axis=0)) / np.where(spread > 0, spread, 1.0)
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
