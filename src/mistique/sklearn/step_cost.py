"""What a step takes for a call and for a row, told apart from what was seen of it while it was captured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# A fit may take a hundred times what running the step takes (k-means, medians). Where the time of the two together is
# so many times that of a few rows, more rows are worth a look: 2 to 10 ms of a step that took as long at least.
_FIT_MAY_COUNT, _MIN_SECONDS = 4.0, 5e-3
MORE_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Timed:
    """A run of a step: so many rows took so many seconds."""

    n_rows: int
    seconds: float


def needs_more(few: Timed | None, whole: Timed | None, n_rows: int) -> bool:
    """Whether a run of some more rows would tell what the step takes: `whole` has its fit in it, or is not known."""
    if few is None or n_rows < 2 * MORE_ROWS:
        return False
    return whole is None or whole.seconds > max(_FIT_MAY_COUNT * few.seconds, _MIN_SECONDS)


def step_cost(few: Timed | None, *others: Timed | None) -> tuple[float, float]:
    """Seconds of a call of a step, and of each row in it.

    Parameters
    ----------
    few : Timed, optional
        A run of a few rows, which is the call for the most part.
    *others : Timed, optional
        Runs of more rows. Each may have something else in it, a fit or a pause, so that the least counts.

    Examples
    --------
    >>> call, row = step_cost(Timed(64, 0.00264), Timed(60_000, 3.5), Timed(2048, 0.02248))
    >>> round(call, 6), round(row, 8)
    (0.002, 1e-05)
    """
    longer = [one for one in others if one is not None and (few is None or one.n_rows > few.n_rows)]
    if few is None:
        return 0.0, min((one.seconds / max(one.n_rows, 1) for one in longer), default=0.0)
    if not longer:
        return 0.0, few.seconds / max(few.n_rows, 1)
    row = max(min((one.seconds - few.seconds) / (one.n_rows - few.n_rows) for one in longer), 0.0)
    return max(min(one.seconds - row * one.n_rows for one in (few, *longer)), 0.0), row


def repeated_rows(value: Any, n_rows: int, times: int) -> Any:
    """Rows of a container, of which there are so many, over and over: something to time a step by."""
    rows = np.tile(np.arange(n_rows), times)
    if hasattr(value, "iloc"):
        return value.iloc[rows].reset_index(drop=True)
    return value[rows]
