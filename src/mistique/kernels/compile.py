"""The one decorator that holds every Numba option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(*signatures: str, is_short: bool = False) -> Callable[[F], F]:
    """Compile a function ahead of its first call, without the GIL.

    Parameters
    ----------
    *signatures : str
        Types as Numba spells them, one for each kind of cells. Eager, so that no capture pays for compilation twice
        and a wrong dtype is an error.
    is_short : bool, default False
        It takes a few microseconds, and keeps the GIL: who gives it up for so little waits for other threads.

    Notes
    -----
    ``fastmath`` is never set: it gives wrong answers for NaN and inf. ``cache=True`` raises at import when neither the
    package folder nor the user's cache can be written (Numba 0.68.1), so the kernel is then compiled without a cache.
    """

    def decorate(function: F) -> F:
        try:
            compiled: F = numba.njit(list(signatures), nogil=not is_short, cache=True)(function)
        except RuntimeError:
            compiled = numba.njit(list(signatures), nogil=not is_short)(function)
        return compiled

    return decorate
