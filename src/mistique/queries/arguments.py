"""Numbers that a person gives: thresholds and shares."""

from __future__ import annotations

from math import isfinite
from typing import Any

from mistique.errors import QueryError


def check_number(name: str, given: Any, *, over: float | None = None, up_to: float | None = None) -> None:
    """Refuse what is no finite number, or lies outside its range.

    Parameters
    ----------
    name : str
        Of the argument.
    given : object
    over, up_to : float, optional
        It has to be larger than the first, and no larger than the second.

    Raises
    ------
    QueryError

    Examples
    --------
    >>> check_number("threshold", 0.5, over=0, up_to=1)
    >>> check_number("threshold", 2, over=0, up_to=1)
    Traceback (most recent call last):
    ...
    mistique.errors.QueryError: threshold: expected a number over 0 and up to 1, got 2
    """
    is_number = hasattr(given, "__float__") and not isinstance(given, bool) and getattr(given, "ndim", 0) == 0
    if is_number and isfinite(given) and (over is None or given > over) and (up_to is None or given <= up_to):
        return
    limits = [f"{word} {end:g}" for word, end in (("over", over), ("up to", up_to)) if end is not None]
    raise QueryError(f"{name}: expected a number{' ' if limits else ''}{' and '.join(limits)}, got {given!r}")
