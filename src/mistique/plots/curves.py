"""Pictures over the epochs: a line for each layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import GREYS, HATCHES, LINES, axes_of, title
from mistique.queries import DeadUnits, Epochs

MARKERS = ("o", "s", "^", "D", "v", "x")
_DARK = ("0", "0.35", "0.5", "0.2", "0.6", "0.45")
_MAX_LINES = 12


def draw_lines(ax: Any, ticks: list[str], lines: dict[str, np.ndarray]) -> None:
    """Lines over ticks that they share, each with its own grey, dashes and marker; NaN leaves a gap."""
    for i, (name, heights) in enumerate(list(lines.items())[:_MAX_LINES]):
        ax.plot(
            np.arange(len(ticks)),
            heights,
            color=_DARK[i % len(_DARK)],
            linestyle=LINES[i % len(LINES)],
            marker=MARKERS[(i + i // len(MARKERS)) % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            label=name,
        )
    step = -(-len(ticks) // 20)
    ax.set_xticks(np.arange(len(ticks))[::step], ticks[::step], fontsize=8, parse_math=False)
    for text in ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)).get_texts():
        text.set_parse_math(False)


def draw_dead_units(answer: DeadUnits, ax: Any = None) -> Any:
    """The share of each layer's units that never fire: over the versions; of one version, a bar a layer."""
    versions = list(dict.fromkeys(answer.versions.tolist()))
    layers = list(dict.fromkeys(answer.layers.tolist()))
    never, always = answer.values[:, 1] / answer.values[:, 0], answer.values[:, 2] / answer.values[:, 0]
    if len(versions) > 1:
        ax = axes_of(ax, width=8.0)
        lines = {}
        for layer in layers[:_MAX_LINES]:
            found = {answer.versions[i]: never[i] for i in np.flatnonzero(answer.layers == layer)}
            lines[layer] = np.array([found.get(version, np.nan) for version in versions])
        draw_lines(ax, versions, lines)
        ax.set_xlabel("version")
        ax.set_ylabel("share of its units that never fire")
        ax.set_ylim(bottom=0)
        hidden = f" (the first {_MAX_LINES} of {len(layers)} layers)" if len(layers) > _MAX_LINES else ""
        title(ax, f"Units that never fire, by layer and version{hidden}", answer.key)
        return ax
    ax = axes_of(ax, height=0.4 * len(layers) + 1.6)
    places = np.arange(len(layers))[::-1]
    for i, (shares, label) in enumerate(((never, "never fire"), (always, "always fire"))):
        ax.barh(places + 0.2 - 0.4 * i, shares, 0.4, color=GREYS[2 * i], hatch=HATCHES[i], edgecolor="0.2", label=label)
    ax.set_yticks(places, layers, fontsize=8, parse_math=False)
    ax.set_xlim(0, max(float(max(never.max(), always.max())) * 1.1, 0.01))
    ax.set_xlabel("share of its units")
    ax.legend(fontsize=8, frameon=False)
    title(ax, f"Units that never or always fire, version {versions[0]}", answer.key)
    return ax


def draw_epochs(answer: Epochs, ax: Any = None) -> Any:
    """A line for each layer: how alike each epoch is to the last."""
    ax = axes_of(ax, width=8.0)
    draw_lines(
        ax, list(answer.columns), {str(layer): row for layer, row in zip(answer.rows, answer.values, strict=True)}
    )
    ax.axhline(answer.threshold, color="0.5", linewidth=0.8, linestyle=":")
    lowest = float(np.nanmin(answer.values, initial=1.0))
    ax.set_ylim(lowest - 0.05 * (1.0 - lowest) - 0.01, 1.0 + 0.05 * (1.0 - lowest) + 0.01)
    ax.set_xlabel("version")
    ax.set_ylabel(f"similarity to {answer.columns[-1]} ({answer.measure.upper()})")
    hidden = f" (the first {_MAX_LINES} of {len(answer)} layers)" if len(answer) > _MAX_LINES else ""
    title(ax, f"When each layer settled{hidden}", answer.key)
    return ax
