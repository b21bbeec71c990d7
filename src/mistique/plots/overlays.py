"""The picture of drift: two outlines a column, or how far each stage has drifted."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mistique.plots.axes import GREYS, HATCHES, LINES, axes_of, title
from mistique.queries import Drift
from mistique.queries.answer import format_value

_BINS, _MAX_TEXTS = 30, 12


def draw_drift(answer: Drift, ax: Any = None) -> Any:
    """Of one stage the columns that lie farthest apart, both samples overlaid; of several, a bar for each stage."""
    if len(answer.stage_names) > 1:
        return _draw_stages(answer, ax)
    numbers = list(answer._samples)
    if ax is not None:
        _draw_column(answer, numbers[0], ax)
        title(ax, _asked(answer, numbers[0]), f"{answer.key} against {answer.other}")
        return ax
    n_across = min(2, len(numbers))
    n_down = -(-len(numbers) // n_across)
    figure = plt.figure(figsize=(4.4 * n_across + 0.6, 2.9 * n_down + 0.7), layout="constrained")
    grid = figure.subplots(n_down, n_across, squeeze=False)
    figure.suptitle(f"Columns farthest apart\n{answer.key} against {answer.other}", fontsize=10, parse_math=False)
    for cell in grid.reshape(-1)[len(numbers) :]:
        cell.set_axis_off()
    for cell, number in zip(grid.reshape(-1), numbers, strict=False):
        _draw_column(answer, number, cell)
        cell.set_title(_asked(answer, number), fontsize=9, loc="left", parse_math=False)
    return grid


def _asked(answer: Drift, number: int) -> str:
    ks, psi = answer.values[number, :2]
    distances = f"psi {psi:.2g}" if np.isnan(ks) else f"ks {ks:.2g}, psi {psi:.2g}"
    return f"{format_value(answer.names[number])}: {distances}"


def _draw_column(answer: Drift, number: int, ax: Any) -> None:
    samples = answer._samples[number]
    labels = _sides(answer)
    if all(sample.dtype.kind in "iufbmM" for sample in samples):
        kept = [sample[np.isfinite(sample)] for sample in (s.astype(np.float64) for s in samples)]
        both = np.concatenate(kept)
        # Without the farthest 1 in 200: a single value would squeeze all others into one bin.
        low, high = np.quantile(both, [0.005, 0.995]) if len(both) else (0.0, 1.0)
        edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
        for i, (sample, label) in enumerate(zip(kept, labels, strict=True)):
            counts = np.histogram(np.clip(sample, edges[0], edges[-1]), edges)[0] / max(len(sample), 1)
            ax.stairs(
                counts,
                edges,
                fill=i == 0,
                color=GREYS[2] if i == 0 else "0",
                linestyle=LINES[i],
                linewidth=1.6,
                label=label,
            )
    else:
        texts = [np.array([str(value) for value in sample]) for sample in samples]
        names, totals = np.unique(np.concatenate(texts), return_counts=True)
        names = names[np.argsort(-totals, kind="stable")[:_MAX_TEXTS]]
        for i, (sample, label) in enumerate(zip(texts, labels, strict=True)):
            shares = [float((sample == name).mean()) for name in names]
            places = np.arange(len(names)) + 0.4 * i
            ax.bar(places, shares, 0.4, color=GREYS[2 * i], hatch=HATCHES[i], edgecolor="0.2", label=label)
        ticks = [format_value(name) for name in names]
        ax.set_xticks(np.arange(len(names)) + 0.2, ticks, rotation=45, ha="right", fontsize=7, parse_math=False)
    ax.set_ylabel("share of its rows", fontsize=8)
    ax.tick_params(labelsize=8)
    for text in ax.legend(fontsize=7, frameon=False).get_texts():
        text.set_parse_math(False)


def _doubt(answer: Drift, stage: str, number: int) -> str:
    """Said of a stage that only chance, or the errors of quantized values, may have moved."""
    is_far = bool((np.nan_to_num(answer.values[number, :2]) >= answer.threshold).any())
    return "\n(not certain)" if is_far and not answer.is_drifted[answer.stages == stage].any() else ""


def _sides(answer: Drift) -> list[str]:
    """What tells the two keys apart: the dataset where that differs, else the version."""
    parts = [(key.partition("@")[2].split("/"), key) for key in (answer.key, answer.other)]
    for place, what in ((1, ""), (0, "version ")):
        names = [f"{what}{part[place]}" for part, _ in parts]
        if names[0] != names[1]:
            return names
    return [key for _, key in parts]


def _draw_stages(answer: Drift, ax: Any) -> Any:
    stages = answer.stage_names
    ax = axes_of(ax, width=8.0, height=0.45 * len(stages) + 1.6)
    places = np.arange(len(stages))[::-1]
    worst = [answer.worst(stage) for stage in stages]
    for i, (column, name) in enumerate(((0, "ks"), (1, "psi"))):
        ax.barh(
            places + 0.2 - 0.4 * i,
            np.nan_to_num(answer.values[worst, column]),
            0.4,
            color=GREYS[2 * i],
            hatch=HATCHES[i],
            edgecolor="0.2",
            label=name,
        )
    ax.axvline(answer.threshold, color="0", linestyle="--", linewidth=1, label=f"{answer.threshold:g}: drifted")
    ticks = [
        f"{stage}\n{format_value(answer.names[number])}{_doubt(answer, stage, number)}"
        for stage, number in zip(stages, worst, strict=True)
    ]
    ax.set_yticks(places, ticks, fontsize=8, parse_math=False)
    ax.set_xlabel("distance of the column that lies farthest apart")
    ax.legend(fontsize=8, frameon=False)
    parted = f": they part at {answer.parted_at}" if answer.parted_at else ": they do not part"
    title(ax, f"Drift by stage{parted}", f"{answer.key} against {answer.other}")
    return ax
