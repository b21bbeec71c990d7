"""The run in the middle of which a capture begins: a network that a pipeline fits belongs to the pipeline's version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_around: ContextVar[tuple[tuple[str, str, str], ...]] = ContextVar("_around", default=())


@contextmanager
def as_run_around(uri: str, model: str, run_id: str) -> Iterator[None]:
    """Within it, captures of that model in that store may join this run.

    Parameters
    ----------
    uri : str
        Of the store.
    model, run_id : str
    """
    token = _around.set((*_around.get(), (uri, model, run_id)))
    try:
        yield
    finally:
        _around.reset(token)


def run_around(uri: str, model: str) -> str | None:
    """The run of that model in that store, in the middle of which this is; None: there is none.

    Examples
    --------
    >>> with as_run_around("s.mistique", "homes/net", "ab12"):
    ...     run_around("s.mistique", "homes/net"), run_around("s.mistique", "homes/other")
    ('ab12', None)
    """
    return next((run for *of, run in reversed(_around.get()) if of == [uri, model]), None)
