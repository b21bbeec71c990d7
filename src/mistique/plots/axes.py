"""What every picture shares: its axes, its greys, its title."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt

# Told apart in grey print too: each group has a line style or a hatch of its own beside its grey.
GREYS = ("0.25", "0.55", "0.75", "0.4", "0.65", "0.85")
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
LINES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))


def axes_of(ax: Any, *, width: float = 7.0, height: float = 4.0) -> Any:
    """The axes to draw on: those given, or those of a new figure."""
    if ax is not None:
        return ax
    _, new = plt.subplots(figsize=(width, height), layout="constrained")
    return new


def title(ax: Any, asked: str, of: str) -> None:
    """What was asked, of which model, over which data."""
    ax.set_title(f"{fill(asked, 70)}\n{fill(of, 80)}", fontsize=10, loc="left", parse_math=False)
