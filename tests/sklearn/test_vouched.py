"""Of which estimators the output follows from the state: held for each of scikit-learn's that can be fitted here."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import NMF, PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestRegressor
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import all_estimators

from mistique.sklearn.content import content_digest
from mistique.sklearn.vouched import fit_transform_is_transform, fitted_state

GENERATOR = np.random.default_rng(0)
X = np.abs(GENERATOR.normal(size=(60, 4)))
Y = (X[:, 0] > 0.7).astype(int)
# Each takes seconds to fit and holds nothing that a faster one has not.
SLOW = {"DictionaryLearning", "HistGradientBoostingClassifier", "LogisticRegressionCV", "MiniBatchDictionaryLearning"}


class Doubled(TransformerMixin, BaseEstimator):
    """Somebody's own code."""

    def fit(self, X: Any, y: Any = None) -> Doubled:
        return self

    def transform(self, X: Any) -> Any:
        return X * 2


def as_array(value: Any) -> np.ndarray:
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value)


@functools.cache
def fitted_estimators() -> list[Any]:
    """Fitted once, as whoever fits one again does it to the same data."""
    fitted = []
    for name, kind in all_estimators():
        if name in SLOW or not (hasattr(kind, "transform") or hasattr(kind, "predict")):
            continue
        try:
            fitted.append(kind().fit(X.copy(), Y))
        except (AttributeError, TypeError, ValueError):  # it asks for other data or for arguments
            continue
    return fitted


@pytest.mark.filterwarnings("ignore")
def test_what_is_vouched_for_gives_the_same_again_and_keeps_its_state() -> None:
    n_vouched = 0
    for estimator in fitted_estimators():
        state = fitted_state(estimator)
        if state is None or not state.is_determined:
            continue
        for method in ("transform", "predict"):
            try:
                outputs = []
                for seed in (1, 2):
                    np.random.seed(seed)  # noqa: NPY002 - an estimator without a seed draws from this generator
                    outputs.append(as_array(getattr(estimator, method)(X.copy())))
            except AttributeError:  # it has no such method, or takes text
                continue
            n_vouched += 1
            assert outputs[0].tobytes() == outputs[1].tobytes(), (estimator, method)
            again = fitted_state(estimator)
            assert again is not None
            assert again.digest == state.digest or not state.is_quiet, (estimator, method)
    assert n_vouched > 100


@pytest.mark.filterwarnings("ignore")
def test_where_fit_transform_is_said_to_be_transform_it_is() -> None:
    n_alike = 0
    for estimator in fitted_estimators():
        state = fitted_state(estimator)
        if state is not None and state.is_determined and fit_transform_is_transform(estimator, state):
            try:
                at_fit = as_array(estimator.fit_transform(X.copy(), Y))
            except AttributeError:  # it takes text
                continue
            n_alike += 1
            assert at_fit.tobytes() == as_array(estimator.transform(X.copy())).tobytes(), estimator
    assert n_alike > 20


@pytest.mark.parametrize(
    "estimator",
    [
        Doubled(),
        FunctionTransformer(np.random.permutation),
        FunctionTransformer(lambda rows: rows),
        FunctionTransformer(np.empty_like),
        NMF(n_components=2, random_state=0),
        DummyClassifier(strategy="uniform"),
    ],
    ids=["own class", "a generator's method", "a lambda", "a function of NumPy", "shuffles", "draws"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_may_give_something_else_is_not_vouched_for(estimator: Any) -> None:
    assert fitted_state(estimator.fit(X, Y)) is None


def test_threads_that_add_up_in_any_order_are_told() -> None:
    forest = RandomForestRegressor(n_estimators=2, n_jobs=2, random_state=0).fit(X, Y)
    state = fitted_state(forest)
    assert state is not None
    assert not state.is_determined


@pytest.mark.parametrize(
    "other",
    [StandardScaler(with_mean=False).fit(X), StandardScaler().fit(X * 2), PCA().fit(X)],
    ids=["setting", "what it learned", "class"],
)
def test_another_setting_fit_or_class_is_another_state(other: Any) -> None:
    states = fitted_state(StandardScaler().fit(X)), fitted_state(StandardScaler().fit(X.copy())), fitted_state(other)
    assert all(states)
    one, same, another = (state.digest for state in states if state is not None)
    assert one == same
    assert one != another


def test_a_container_asked_for_is_part_of_the_state() -> None:
    plain, frames = StandardScaler().fit(X), StandardScaler().set_output(transform="pandas").fit(X)
    states = fitted_state(plain), fitted_state(frames)
    assert len({state.digest for state in states if state is not None}) == 2


def test_contents_have_one_digest_only_if_all_of_them_is_equal(homes: Any) -> None:
    frame = homes[["grade", "sqft_living", "date", "lat"]].assign(kind="a", maybe=[None, *"b" * (len(homes) - 1)])
    changed = frame.copy()
    changed.loc[changed.index[7], "lat"] += 1e-9
    others = [
        changed,
        frame.astype({"grade": "int32"}),
        frame.rename(columns={"grade": "Grade"}),
        frame[frame.columns[::-1]],
        frame.reset_index(drop=True),
        frame.assign(kind=["b", *"a" * (len(frame) - 1)]),
        frame.assign(maybe=["", *"b" * (len(frame) - 1)]),
        frame.iloc[:-1],
        frame[["lat"]].to_numpy(),
        frame["lat"],
    ]
    digests = [content_digest(value) for value in (frame, *others)]
    assert content_digest(frame.copy()) == digests[0]
    assert "" not in digests
    assert len(set(digests)) == len(digests)
