"""Searches and cross-validation: every candidate and fold is a version that says which it is."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, cross_val_score
from sklearn.preprocessing import StandardScaler

import mistique
from mistique.sklearn import Pipeline
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ["sqft_living", "grade", "lat"]
GRID = {"ridge__alpha": [1.0, 1000.0]}


def ridge(store: Store) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/ridge")


def rows_of(store: Store, name: str) -> list[Any]:
    return mistique.get(store, f"{name}/train/scale").rows.tolist()


@pytest.mark.supported("`GridSearchCV`, `n_jobs=2`", "each candidate and fold a version, labelled")
@pytest.mark.parametrize("as_array", [False, True])
def test_candidates_and_folds_of_a_grid_search_on_two_processes_are_labelled_and_their_rows_are_those_of_the_fold(
    store: Store, homes: pd.DataFrame, as_array: bool
) -> None:
    X = homes[NUMBERS].to_numpy() if as_array else homes[NUMBERS]
    labels = np.arange(len(homes)) if as_array else homes.index.to_numpy()
    folds = KFold(3, shuffle=True, random_state=0)
    GridSearchCV(ridge(store), GRID, cv=folds, n_jobs=2).fit(X, homes["price"].to_numpy())
    models = store.models()
    found = sorted(one.label for one in models)
    expected = [f"ridge__alpha={alpha}, fold {i}/3" for alpha in (1.0, 1000.0) for i in (1, 2, 3)]
    assert len(found) == 7
    assert set(expected) <= set(found)
    assert sum(label.endswith("all rows") for label in found) == 1
    trained = {f"{i}/3": labels[train].tolist() for i, (train, _) in enumerate(folds.split(X), start=1)}
    for one in models:
        if one.version.source["fold"] in trained:
            assert rows_of(store, one.name) == trained[one.version.source["fold"]]
            assert one.version.params["ridge__alpha"] in one.label
    frame = models.to_frame()
    assert set(frame["ridge__alpha"]) == {"1.0", "1000.0"}


@pytest.mark.supported("`HalvingGridSearchCV`", "each round, candidate and fold")
def test_rounds_of_a_halving_search_are_versions(store: Store, homes: pd.DataFrame) -> None:
    grid = {"ridge__alpha": [1.0, 10.0, 1000.0]}
    search = HalvingGridSearchCV(ridge(store), grid, cv=2, n_jobs=2, random_state=0).fit(homes[NUMBERS], homes["price"])
    n_fits = 2 * sum(search.n_candidates_) + 1
    assert len(store.models()) == n_fits
    assert {len(rows_of(store, one.name)) for one in store.models()} >= {len(homes)}


@pytest.mark.supported("`cross_val_score`", "each fold")
def test_folds_of_a_cross_validation_are_told_apart_by_what_they_leave_out(store: Store, homes: pd.DataFrame) -> None:
    cross_val_score(ridge(store), homes[NUMBERS], homes["price"], cv=3, n_jobs=2)
    left_out = [f"fold without 500 rows from {start}" for start in (0, 500, 1000)]
    assert sorted(one.label for one in store.models()) == sorted(left_out)


def test_what_candidates_share_is_stored_once_for_each_fold(store: Store, homes: pd.DataFrame) -> None:
    GridSearchCV(ridge(store), {"ridge__alpha": [1.0, 10.0, 100.0]}, cv=3).fit(homes[NUMBERS], homes["price"])
    added = [capture.intermediates["scale"].stored_nbytes for capture in store.catalog.captures()]
    assert sum(nbytes > 0 for nbytes in added) == 4  # three folds and the refit


def test_what_changed_between_two_candidates_is_told(store: Store, homes: pd.DataFrame) -> None:
    for alpha in (1.0, 1000.0):
        ridge(store).set_params(ridge__alpha=alpha).fit(homes[NUMBERS], homes["price"])
    found = mistique.diff(store, "homes/ridge@1", other="homes/ridge@2")
    assert found.params == {"ridge__alpha": ("1.0", "1000.0")}
    assert found.stages == {"input": "same", "target": "same", "scale": "same", "prediction": "changed"}
    assert found.states == {"scale": "same", "prediction": "changed"}


def test_a_process_that_is_given_the_pipeline_again_and_again_opens_its_store_once(
    store: Store, homes: pd.DataFrame
) -> None:
    sent = pickle.dumps(ridge(store))
    first, second = (pickle.loads(sent).fit(homes[NUMBERS], homes["price"]) for _ in range(2))
    assert first._capture_settings.store is second._capture_settings.store is not store
    first._capture_settings.store.close()
    pickle.loads(sent).fit(homes[NUMBERS], homes["price"])
    assert len(store.models()) == 3
    other = pickle.loads(pickle.dumps(ridge(store)))
    assert other._capture_settings.store is not second._capture_settings.store
