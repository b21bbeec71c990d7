"""What each thread keeps for itself from chunk to chunk: contexts of zstd, and room for a kernel to write to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

_made = threading.local()
T = TypeVar("T")


def scratch(name: str, size: int, dtype: Any) -> np.ndarray:
    """An array of this thread, reused: a fresh one of a quarter megabyte costs a page fault for each 4 KiB."""
    found = of_thread(("scratch", name), lambda: np.empty(0, dtype))
    if found.size < size:
        found = np.empty(size, dtype)
        _kept()["scratch", name] = found
    return found[:size]


def of_thread(key: Any, make: Callable[[], T]) -> T:
    """What this thread has under a key, made when it asks first."""
    known = _kept()
    if key not in known:
        known[key] = make()
    made: T = known[key]
    return made


def _kept() -> dict[Any, Any]:
    if not hasattr(_made, "kept"):
        _made.kept = {}
    kept: dict[Any, Any] = _made.kept
    return kept
