"""Planning without running: the plan of the first question that another question asks of an intermediate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mistique.planner.plan import Plan
from mistique.storage.captures import Capture
from mistique.storage.facts import CaptureId

_Asked = frozenset[tuple[CaptureId, str]]
_WANTED: ContextVar[_Asked] = ContextVar("wanted", default=frozenset())


class Planned(Exception):  # noqa: N818 - it is no error
    """What is asked for is the plan.

    Parameters
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(str(plan))
        self.plan = plan


@contextmanager
def only_planned(asked: Iterable[tuple[Capture, str]]) -> Iterator[None]:
    """Within it, the first question of one of these that is of more than one row is planned and not run.

    Raises
    ------
    Planned
        With its plan.
    """
    token = _WANTED.set(frozenset((capture.id, name) for capture, name in asked))
    try:
        yield
    finally:
        _WANTED.reset(token)


def stop_if_planned(capture: Capture, name: str, plan_of: Callable[[], Plan]) -> None:
    """Stop here if the plan alone is wanted.

    A single row is looked at, as a question may need it to know what it asks: the units that are largest in it.
    """
    if (capture.id, name) not in _WANTED.get():
        return
    plan = plan_of()
    if plan.n_rows > 1 or plan.of_rows == 1:
        raise Planned(plan)
