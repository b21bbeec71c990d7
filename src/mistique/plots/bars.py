"""The picture of a comparison: two bars for each group."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import GREYS, HATCHES, axes_of, title
from mistique.queries import ColDiff


def draw_bars(answer: ColDiff, ax: Any = None) -> Any:
    """The mean measure of both sides by group, with how many rows each group has."""
    ax = axes_of(ax)
    places = np.arange(len(answer.rows))
    for side in (0, 1):
        ax.bar(
            places + 0.4 * side - 0.2,
            answer.values[:, 1 + side],
            0.4,
            color=GREYS[2 * side],
            hatch=HATCHES[side],
            edgecolor="0.2",
            label=answer.columns[1 + side],
        )
    ticks = [f"{group}\n({int(n):,} rows)" for group, n in zip(answer.rows, answer.values[:, 0], strict=True)]
    slanted = {"rotation": 60, "ha": "right"} if len(ticks) > 8 else {}
    ax.set_xticks(places, ticks, fontsize=8, **slanted)
    ax.set_xlabel(answer.by)
    ax.set_ylabel(f"mean {answer.measure}")
    ax.legend(fontsize=8, frameon=False)
    by = f" by {answer.by}" if answer.by else ""
    title(ax, f"Mean {answer.measure}{by}", f"{answer.key} against {answer.other}")
    return ax
