"""The picture of a dissection: the units that pick out a concept best, with their scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import GREYS, HATCHES, axes_of, title
from mistique.queries import NetDissect

_MAX_UNITS = 25


def draw_detectors(answer: NetDissect, ax: Any = None) -> Any:
    """A bar for each of the best units, in the grey and hatch of its concept."""
    best = answer.values.max(axis=1)
    order = np.lexsort((np.arange(len(best)), -best))[:_MAX_UNITS]
    concepts = answer.values[order].argmax(axis=1)
    ax = axes_of(ax, height=0.22 * len(order) + 1.6)
    places = np.arange(len(order))[::-1]
    distinct = list(dict.fromkeys(concepts.tolist()))
    for number, concept in enumerate(distinct):
        of = concepts == concept
        style = {"color": GREYS[number % len(GREYS)], "hatch": HATCHES[number % len(HATCHES)]}
        ax.barh(places[of], best[order[of]], edgecolor="0.2", label=answer.columns[concept], **style)
    names = [f"unit {unit}: {answer.columns[c]}" for unit, c in zip(answer.rows[order], concepts, strict=True)]
    ax.set_yticks(places, names, fontsize=8)
    ax.axvline(answer.min_iou, color="0.1", linestyle="--", linewidth=1, label=f"detectors: over {answer.min_iou:g}")
    ax.set_xlabel("intersection over union")
    ax.legend(fontsize=8, loc="lower right")
    n_detectors = len(answer.detectors)
    asked = f"{n_detectors} of {len(answer.rows)} units pick out a concept (top {answer.alpha:.2%} of their cells)"
    title(ax, asked, answer.key)
    return ax
