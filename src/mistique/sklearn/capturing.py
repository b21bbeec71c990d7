"""`Capturing`: what a Pipeline of ours adds to scikit-learn's, or to one that is made of it.

How it sees what passes between the steps, and why so. ``fit`` hands each transformer to a function that
``memory.cache`` made, and that function gives back the output and the fitted transformer, on a hit of the
cache too. So the memory is wrapped while `_fit` runs, and `_fit` itself is called as it is: everything else,
callbacks and routed metadata included, stays scikit-learn's own code. The callbacks of scikit-learn 1.9 would
do for most of this without a private method, but are not called on a hit. An own loop over the steps in place
of ``super()._fit`` loses the callbacks, as in imbalanced-learn. The minor version of scikit-learn is pinned,
and its own tests of Pipeline run against this one with capture on:
``tests/sklearn/test_sklearn_own_suite.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.pipeline import _final_estimator_has
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_memory

from mistique.codecs import Codec, Policy
from mistique.sklearn.recording import FitRecording, recording_of
from mistique.sklearn.settings import CapturedRun, CaptureSettings
from mistique.store import Store


def _can_fit_transform(pipeline: Any) -> bool:
    return bool(pipeline._can_fit_transform())


class Capturing:
    """To be the first base of a pipeline class; the other is scikit-learn's Pipeline, or a class made of it."""

    steps: list[tuple[str, Any]]
    memory: Any

    def set_capture(
        self,
        store: Store | None,
        *,
        model: str | None = None,
        dataset: str = "train",
        keep: str = "all",
        codec: str | Codec | Policy = "auto",
        on_error: str = "warn",
    ) -> Any:
        """The pipeline itself, which from now on captures each fit; its clones and copies do as well.

        Parameters
        ----------
        store : Store or None
            None turns it off.
        model : str
            Its name in the store, such as ``homes/ridge``. Each fit is a new version of it.
        dataset : str, default "train"
            What the training data are called.
        keep : {"all", "none", "auto"}, default "all"
            What is stored of the stages' outputs; ``"none"`` leaves them to be recomputed, ``"auto"`` stores those
            that take long to recompute for their bytes. The input, the target and the prediction are stored always.
        codec : str, Codec or Policy, default "auto"
            How stages' outputs are encoded: ``"auto"`` keeps tables exactly.
        on_error : {"warn", "raise"}, default "warn"
            Whether a capture that fails warns and lets the fit go on, or raises.

        Raises
        ------
        CaptureError
            A model name is missing, or a setting is none of those above.
        UnknownCodecError

        Examples
        --------
        >>> from mistique.sklearn import Pipeline
        >>> Pipeline([("scale", "passthrough")]).set_capture(None)
        Pipeline(steps=[('scale', 'passthrough')])
        >>> Pipeline([("scale", "passthrough")]).set_capture("homes.mistique", model="homes/ridge")
        Traceback (most recent call last):
        ...
        mistique.errors.CaptureError: expected a store, as mistique.open(...) gives; got 'homes.mistique'
        """
        if store is None:
            self.__dict__.pop("_capture_settings", None)
            return self
        self._capture_settings = CaptureSettings(store, model or "", dataset, keep, codec, on_error)
        return self

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit the model, as ``sklearn.pipeline.Pipeline.fit``; captured when `set_capture` was called."""
        return self._captured("fit", super().fit, X, y, params)  # type: ignore[misc]

    @available_if(_can_fit_transform)  # type: ignore[untyped-decorator]
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit and transform, as ``sklearn.pipeline.Pipeline.fit_transform``; captured like `fit`."""
        return self._captured("fit_transform", super().fit_transform, X, y, params)  # type: ignore[misc]

    @available_if(_final_estimator_has("fit_predict"))  # type: ignore[untyped-decorator]
    def fit_predict(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit and predict, as ``sklearn.pipeline.Pipeline.fit_predict``; captured like `fit`."""
        return self._captured("fit_predict", super().fit_predict, X, y, params)  # type: ignore[misc]

    def _captured(self, method: str, fit: Callable[..., Any], X: Any, y: Any, params: dict[str, Any]) -> Any:
        settings: CaptureSettings | None = getattr(self, "_capture_settings", None)
        self.__dict__.pop("captured_run_", None)
        if settings is None:
            return fit(X, y, **params)
        recording = FitRecording(self, settings, method, is_plain=not params)
        with recording:
            result = fit(X, y, **params)
            recording.finish(result)
        if recording.run is not None:
            self.captured_run_: CapturedRun = recording.run
        return result

    def _fit(self, X: Any, y: Any = None, *routed: Any, **more: Any) -> Any:
        """Fit all steps but the last; see the top of this file."""
        recording = recording_of(self)
        if recording is None:
            return super()._fit(X, y, *routed, **more)  # type: ignore[misc]
        self._validate_steps()  # type: ignore[attr-defined]
        memory = check_memory(self.memory)
        recording.begin(X, y)
        with recording.observing(memory):
            given = super()._fit(X, y, *routed, **more)  # type: ignore[misc]
        # imbalanced-learn gives the target as well.
        recording.before_last_step(given[0] if isinstance(given, tuple) else given)
        return given

    def __sklearn_clone__(self) -> Any:
        clone = super().__sklearn_clone__()  # type: ignore[misc]
        if hasattr(self, "_capture_settings"):
            clone._capture_settings = self._capture_settings
        return clone
