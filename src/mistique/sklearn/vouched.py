"""What a fitted estimator gives follows from its state alone: of which this is known, and the digest of their state.

scikit-learn's own classes are read code: `transform` and `predict` are functions of the fitted state and the rows. Code
from anywhere else may read a clock, a file or a global, whatever its source says, so no digest of the source is
taken: what such code gave is compared by content, every time.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import joblib
import numpy as np
import scipy
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin
from threadpoolctl import threadpool_info

from mistique.sklearn.content import combined
from mistique.sklearn.undisturbed import attempt
from mistique.storage.digests import digest_bytes

_KNOWN_PACKAGES = ("sklearn", "numpy", "scipy", "pandas", "builtins", "collections", "copyreg")
# Of scikit-learn's, those which draw or shuffle when they transform or predict, or read files that the rows name.
_UNSURE = {
    "DummyClassifier",
    "IterativeImputer",
    "LatentDirichletAllocation",
    "MiniBatchNMF",
    "NMF",
    "PatchExtractor",
}
# Functions that pickled arrays and generators are put together by.
_REBUILDING = (
    "numpy._core.numeric",
    "numpy._core.multiarray",
    "numpy.random._pickle",
    "numpy.random.bit_generator",
)
_COUNTING = ("sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree")
# Functions here draw, shuffle, download.
_UNSURE_FUNCTIONS = ("sklearn.utils", "sklearn.datasets")
_PURE_FIT_TRANSFORM = TransformerMixin.fit_transform


@dataclass(frozen=True, slots=True)
class FittedState:
    """What an estimator has learned.

    Parameters
    ----------
    digest : str
    has_chance : bool
        Its fit drew, or may have drawn, from a generator that no seed fixes.
    is_overwriting : bool
        Its fit may have changed its input in place.
    is_determined : bool
        The same rows give the same output, to the last bit. Not so where threads add up in the order in which they
        end (a forest's).
    is_quiet : bool
        To run it leaves no trace in it. The search trees of neighbours count their calls.
    """

    digest: str
    has_chance: bool
    is_overwriting: bool
    is_determined: bool
    is_quiet: bool


def fitted_state(estimator: Any) -> FittedState | None:
    """The state of an estimator that can be vouched for; None: it, or a part of it, is not known to be a function.

    Notes
    -----
    Held by ``tests/sklearn/test_vouched.py``, for each of scikit-learn's transformers and predictors.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer, StandardScaler
    >>> scale = StandardScaler().fit([[1.0], [3.0]])
    >>> fitted_state(scale).digest == fitted_state(StandardScaler().fit([[1.0], [5.0]])).digest
    False
    >>> fitted_state(FunctionTransformer(lambda rows: rows)) is None
    True
    """
    return attempt(lambda: _Reading().of(estimator)).value


def fit_transform_is_transform(estimator: Any, state: FittedState) -> bool:
    """Whether its ``fit_transform`` is its ``fit``, which leaves the input alone, followed by its ``transform``."""
    return getattr(type(estimator), "fit_transform", None) is _PURE_FIT_TRANSFORM and not state.is_overwriting


def surroundings() -> str:
    """Digest of what else the last bits of a result depend on: versions, settings, linear algebra and its threads."""
    libraries = [
        (found.get("internal_api"), found.get("version"), found.get("architecture"), found.get("num_threads"))
        for found in threadpool_info()
    ]
    pandas_version = getattr(sys.modules.get("pandas"), "__version__", "")
    versions = sklearn.__version__, np.__version__, scipy.__version__, pandas_version
    return combined("surroundings", versions, sorted(map(repr, libraries)), sorted(sklearn.get_config().items()))


class _NotVouchedError(Exception):
    """Something in it comes from elsewhere."""


class _Reading(pickle.Pickler):
    """Pickles an estimator to nowhere and looks at each thing in it. Arrays are not copied: their buffers are digested.

    Pickling alone reaches the state of compiled classes (a tree's nodes). It tells equal strings apart by identity, so
    two equal states may get two digests; that costs a capture in full, and two states never get one.
    """

    def __init__(self) -> None:
        self._stream, self._buffers = io.BytesIO(), list[Any]()
        self._has_chance = self._is_overwriting = False
        self._is_determined = self._is_quiet = True
        keep: Callable[[pickle.PickleBuffer], None] = self._buffers.append
        super().__init__(self._stream, 5, buffer_callback=keep)

    def of(self, estimator: Any) -> FittedState:
        """What was learned; raises where there is something that is not known."""
        self.dump(estimator)
        buffers = [digest_bytes(buffer.raw()) for buffer in self._buffers]
        digest = combined("state", self._stream.getvalue(), buffers)
        return FittedState(digest, self._has_chance, self._is_overwriting, self._is_determined, self._is_quiet)

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        named = obj if isinstance(obj, type) else kind
        if kind is np.ufunc:
            return NotImplemented
        if kind in (FunctionType, BuiltinFunctionType) or kind.__name__ == "cython_function_or_method":
            self._check_function(obj)
        elif named.__module__.partition(".")[0] not in _KNOWN_PACKAGES:
            raise _NotVouchedError(named.__qualname__)
        elif isinstance(obj, BaseEstimator):
            self._check_estimator(obj)
        elif isinstance(obj, (np.random.RandomState, np.random.Generator)):
            # What it would draw next is of no consequence after the fit, and is often the global generator's.
            self._has_chance = True
            return str, (kind.__name__,)
        elif kind.__module__ in _COUNTING:
            self._is_quiet = False
        return NotImplemented

    def _check_function(self, function: Any) -> None:
        module = function.__module__ or ""
        is_known = module in _REBUILDING or module.partition(".")[0] in ("sklearn", "copyreg")
        if not is_known or module.startswith(_UNSURE_FUNCTIONS):
            raise _NotVouchedError(function.__qualname__)

    def _check_estimator(self, estimator: Any) -> None:
        name, settings = type(estimator).__name__, vars(estimator)
        functions = [settings.get("func"), settings.get("inverse_func")] if name == "FunctionTransformer" else []
        is_unsure = (
            name in _UNSURE
            or any(function is not None and type(function) is not np.ufunc for function in functions)
            or settings.get("input", "content") != "content"  # the rows name files
            # What came out of a cache may have been computed by another version.
            or settings.get("memory") is not None
        )
        if is_unsure:
            raise _NotVouchedError(name)
        self._is_determined &= "n_jobs" not in settings or joblib.effective_n_jobs(settings["n_jobs"]) == 1
        self._has_chance |= "random_state" in settings and type(settings["random_state"]) is not int
        self._is_overwriting |= any(settings.get(name) is False for name in ("copy", "copy_X", "copy_x"))
