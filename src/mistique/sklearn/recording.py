"""One fit, while it runs: takes what each step gave and commits it, whatever happens without harm to the fit."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from sklearn.pipeline import Pipeline

from mistique.errors import CaptureError, CaptureWarning
from mistique.ingest.capture import Capture
from mistique.sklearn.stage_records import FEW_ROWS_DIFFER, CapturedRun, CaptureSettings, StageRecords
from mistique.sklearn.stages import Stage, stages_of
from mistique.sklearn.undisturbed import Attempt, attempt, copy_rows

# Not an attribute of the pipeline: callbacks and joblib copy and pickle a pipeline while it is fitted.
_running: ContextVar[FitRecording | None] = ContextVar("_running", default=None)


def recording_of(pipeline: Pipeline) -> FitRecording | None:
    """The recording of the fit that this pipeline is in the middle of; None: it is not captured."""
    recording = _running.get()
    return recording if recording is not None and recording.pipeline is pipeline else None


class FitRecording:
    """Captures one call of ``fit``, ``fit_transform`` or ``fit_predict``.

    A context manager around the call. When the fit raises, nothing is stored and the user's exception passes.
    When the capture fails, the fit goes on and one `CaptureWarning` says so, unless errors were asked for.

    Parameters
    ----------
    pipeline : Pipeline
    settings : CaptureSettings
    method : str
        What was called.
    is_plain : bool, default True
        With X and y alone.
    """

    def __init__(self, pipeline: Pipeline, settings: CaptureSettings, method: str, *, is_plain: bool = True) -> None:
        self.pipeline = pipeline
        self._settings = settings
        self._method = method
        self._is_plain = is_plain
        self._capture: Capture | None = None
        self._records: StageRecords | None = None
        self._stages: tuple[Stage, ...] = ()
        self._n_done = 0
        self._before_last: Attempt[Any] = Attempt(None)
        self._token: Token[FitRecording | None] | None = None
        self.run: CapturedRun | None = None

    def begin(self, X: Any, y: Any) -> None:
        """Take the input and the target, before any step can change them. Not yet with an observed memory."""

        def start() -> None:
            self._stages = stages_of(self.pipeline)
            self._capture = self._settings.start()
            is_plain = self._is_plain and self.pipeline.memory is None
            self._records = StageRecords(self._capture, self._settings, X, y, fit_is_plain=is_plain)

        self._guarded(start)

    def before_step(self, X: Any) -> None:
        """Take what the steps before an estimator passed on unchanged: `X` is about to go into that estimator."""
        while self._n_done < len(self._stages) and not self._stages[self._n_done].method:
            self._record(X, None, seconds=0.0)

    def after_step(self, Xt: Any, transformer: Any, *, seconds: float) -> None:
        """Take the output of a fitted transformer."""
        self._record(Xt, transformer, seconds=seconds)

    def before_last_step(self, Xt: Any) -> None:
        """Keep what goes into the last step: it is run again once fitted, and may change its input in place."""
        self.before_step(Xt)
        if self._records is None or self._n_done == len(self._stages):
            return
        # A copy runs at 8 GB/s, far faster than a fit or an encoding; none is taken when nothing more is to be run.
        if not self._gives(self._stages[self._n_done]):
            self._before_last = attempt(lambda: copy_rows(Xt))

    def finish(self, result: Any) -> None:
        """Take the output of the last step, and the model.

        Parameters
        ----------
        result : object
            What the fit method gave.
        """
        if self._records is None:
            return
        if self._n_done < len(self._stages):
            stage = self._stages[self._n_done]
            if self._gives(stage):
                self._record(result, stage.estimator, seconds=None)
            elif stage.method != "fit_predict":
                self._run_last(stage)
        self._guarded(lambda: self._records.keep_model(self.pipeline) if self._records else None)

    def _gives(self, last: Stage) -> bool:
        """The fit method itself gives the output of the last step."""
        if self._method == "fit_transform":
            return last.method == "transform"
        return self._method == "fit_predict" and last.role == "prediction"

    def _run_last(self, stage: Stage) -> None:
        records = self._records
        is_held = False

        def look() -> None:
            nonlocal is_held
            is_held = records is not None and records.is_held(stage)

        def run() -> tuple[Any, float]:
            # A copy: a predictor may draw from a random state of its own, or count its calls.
            is_quiet = records is not None and records.is_quiet(stage)
            private = stage if is_quiet else stage.with_estimator(copy.deepcopy(stage.estimator))
            started = time.perf_counter()
            return private.run(self._before_last.value), time.perf_counter() - started

        self._guarded(look)
        if is_held or self._records is None:
            return
        outcome = self._before_last if self._before_last.error is not None else attempt(run)
        if outcome.value is not None:
            value, seconds = outcome.value
            self._record(value, stage.estimator, seconds=seconds, is_fit=False)
        elif self._settings.on_error == "raise":
            raise CaptureError(f"the output of {stage.name!r} was not captured: {outcome.why}") from outcome.error
        else:
            self._warn(f"{stage.name} was not stored: {outcome.why}")

    def _record(self, value: Any, estimator: Any, *, seconds: float | None, is_fit: bool = True) -> None:
        if self._records is None:
            return
        records, stage = self._records, self._stages[self._n_done].with_estimator(estimator)
        self._n_done += 1
        if stage.role == "prediction" and self._method == "fit_predict":
            label = f"fit_predict and {stage.method} differ here"
        elif stage.role == "prediction":
            label = FEW_ROWS_DIFFER.format(stage.method)
        else:
            label = "fit_transform and transform differ here"

        def take() -> None:
            if records.is_held(stage, is_fit=is_fit):
                records.passed(stage, value)
            else:
                records.add(stage, value, seconds=seconds, label=label, is_fit=is_fit)

        self._guarded(take)

    def _guarded(self, do: Callable[[], None]) -> None:
        failed = attempt(do, is_quiet=False)
        if failed.error is None:
            return
        self._abort(failed.error)
        if self._settings.on_error == "raise" or isinstance(failed.error, Warning):
            raise failed.error
        self._warn(f"nothing of {self._settings.model} was stored by this fit: {failed.why}")

    def _abort(self, error: BaseException) -> None:
        capture, self._capture, self._records = self._capture, None, None
        if capture is not None:
            attempt(lambda: capture.__exit__(type(error), error, error.__traceback__))

    def _warn(self, text: str) -> None:
        warnings.warn(text, CaptureWarning, stacklevel=6)

    def __enter__(self) -> FitRecording:
        self._token = _running.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _running.reset(self._token)
        if error is not None:
            self._abort(error)
        elif self._capture is not None:
            capture = self._capture
            self._guarded(lambda: capture.__exit__(None, None, None))
            if capture.committed is not None:
                self.run = CapturedRun(self._settings.store.uri, self._settings.model, capture.run_id)


class ObservedMemory:
    """The memory of a pipeline, reporting each transformer that is fitted through it or found in it."""

    def __init__(self, memory: Any, recording: FitRecording) -> None:
        self._memory, self._recording = memory, recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return copy.copy, (self._memory,)

    def cache(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The function that the memory makes of one, with a report after each call."""
        cached = self._memory.cache(function, **options)

        def observed(transformer: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
            self._recording.before_step(X)
            started = time.perf_counter()
            Xt, fitted = cached(transformer, X, *args, **kwargs)
            self._recording.after_step(Xt, fitted, seconds=time.perf_counter() - started)
            return Xt, fitted

        return observed


@contextmanager
def observed_memory(pipeline: Pipeline, memory: Any, recording: FitRecording) -> Iterator[None]:
    """Within it, the pipeline's memory reports to a recording; afterwards it is what it was."""
    before = pipeline.memory
    pipeline.memory = ObservedMemory(memory, recording)
    try:
        yield
    finally:
        pipeline.memory = before
