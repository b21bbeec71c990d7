"""Runs the stages of a fitted model over all rows, each when it is asked for; the user's estimators are left alone."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from mistique.schema import INPUT
from mistique.sklearn.stages import Stage
from mistique.sklearn.undisturbed import Attempt, attempt, copy_rows


class Running:
    """Values of a model's stages, computed from those of their parents.

    Parameters
    ----------
    X : container
        The input, or what goes into the first of the stages. It is copied before anything runs on it.
    stages : iterable of Stage
        All that may be run, each after its parent.
    is_quiet : callable
        Whether a stage leaves no trace in its estimator. Of others a copy runs.
    start : str, default "input"
        What `X` is.
    """

    def __init__(
        self, X: Any, stages: Iterable[Stage], is_quiet: Callable[[Stage], bool], *, start: str = INPUT
    ) -> None:
        self._stages = {stage.name: stage for stage in stages}
        self._is_quiet = is_quiet
        self._start = start
        self._done: dict[str, Attempt[tuple[Any, float]]] = {start: Attempt((X, 0.0))}
        self.failed: Stage | None = None

    def run(self, stage: Stage) -> Attempt[tuple[Any, float]]:
        """What a stage gives for all rows, and the seconds that it took; run once."""
        if stage.name in self._done:
            return self._done[stage.name]
        parent = self._stages.get(stage.parent)
        before = self._done[self._start] if parent is None else self.run(parent)
        if before.value is None:
            self._done[stage.name] = before
            return before
        rows, _ = before.value
        done = self._done[stage.name] = attempt(partial(self._run, stage, rows))
        if done.error is not None and self.failed is None:
            self.failed = stage
        return done

    def given(self, stage: Stage) -> Any:
        """What went into a stage that was run."""
        found = self._done.get(stage.parent, self._done[self._start]).value
        return None if found is None else found[0]

    def forget(self, name: str) -> None:
        """Let go of a stage's values: they are not needed for now, and can be computed again."""
        if name != self._start:
            self._done.pop(name, None)

    def _run(self, stage: Stage, rows: Any) -> tuple[Any, float]:
        runner = stage
        if stage.method and not self._is_quiet(stage):
            # A copy runs, so that the user's estimator draws no random number and counts no call; one that cannot be
            # copied runs itself.
            private = attempt(partial(copy.deepcopy, stage.estimator))
            runner = stage if private.error is not None else stage.with_estimator(private.value)
        # A copy at 8 GB/s: a stage may change in place what others begin with, too.
        given = copy_rows(rows) if stage.method else rows
        started = time.perf_counter()
        value = runner.run(given)
        return value, time.perf_counter() - started
