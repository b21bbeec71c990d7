"""Background threads that encode and write beside the model, within a bound of memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from typing import Any, TypeVar

R = TypeVar("R")
_MAX_THREADS = 4


class Workers:
    """Runs tasks on threads; whoever brings one waits while too many bytes are on their way.

    Parameters
    ----------
    max_nbytes : int
        Of values that wait to be encoded and payloads that wait to be written. One task that is larger is let through
        when nothing else is on its way.

    Notes
    -----
    Kernels, zstd and TileDB let go of the GIL, so the model runs on meanwhile. The first error of a task is raised
    again by the next `submit` or by `drain`, on the thread of the model.
    """

    def __init__(self, max_nbytes: int) -> None:
        self._max_nbytes = max_nbytes
        self._changed = Condition()
        self._nbytes = 0
        self._n_tasks = 0
        self._error: BaseException | None = None
        self._pool: ThreadPoolExecutor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes on their way."""
        return self._nbytes

    @property
    def is_full(self) -> bool:
        """More than half of the bound is taken: what was encoded should be written."""
        return self._nbytes > self._max_nbytes // 2

    def submit(self, task: Callable[[], int], *, n_bytes: int) -> None:
        """Run a task some time; it gives the bytes that it leaves behind, of the `n_bytes` that it was brought.

        Raises
        ------
        BaseException
            What an earlier task raised.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._error is not None or not self._n_tasks or self._nbytes + n_bytes <= self._max_nbytes
            )
            self._raise()
            self._nbytes += n_bytes
            self._n_tasks += 1
        self._threads().submit(self._run, task, n_bytes)

    def map(self, function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        """Results for all items, in order; for work that the caller waits for."""
        if len(items) < 2:
            return [function(item) for item in items]
        futures = [self.start(function, item) for item in items]
        return [future.result() for future in futures]

    def start(self, function: Callable[..., R], *items: Any) -> Future[R]:
        """A result that is worked out meanwhile, and that the caller asks for; its memory is the caller's to bound."""
        return self._threads().submit(function, *items)

    def release(self, n_bytes: int) -> None:
        """Say that so many bytes were written."""
        with self._changed:
            self._nbytes -= n_bytes
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait for all tasks.

        Raises
        ------
        BaseException
            What a task raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._n_tasks)
            self._raise()

    def close(self) -> None:
        """Wait for all tasks, whatever they raise, and end the threads."""
        with self._changed:
            self._changed.wait_for(lambda: not self._n_tasks)
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            # Two at least: one may wait for what it gave to the other.
            self._pool = ThreadPoolExecutor(max(2, min(os.cpu_count() or 1, _MAX_THREADS)), "mistique")
        return self._pool

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self, task: Callable[[], int], n_bytes: int) -> None:
        left, error = 0, None
        try:
            if self._error is None:
                left = task()
        except BaseException as raised:  # noqa: BLE001 - handed to the thread of the model, which raises it
            error = raised
        with self._changed:
            self._error = self._error or error
            self._nbytes -= n_bytes - left
            self._n_tasks -= 1
            self._changed.notify_all()
