"""Long work shows how far it is: on a terminal, once it has taken a second, and never where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

_SILENT_SECONDS = 1.0
# Held by whoever shows a bar: what runs within it is part of its work, and a terminal has room for one.
_ONE = Lock()

Item = TypeVar("Item")


def tracked(items: Iterable[Item], what: str, *, total: int) -> Iterator[Item]:
    """The items as they come, with a bar on stderr if they take longer than a second and stderr is a terminal.

    An interrupt (Ctrl-C) or an error passes through, and the bar is taken away. Work within the loop may track its own
    items: they show nothing.

    Parameters
    ----------
    items : iterable
    what : str
        What is done with them, for a person.
    total : int
        How many there are.

    Examples
    --------
    >>> sum(tracked([1, 2, 3], "adding", total=3))
    6
    """
    if not sys.stderr.isatty() or not _ONE.acquire(blocking=False):
        yield from items
        return
    started, bar, task = time.monotonic(), None, None
    try:
        for n_done, item in enumerate(items):
            if bar is None and time.monotonic() - started > _SILENT_SECONDS:
                bar = _bar()
                bar.start()
                task = bar.add_task(_plain(what), total=total, completed=n_done)
            yield item
            if bar is not None:
                bar.update(task, completed=n_done + 1)
    finally:
        if bar is not None:
            bar.stop()
        _ONE.release()


@contextmanager
def quiet() -> Iterator[None]:
    """No bars within: somebody else says how far it is."""
    is_first = _ONE.acquire(blocking=False)
    try:
        yield
    finally:
        if is_first:
            _ONE.release()


def _bar() -> Any:
    # rich takes 0.1 s to import, which a quick answer need not wait for.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _plain(text: str) -> str:
    """Text in which brackets mean nothing to rich."""
    from rich.markup import escape

    return escape(text)
