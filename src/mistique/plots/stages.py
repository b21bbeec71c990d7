"""The picture of a trace: how far apart two rows are at each stage, or what one row is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import GREYS, HATCHES, axes_of, title
from mistique.queries import Trace


def draw_trace(answer: Trace, ax: Any = None) -> Any:
    """A bar a stage: of two sides their relative distance, of one the root mean square of its numbers."""
    stages = answer.stages
    ax = axes_of(ax, width=8.0, height=0.4 * len(stages) + 1.6)
    places = np.arange(len(stages))[::-1]
    if answer.is_beside:
        lengths = [stage.relative_distance for stage in stages]
        ax.set_xlabel("distance over the larger of the two lengths")
        asked = (
            f"How far apart by stage: {f'they part at {answer.parted_at}' if answer.parted_at else 'they do not part'}"
        )
    else:
        lengths = [_root_mean_square(stage.values[:, 0]) for stage in stages]
        ax.set_xlabel("root mean square of its numbers")
        asked = "One row by stage"
        if max(lengths, default=0.0) > 100 * min((length for length in lengths if length), default=1.0):
            ax.set_xscale("log")
    for place, stage, length in zip(places, stages, lengths, strict=True):
        parts = bool(stage.parts.any())
        ax.barh(place, length, 0.7, color=GREYS[2 if parts else 5], hatch=HATCHES[0 if parts else 1], edgecolor="0.2")
        if answer.is_beside:
            note = f" {int(stage.parts.sum()):,} of {len(stage.columns):,} part"
            ax.annotate(note, (length, place), va="center", fontsize=8)
    ax.set_yticks(places, [stage.name for stage in stages], fontsize=8, parse_math=False)
    ax.margins(x=0.25 if answer.is_beside else 0.05)
    title(ax, asked, f"{answer.key}{f' beside {answer.other}' if answer.is_beside else ''}")
    return ax


def _root_mean_square(values: np.ndarray) -> float:
    numbers = np.array([float(v) for v in values if isinstance(v, (bool, int, float, np.number, np.bool_))])
    numbers = numbers[np.isfinite(numbers)]
    return float(np.sqrt((numbers**2).mean())) if len(numbers) else 0.0
