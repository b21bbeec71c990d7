"""The picture of slices: the error of each with its uncertainty, against that of all rows."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np

from mistique.plots.axes import GREYS, HATCHES, axes_of, title
from mistique.queries import Slices

# Of a normal distribution: 95 in 100 means lie within so many standard errors.
_WIDTH = 1.96


def draw_slices(answer: Slices, ax: Any = None) -> Any:
    """A bar for each slice, worst at the top, with a 95% interval; a line at the error of all rows."""
    ax = axes_of(ax, width=8.0, height=0.5 * max(len(answer), 1) + 1.6)
    places = np.arange(len(answer))[::-1]
    is_found = answer.values[:, 4] < answer.alpha
    for found, label in ((True, f"p below {answer.alpha:g}"), (False, "may be chance")):
        of = is_found == found
        if of.any():
            ax.barh(
                places[of],
                answer.values[of, 1],
                0.7,
                xerr=_WIDTH * np.nan_to_num(answer.standard_errors[of]),
                color=GREYS[2] if found else GREYS[5],
                hatch=HATCHES[0] if found else HATCHES[1],
                edgecolor="0.2",
                error_kw={"ecolor": "0", "capsize": 3, "linewidth": 1},
                label=label,
            )
    ax.axvline(answer.overall, color="0", linestyle="--", linewidth=1, label="all rows")
    names = [
        "\n".join([*(fill(f"{name} {group}", 46) for name, group in condition), f"({int(n):,} rows)"])
        for condition, n in zip(answer.conditions, answer.values[:, 0], strict=True)
    ]
    ax.set_yticks(places, names, fontsize=7, parse_math=False)
    ax.xaxis.set_major_formatter("{x:,.4g}" if np.nanmax(answer.values[:, 1], initial=0) < 1000 else "{x:,.0f}")
    ax.set_xlabel(f"mean {answer.measure}, with its 95% interval", parse_math=False)
    ax.legend(fontsize=8, frameon=True, loc="lower right")
    title(ax, f"Slices with the largest {answer.measure}", answer.key)
    return ax
