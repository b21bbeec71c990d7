"""Products taken on our own threads, each by one thread of BLAS.

Threads of BLAS that wait for their next product spin, and take the cores from those that decode: beside them CKA took
two and a half times the processor time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()
_limited: list[Any] = []
_n_within = 0


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within it NumPy's BLAS takes one thread for each product, of the whole process.

    BLAS stays as it is where threadpoolctl is not installed: it comes with scikit-learn.
    """
    global _n_within
    controller = _controller()
    if controller is None:
        yield
        return
    with _lock:
        _n_within += 1
        if not _limited:
            _limited.append(controller.limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        # Of several at once the last gives back what the first found.
        with _lock:
            _n_within -= 1
            if not _n_within:
                _limited.pop().restore_original_limits()


@cache
def _controller() -> Any:
    """Of the libraries that are loaded now, NumPy's among them: to look for them takes 10 ms."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
