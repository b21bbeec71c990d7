"""The picture of a distribution: an outline for each group."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import GREYS, HATCHES, LINES, axes_of, title
from mistique.queries import ColDist

_MAX_GROUPS = 6
_LINE_GREYS = ("0", "0.35", "0.5", "0.1", "0.6", "0.25")


def draw_histogram(answer: ColDist, ax: Any = None) -> Any:
    """Counts by bin; with several groups, the share of each group's values, so that small groups can be compared."""
    ax = axes_of(ax)
    counts = answer.values[:_MAX_GROUPS].astype(float)
    is_grouped = bool(answer.by)
    heights = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) if is_grouped else counts
    for i, (group, height) in enumerate(zip(answer.rows, heights, strict=False)):
        label = f"{answer.by} = {group}" if is_grouped else None
        if answer.edges is not None:
            ax.stairs(
                height,
                answer.edges,
                fill=not is_grouped,
                color=_LINE_GREYS[i % len(_LINE_GREYS)] if is_grouped else GREYS[1],
                linestyle=LINES[i % len(LINES)],
                linewidth=1.6,
                label=label,
            )
        else:
            width = 0.8 / len(heights)
            ax.bar(
                np.arange(len(height)) + i * width,
                height,
                width,
                color=GREYS[i % len(GREYS)],
                hatch=HATCHES[i % len(HATCHES)],
                edgecolor="0.2",
                label=label,
            )
    if answer.edges is None:
        ax.set_xticks(np.arange(len(answer.columns)) + 0.4, answer.columns, rotation=45, ha="right")
    ax.set_xlabel(answer.name)
    ax.set_ylabel("share of the group's values" if is_grouped else "values")
    if is_grouped:
        ax.legend(fontsize=8, frameon=False)
    hidden = len(answer.rows) - len(heights)
    more = f" (the first {_MAX_GROUPS} of {len(answer.rows)} groups)" if hidden > 0 else ""
    title(ax, f"Distribution of {answer.name}{f' by {answer.by}' if is_grouped else ''}{more}", answer.key)
    return ax
