"""Capture of a model that is fitted already, over any data."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import joblib
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from mistique.codecs import Codec, Policy
from mistique.errors import CaptureError, CaptureWarning, ModelMismatchError
from mistique.sklearn.captures import Captures
from mistique.sklearn.running import Running
from mistique.sklearn.search import settings_of
from mistique.sklearn.settings import CapturedRun, CaptureSettings
from mistique.sklearn.stage_records import FEW_ROWS_DIFFER
from mistique.sklearn.stages import Stage, as_pipeline, stages_of, steps_of
from mistique.sklearn.undisturbed import Attempt, attempt, count_rows
from mistique.store import Store

# The runs of models that have no room for them, which is every model but our own Pipeline, by the hash of
# what they had learned: the same object fitted again is another version.
_runs: WeakKeyDictionary[Any, list[tuple[str, CapturedRun]]] = WeakKeyDictionary()


def capture(
    pipe: Any,
    X: Any,
    y: Any = None,
    *,
    store: Store,
    dataset: str,
    model: str | None = None,
    keep: str = "all",
    codec: str | Codec | Policy = "auto",
    on_error: str = "raise",
) -> str | None:
    """The name of the version under which a fitted model's stages over these data are now stored.

    Parameters
    ----------
    pipe : Pipeline or estimator
        Fitted; scikit-learn's own Pipeline as well. It is left as it is.
    X, y : container
        Any data that the model takes, and their targets. They are not changed.
    store : Store
    dataset : str
        What the data are called: ``valid``.
    model : str, optional
        Name of the model; by default the one given to `Pipeline.set_capture`.
    keep : {"all", "none", "auto"}, default "all"
        As in `Pipeline.set_capture`.
    codec : str, Codec or Policy, default "auto"
        ``"auto"`` keeps tables exactly.
    on_error : {"raise", "warn"}, default "raise"

    Returns
    -------
    str or None
        Such as ``homes/ridge@2``: the version that the fit captured, when it did; else a new one, the same
        for every data set that this model is captured over. None: it failed, and a warning said so.

    Raises
    ------
    CaptureError
        The model is not fitted or is none, `X` is empty, `y` has another length, or a setting is none of those above.
    ModelMismatchError
        `X` has other features than the model was fitted with.
    NotEncodableError
        A column holds objects that no store can hold. Of any of these nothing is stored.

    Examples
    --------
    >>> import mistique, tempfile
    >>> from sklearn.preprocessing import StandardScaler
    >>> store = mistique.open(tempfile.mkdtemp() + "/homes.mistique")
    >>> scale = StandardScaler().fit([[1.0], [3.0]])
    >>> capture(scale, [[5.0], [7.0]], store=store, dataset="valid", model="homes/scale")
    'homes/scale@1'
    >>> capture(scale, [[5.0, 6.0]], store=store, dataset="test", model="homes/scale")
    Traceback (most recent call last):
    ...
    mistique.errors.ModelMismatchError: model homes/scale expected 1 feature, got 2 features. ...
    """
    known: CaptureSettings | None = getattr(pipe, "_capture_settings", None)
    settings = CaptureSettings(store, model or (known.model if known else ""), dataset, keep, codec, on_error)
    if on_error == "raise":
        return _capture(pipe, X, y, settings)
    outcome = attempt(lambda: _capture(pipe, X, y, settings), is_quiet=False)
    if outcome.error is not None:
        if isinstance(outcome.error, Warning):
            raise outcome.error
        text = f"nothing of {settings.model} over dataset {dataset!r} was stored: {outcome.why}"
        warnings.warn(text, CaptureWarning, stacklevel=2)
    return outcome.value


def _capture(pipe: Any, X: Any, y: Any, settings: CaptureSettings) -> str | None:
    pipeline = as_pipeline(pipe)
    if not any(stage.method in ("", "transform", "predict") for stage in steps_of(pipeline)):
        raise CaptureError(f"expected a fitted model that can transform or predict, got a {type(pipe).__name__}")
    _check_fitted(pipe, pipeline, settings.model)
    _check_lengths(X, y)
    fingerprint = attempt(lambda: joblib.hash(pipeline)).value or str(id(pipe))
    run = _known_run(pipe, settings, fingerprint)
    captures = Captures(settings, X, y, run_id=run.run_id if run else None, params=settings_of(pipe))
    try:
        _run_all(pipeline, X, captures, settings.model)
        captures.keep_model(pipe)
    except BaseException:
        captures.abort()
        raise
    captures.commit()
    if captures.committed is not None and run is None:
        _remember(pipe, fingerprint, CapturedRun(settings.store.uri, settings.model, captures.run_id))
    return captures.committed


def _run_all(pipeline: Pipeline, X: Any, captures: Captures, model: str) -> None:
    stages = [stage for stage in stages_of(pipeline) if stage.method != "fit_predict"]
    running = Running(X, stages, lambda stage: captures.records.is_quiet(stage))
    tops = {stage.name for stage in steps_of(pipeline)}
    for i, stage in enumerate(stages):
        # What is held is run for the sake of a stage after it that is new, and only then.
        if not captures.records.is_held(stage):
            done = running.run(stage)
            if done.value is None:
                raise _explained(running.failed or stage, done, X, pipeline, model) from done.error
            value, seconds = done.value
            if stage.name in tops and stage.role == "stage" and captures.changes_rows(value):
                captures.go_on(stage, running.given(stage), value)
            else:
                label = FEW_ROWS_DIFFER.format(stage.method)
                captures.records.add(stage, value, seconds=seconds, label=label)
        for name in {stage.name, stage.parent} - {later.parent for later in stages[i + 1 :]}:
            running.forget(name)


def _check_fitted(pipe: Any, pipeline: Pipeline, model: str) -> None:
    # Of classes that are not scikit-learn's there is no telling.
    for estimator in (pipe, *(stage.estimator for stage in steps_of(pipeline))):
        if isinstance(estimator, BaseEstimator):
            try:
                check_is_fitted(estimator)
            except NotFittedError:
                raise CaptureError(
                    f"expected a fitted model, got {model} whose {type(estimator).__name__} is not fitted: "
                    "call fit(X, y) first"
                ) from None


def _check_lengths(X: Any, y: Any) -> None:
    n_rows, n_targets = count_rows(X), count_rows(y)
    if n_rows == 0:
        raise CaptureError("expected at least one row of X, got none")
    if y is not None and n_rows is not None and n_targets is not None and n_rows != n_targets:
        raise CaptureError(f"expected X and y of the same length, got {n_rows} rows of X and {n_targets} of y")


def _explained(stage: Stage, outcome: Attempt[Any], X: Any, pipeline: Pipeline, model: str) -> Exception:
    """The error of a model that did not take its data, in the words of the features where these are the cause."""
    first = next((s.estimator for s in steps_of(pipeline) if s.method), None)
    expected_names = getattr(first, "feature_names_in_", None)
    got_names = list(X.columns) if hasattr(X, "columns") else None
    if expected_names is not None and got_names is not None and list(expected_names) != got_names:
        return ModelMismatchError(
            model=model,
            expected=f"columns {', '.join(map(str, expected_names))}",
            got=", ".join(map(str, got_names)),
            hint="Give the columns that it was fitted with, in their order",
        )
    expected = getattr(first, "n_features_in_", None)
    shape = getattr(X, "shape", None) or (len(X), *((len(X[0]),) if hasattr(X[0], "__len__") else ()))
    if expected is not None and len(shape) == 2 and shape[1] != expected:
        return ModelMismatchError(
            model=model,
            expected=_count(expected),
            got=_count(shape[1]),
            hint="Give the features that it was fitted with",
        )
    return ModelMismatchError(
        model=model,
        expected=f"data that its step {stage.detail} takes",
        got=outcome.why,
        hint="Give data like those that it was fitted with",
    )


def _count(n_features: int) -> str:
    return f"{n_features} feature{'' if n_features == 1 else 's'}"


def _known_run(pipe: Any, settings: CaptureSettings, fingerprint: str) -> CapturedRun | None:
    """The run that this model was captured under in this store, by its fit or by an earlier call."""
    runs: list[CapturedRun | None] = [getattr(pipe, "captured_run_", None)]
    runs += [run for known, run in attempt(lambda: _runs.get(pipe, ())).value or () if known == fingerprint]
    place = settings.store.uri, settings.model
    return next((run for run in runs if run is not None and (run.uri, run.model) == place), None)


def _remember(pipe: Any, fingerprint: str, run: CapturedRun) -> None:
    # A model that cannot be referred to weakly, or hashed, begins a new version each time.
    attempt(lambda: _runs.setdefault(pipe, []).append((fingerprint, run)))
