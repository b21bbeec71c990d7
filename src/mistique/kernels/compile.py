"""The one decorator that holds every Numba option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(*signatures: str) -> Callable[[F], F]:
    """Compile a function ahead of its first call, without the GIL.

    Parameters
    ----------
    *signatures : str
        Types as Numba spells them, one for each kind of cells. Eager, so that no capture pays for compilation twice and a wrong dtype is an error.

    Notes
    -----
    ``fastmath`` is never set: it gives wrong answers for NaN and inf. ``cache=True`` raises at import when neither the
    package folder nor the user's cache can be written (Numba 0.68.1), so the kernel is then compiled without a cache.
    """

    def decorate(function: F) -> F:
        try:
            compiled: F = numba.njit(list(signatures), nogil=True, cache=True)(function)
        except RuntimeError:
            compiled = numba.njit(list(signatures), nogil=True)(function)
        return compiled

    return decorate
