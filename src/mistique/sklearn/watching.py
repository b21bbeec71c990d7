"""What the stages inside of a composite give while it is fitted: reported by its own parts, put back afterwards.

A nested pipeline reports through its memory, as the outer one does; the wrapper follows `clone`, which a
ColumnTransformer calls on its branches. A ColumnTransformer or FeatureUnion hands the outputs of its branches to its
own ``_hstack``, before they become one container; where it is itself a branch, or the last step of one, a clone of it
is fitted, so its clones are watched as well. What runs in another process, or is found in a cache, reports nothing:
`mistique.sklearn.recording` then runs again what can be vouched for.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_memory

from mistique.schema import join_path
from mistique.sklearn.branches import branches_of
from mistique.sklearn.undisturbed import attempt, copy_rows

# What a stage gave, and the seconds that it took, where they are known.
Seen = dict[str, tuple[Any, float | None]]


class ReportingMemory:
    """The memory of a pipeline, reporting each transformer that is fitted through it or found in it.

    Parameters
    ----------
    memory : object
        With the interface of ``joblib.Memory``.
    before : callable
        Called with what goes into a transformer.
    after : callable
        Called with what it gave, the fitted transformer, and the seconds.
    around : callable
        A context manager for the time that a transformer is fitted.
    original : object
        What the pipeline had.
    begin : callable, optional
        Called when a fit of the pipeline begins.
    """

    def __init__(
        self,
        memory: Any,
        *,
        before: Callable[[Any], None],
        after: Callable[..., None],
        around: Callable[[Any], Any],
        original: Any,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._memory, self._before, self._after, self._around = memory, before, after, around
        self.original, self._begin = original, begin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return copy.copy, (self.original,)

    def __deepcopy__(self, memo: dict[int, Any]) -> ReportingMemory:
        return self

    def cache(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The function that the memory makes of one, with a report after each call."""
        self._begin()
        cached = self._memory.cache(function, **options)

        def reporting(transformer: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
            self._before(X)
            started = time.perf_counter()
            with self._around(transformer):
                given = cached(transformer, X, *args, **kwargs)
            self._after(*given, seconds=time.perf_counter() - started)
            return given

        return reporting


class _InPlaceOf:
    """What is called in place of a method of an estimator; to another process goes the method itself."""

    def __init__(self, estimator: Any, name: str, call: Callable[..., Any]) -> None:
        self._estimator, self._name, self._call = estimator, name, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._estimator, self._name)


def _uncover(estimator: Any) -> None:
    for name in ("_hstack", "__sklearn_clone__"):
        vars(estimator).pop(name, None)


def is_caching(memory: Any) -> bool:
    """It may find a fitted transformer rather than fit one."""
    return not hasattr(memory, "location") or memory.location is not None


@contextmanager
def watched(estimator: Any, path: str, seen: Seen) -> Iterator[None]:
    """Within it, what is inside of a transformer or a nested pipeline adds to `seen` what it gives when it is fitted.

    Parameters
    ----------
    estimator : object
        The very one that is fitted.
    path : str
        Its name.
    seen : dict
    """
    undo: list[Callable[[], None]] = []
    attempt(lambda: _watch(estimator, path, seen, undo))
    try:
        yield
    finally:
        for put_back in undo:
            put_back()
        _restore(estimator)


def _watch(estimator: Any, path: str, seen: Seen, undo: list[Callable[[], None]]) -> None:
    if isinstance(estimator, Pipeline):
        _watch_pipeline(estimator, path, seen, undo)
    elif isinstance(estimator, (ColumnTransformer, FeatureUnion)) and "_hstack" not in vars(estimator):
        stack, cloned = estimator._hstack, estimator.__sklearn_clone__

        def reporting(outputs: Any, **options: Any) -> Any:
            branches = attempt(lambda: branches_of(estimator)).value or ()
            if len(branches) == len(outputs):
                for branch, output in zip(branches, outputs, strict=True):
                    seen[f"{path}/{join_path(branch.name)}"] = copy_rows(output), None
            return stack(outputs, **options)

        def cloning() -> Any:
            clone = cloned()
            attempt(lambda: _watch(clone, path, seen, undo))
            return clone

        for name, method in (("_hstack", reporting), ("__sklearn_clone__", cloning)):
            setattr(estimator, name, _InPlaceOf(estimator, name, method))
        undo.append(lambda: _uncover(estimator))
        listed = estimator.transformers if isinstance(estimator, ColumnTransformer) else estimator.transformer_list
        for name, branch, *_ in listed:
            _watch(branch, f"{path}/{join_path(name)}", seen, undo)


def _watch_pipeline(pipeline: Pipeline, path: str, seen: Seen, undo: list[Callable[[], None]]) -> None:
    original = pipeline.memory
    if isinstance(original, ReportingMemory) or hasattr(pipeline, "_capture_settings"):
        return  # it is being watched, or captures itself
    memory = check_memory(original)
    steps = [step for step in pipeline.steps[:-1] if step[1] is not None and not isinstance(step[1], str)]
    waiting: list[str] = []

    def begin() -> None:
        waiting[:] = [f"{path}/{join_path(name)}" for name, _ in steps]

    def after(Xt: Any, *_: Any, seconds: float) -> None:
        seen[waiting.pop(0)] = copy_rows(Xt), seconds

    @contextmanager
    def around(transformer: Any) -> Iterator[None]:
        if is_caching(memory):  # it looks at all that the transformer holds
            yield
        else:
            with watched(transformer, waiting[0], seen):
                yield

    pipeline.memory = ReportingMemory(
        memory, before=lambda X: None, after=after, around=around, original=original, begin=begin
    )
    undo.append(lambda: setattr(pipeline, "memory", original))
    _watch(pipeline.steps[-1][1], f"{path}/{join_path(pipeline.steps[-1][0])}", seen, undo)


def _restore(estimator: Any) -> None:
    """Give back to what was cloned, or came from another process, inside of an estimator its memory and methods."""
    if isinstance(estimator, Pipeline):
        if isinstance(estimator.memory, ReportingMemory):
            estimator.memory = estimator.memory.original
        parts = [step for _, step in estimator.steps]
    elif isinstance(estimator, ColumnTransformer):
        _uncover(estimator)
        parts = [part for _, part, *_ in (*estimator.transformers, *getattr(estimator, "transformers_", ()))]
    elif isinstance(estimator, FeatureUnion):
        _uncover(estimator)
        parts = [part for _, part in estimator.transformer_list]
    else:
        return
    for part in parts:
        _restore(part)
