"""The picture of canonical correlations: a line that falls from what two layers share to what they do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.plots.axes import axes_of, title
from mistique.queries import Svcca


def draw_correlations(answer: Svcca, ax: Any = None) -> Any:
    """The correlations in order, their mean, and what the mean of unrelated layers would be."""
    ax = axes_of(ax)
    places = np.arange(1, len(answer.values) + 1)
    ax.plot(places, answer.values, color="0.1", linewidth=1.8, marker="." if len(places) <= 40 else None)
    ax.axhline(answer.coefficient, color="0.35", linestyle="--", label=f"mean {answer.coefficient:.3f}")
    ax.axhline(
        answer.chance, color="0.6", linestyle=":", label=f"layers with nothing in common, about {answer.chance:.2f}"
    )
    ax.set_ylim(0, 1.03)
    ax.set_xlim(0.5, len(places) + 0.5)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("canonical direction")
    ax.set_ylabel("correlation")
    ax.legend(fontsize=8, frameon=False, loc="center left")
    title(
        ax, f"SVCCA, {answer.variance:.3g} of the variance, {answer.n_rows:,} rows", f"{answer.key} and {answer.other}"
    )
    return ax
