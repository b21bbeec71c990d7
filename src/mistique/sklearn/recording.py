"""One fit, while it runs: takes what each step gave and commits it, whatever happens without harm to the fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from sklearn.pipeline import Pipeline

from mistique.errors import CaptureError, CaptureWarning
from mistique.ingest.run_around import as_run_around
from mistique.sklearn.captures import Captures
from mistique.sklearn.running import Running
from mistique.sklearn.search import settings_of, surrounding
from mistique.sklearn.settings import CapturedRun, CaptureSettings
from mistique.sklearn.stage_records import FEW_ROWS_DIFFER, StageRecords
from mistique.sklearn.stages import Stage, inside, scores_of, steps_of
from mistique.sklearn.undisturbed import Attempt, attempt, copy_rows
from mistique.sklearn.watching import ReportingMemory, Seen, is_caching, watched

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
        self._captures: Captures | None = None
        self._stages: tuple[Stage, ...] = ()
        self._n_done = 0
        self._seen: Seen = {}
        self._before: Any = None
        self._before_last: Attempt[Any] = Attempt(None)
        self._memory: Any = None
        self._watching, self._within = ExitStack(), ExitStack()
        self._token: Token[FitRecording | None] | None = None
        self.run: CapturedRun | None = None

    def begin(self, X: Any, y: Any) -> None:
        """Take the input and the target, before any step can change them. Not yet with an observed memory."""

        def start() -> None:
            self._stages = steps_of(self.pipeline)
            around = surrounding()
            self._captures = Captures(
                self._settings,
                X,
                y,
                params=settings_of(self.pipeline),
                source=around.facts,
                fit_is_plain=self._is_plain and self.pipeline.memory is None,
                positions=around.train,
            )
            store = self._settings.store
            self._within.enter_context(as_run_around(store.uri, self._settings.model, self._captures.run_id))

        self._guarded(start)

    @property
    def _records(self) -> StageRecords | None:
        return None if self._captures is None else self._captures.records

    def before_step(self, X: Any) -> None:
        """Take what the steps before an estimator passed on unchanged: `X` is about to go into that estimator."""
        while self._n_done < len(self._stages) and self._stages[self._n_done].passes_on:
            self._record(self._next(None), X, seconds=0.0)
        self._before = X

    @contextmanager
    def around_step(self, transformer: Any) -> Iterator[None]:
        """While a transformer is fitted, see what is inside of it."""
        if self._records is None or self._n_done == len(self._stages) or is_caching(self._memory):
            yield
        else:
            with watched(transformer, self._stages[self._n_done].name, self._seen):
                yield

    def after_step(self, Xt: Any, *fitted: Any, seconds: float) -> None:
        """Take the output of a fitted transformer, and before it what is inside of it.

        Parameters
        ----------
        Xt : container
        *fitted
            The transformer; of a sampler, before it, the target of the rows that it gave.
        seconds : float
        """
        if self._captures is None:
            return
        captures, stage = self._captures, self._next(fitted[-1])
        if len(fitted) > 1 or captures.changes_rows(Xt):
            y = fitted[0] if len(fitted) > 1 else None
            self._seen = {}
            self._guarded(lambda: captures.go_on(stage, self._before, Xt, y))
        else:
            self._record_inside(stage, Xt)
            self._record(stage, Xt, seconds=seconds)

    def before_last_step(self, Xt: Any) -> None:
        """Keep what goes into the last step: it is run again once fitted, and may change its input in place."""
        self.before_step(Xt)
        if self._records is None:
            return
        last = self.pipeline.steps[-1][1]
        if self._method == "fit_transform" and self._n_done < len(self._stages):
            self._watching.enter_context(watched(last, self._stages[self._n_done].name, self._seen))
        self._guarded(lambda: self._captures.records.settle() if self._captures else None)
        # A copy runs at 8 GB/s, far faster than a fit or an encoding; none is taken when nothing more is to be run.
        if last is not None and not isinstance(last, str) and self._method != "fit_predict":
            self._before_last = attempt(lambda: copy_rows(Xt))

    def finish(self, result: Any) -> None:
        """Take the output of the last step, and the model.

        Parameters
        ----------
        result : object
            What the fit method gave.
        """
        self._watching.close()
        if self._records is None:
            return
        # Only now a model that is made of others knows what it can do (a stack of regressors).
        self._guarded(self._look_again)
        if self._n_done < len(self._stages):
            stage = self._stages[self._n_done]
            if self._method == "fit_transform" and stage.method == "transform":
                self._record_inside(stage, result)
                self._record(self._next(stage.estimator), result, seconds=None)
            elif self._method == "fit_predict" and stage.role == "prediction":
                self._record(self._next(stage.estimator), result, seconds=None)
            elif stage.method != "fit_predict":
                self._run_last(stage)
        self._guarded(lambda: self._captures.keep_model(self.pipeline) if self._captures else None)

    def _look_again(self) -> None:
        self._stages = (*self._stages[: self._n_done], *steps_of(self.pipeline)[self._n_done :])

    def _next(self, estimator: Any) -> Stage:
        stage = self._stages[self._n_done].with_estimator(estimator)
        self._n_done += 1
        return stage

    def _run_last(self, last: Stage) -> None:
        """Run the last step, what is inside of it and what it gives beside, on what went into it."""
        if self._before_last.error is not None:
            self._failed_to_run(last, self._before_last)
            return
        stages = [*inside(last), *scores_of(last), last]
        running = Running(self._before_last.value, stages, self._is_quiet, start=last.parent)
        for stage in stages:
            if self._is_held(stage) or self._records is None:
                continue
            done = running.run(stage)
            if done.value is not None:
                value, seconds = done.value
                self._record(stage, value, seconds=seconds, is_fit=False)
            else:
                self._failed_to_run(stage, done)

    def _failed_to_run(self, stage: Stage, outcome: Attempt[Any]) -> None:
        if self._settings.on_error == "raise":
            raise CaptureError(f"the output of {stage.name!r} was not captured: {outcome.why}") from outcome.error
        self._warn(f"{stage.name} was not stored: {outcome.why}")

    def _record_inside(self, composite: Stage, given: Any) -> None:
        """Take what is inside of a composite that was just fitted: as seen, or run again where that is the same."""
        stages = attempt(lambda: inside(composite)).value or ()
        seen, self._seen = self._seen, {}
        if not stages:
            return
        seen[composite.name] = given, None
        running = Running(self._before, stages, self._is_quiet, start=composite.parent)
        missing: list[str] = []
        for stage in stages:
            found = next((seen[name] for name in stage.names if name in seen), None)
            if found is not None:
                self._record(stage, found[0], seconds=found[1])
            elif not self._is_held(stage, is_fit=True) and self._records is not None:
                done = running.run(stage) if self._records.is_known(stage) else Attempt(None)
                if done.value is None:
                    missing.append(stage.name)
                else:
                    self._record(stage, done.value[0], seconds=done.value[1])
        if missing and self._records is not None:
            self._warn(
                f"{', '.join(missing)} was not stored: it was computed in another process or found in a cache, and "
                "what fit_transform gave there cannot be computed again with certainty"
            )

    def _is_quiet(self, stage: Stage) -> bool:
        return self._records is not None and self._records.is_quiet(stage)

    def _is_held(self, stage: Stage, *, is_fit: bool = False) -> bool:
        is_held = False

        def look() -> None:
            nonlocal is_held
            is_held = self._records is not None and self._records.is_held(stage, is_fit=is_fit)

        self._guarded(look)
        return is_held

    def _record(self, stage: Stage, value: Any, *, seconds: float | None, is_fit: bool = True) -> None:
        records = self._records
        if records is None:
            return
        if stage.role == "prediction" and self._method == "fit_predict":
            label = f"fit_predict and {stage.method} differ here"
        elif not is_fit:
            label = FEW_ROWS_DIFFER.format(stage.method)
        else:
            label = "fit_transform and transform differ here"

        def take() -> None:
            if not records.is_held(stage, is_fit=is_fit):
                records.add(stage, value, seconds=seconds, label=label, is_fit=is_fit)

        self._guarded(take)

    def _guarded(self, do: Callable[[], None]) -> None:
        failed = attempt(do, is_quiet=False)
        if failed.error is None:
            return
        self._abort()
        if self._settings.on_error == "raise" or isinstance(failed.error, Warning):
            raise failed.error
        self._warn(f"nothing of {self._settings.model} was stored by this fit: {failed.why}")

    def _abort(self) -> None:
        captures, self._captures = self._captures, None
        if captures is not None:
            attempt(captures.abort)

    def _warn(self, text: str) -> None:
        warnings.warn(text, CaptureWarning, stacklevel=6)

    def __enter__(self) -> FitRecording:
        self._token = _running.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.close()
        self._within.close()
        if self._token is not None:
            _running.reset(self._token)
        if error is not None:
            self._abort()
        elif self._captures is not None:
            captures = self._captures
            self._guarded(captures.commit)
            if captures.committed is not None:
                self.run = CapturedRun(self._settings.store.uri, self._settings.model, captures.run_id)

    @contextmanager
    def observing(self, memory: Any) -> Iterator[None]:
        """Within it, the pipeline's memory reports what is fitted through it or found in it."""
        original, self._memory = self.pipeline.memory, memory
        self.pipeline.memory = ReportingMemory(
            memory, before=self.before_step, after=self.after_step, around=self.around_step, original=original
        )
        try:
            yield
        finally:
            self.pipeline.memory = original
