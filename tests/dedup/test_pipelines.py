"""What pipelines share is stored once: in stages, versions, candidates, processes. Code that changed is a change."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import mistique
from mistique.sklearn import Pipeline, capture
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["sqft_living", "grade", "lat"]
OTHER_PROCESS = """
import sys
import mistique
from mistique.data import load_homes
from tests.dedup.test_pipelines import COLUMNS, pipeline
homes = load_homes().iloc[:1500]
with mistique.open(sys.argv[1]) as store:
    sys.stdin.readline()
    pipeline(store, model="homes/" + sys.argv[2]).fit(homes[COLUMNS], homes["price"])
"""


class Times(TransformerMixin, BaseEstimator):
    """Somebody's own code: a factor at fit, another one afterwards, and a name for its columns."""

    def __init__(self, at_fit: float = 2.0, after: float = 2.0, prefix: str = "x") -> None:
        self.at_fit, self.after, self.prefix = at_fit, after, prefix

    def fit(self, X: Any, y: Any = None) -> Times:
        self.is_fitted_ = True
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        self.fit(X)
        return np.asarray(X) * self.at_fit

    def transform(self, X: Any) -> Any:
        return np.asarray(X) * self.after

    def get_feature_names_out(self, names: Any = None) -> list[str]:
        return [f"{self.prefix}{i}" for i in range(3)]


GLOBALS = {"factor": 2.0}


def times_a_global(X: Any) -> Any:
    return X * GLOBALS["factor"]


def pipeline(store: Store, *, model: str = "homes/ridge", first: Any = None) -> Pipeline:
    steps = [("scale", StandardScaler() if first is None else first), ("ridge", Ridge())]
    return Pipeline(steps).set_capture(store, model=model, on_error="raise")


def new_nbytes(store: Store, version: str) -> dict[str, int]:
    """Bytes that each intermediate of a version added to the store."""
    (found,) = [c for c in store.catalog.captures() if f"{c.prefix}/".startswith(version + "/")]
    return {name: intermediate.stored_nbytes for name, intermediate in found.intermediates.items()}


def test_columns_that_stages_pass_through_are_stored_once(store: Store, homes: pd.DataFrame) -> None:
    untouched = ColumnTransformer([("scale", StandardScaler(), ["grade"])], remainder="passthrough")
    steps = [("nothing", "passthrough"), ("select", untouched.set_output(transform="pandas"))]
    Pipeline(steps).set_capture(store, model="homes/same", on_error="raise").fit(homes[COLUMNS])
    added = new_nbytes(store, "homes/same@1")
    assert added["nothing"] == 0
    new = sum(nbytes for name, nbytes in added.items() if name.partition("/")[0] == "select")  # what is inside, too
    assert 0 < new < added["input"]
    answer = mistique.get(store, "homes/same@1/train/select").to_frame()
    assert answer["remainder__lat"].tolist() == homes["lat"].tolist()


def test_a_fit_again_adds_no_bytes(store: Store, homes: pd.DataFrame) -> None:
    for _ in range(2):
        pipeline(store).fit(homes[COLUMNS], homes["price"])
    assert all(nbytes == 0 for name, nbytes in new_nbytes(store, "homes/ridge@2").items() if name != "row_label")
    first, second = (mistique.get(store, f"homes/ridge@{n}/train/scale").to_frame() for n in (1, 2))
    assert first.equals(second)


def test_what_is_held_under_its_lineage_is_not_run(
    store: Store, homes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(store).fit(homes[COLUMNS], homes["price"])
    capture(pipe, homes[COLUMNS][:100], store=store, dataset="valid")

    def run(*_: Any) -> None:
        raise AssertionError("it was run")

    other = pipeline(store, model="homes/other")
    other.steps[-1] = ("ridge", Ridge(alpha=2.0))
    with monkeypatch.context() as patch:
        patch.setattr(StandardScaler, "transform", run)
        patch.setattr(Ridge, "predict", run)
        capture(pipe, homes[COLUMNS][:100], store=store, dataset="again")
        with pytest.raises(mistique.errors.MistiqueError):
            capture(pipe, homes[COLUMNS][:99], store=store, dataset="other rows")
    answers = [mistique.get(store, f"homes/ridge@1/{dataset}/prediction") for dataset in ("valid", "again")]
    assert answers[0].values.tobytes() == answers[1].values.tobytes()


def test_a_new_last_step_runs_over_stages_that_are_held(store: Store, homes: pd.DataFrame) -> None:
    X, y = homes[COLUMNS], homes["price"]
    pipe = pipeline(store).fit(X, y)
    capture(pipe, X, store=store, dataset="valid")
    scale = pipe.named_steps["scale"]
    changed = Pipeline([("scale", scale), ("ridge", Ridge(alpha=50.0).fit(scale.transform(X), y))])
    name = capture(changed, X, store=store, dataset="valid", model="homes/changed")
    assert new_nbytes(store, f"{name}/valid")["scale"] == 0
    assert np.array_equal(mistique.get(store, f"{name}/valid/prediction").values, changed.predict(X))
    (found,) = [c for c in store.catalog.captures() if c.prefix.startswith(f"{name}/")]
    assert found.intermediates["prediction"].recompute_difference is not None


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_candidates_of_a_grid_search_share_the_stages_before_the_one_that_differs(
    store: Store, homes: pd.DataFrame, n_jobs: int
) -> None:
    X, y = homes[COLUMNS], homes["price"]
    grid = {"ridge__alpha": [0.1, 1.0, 10.0]}
    search = GridSearchCV(pipeline(store), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, y)
    captures = store.catalog.captures()
    assert len(captures) == 7
    scales = [capture.intermediates["scale"].stored_nbytes for capture in captures]
    # In one process each of the two folds and the whole are stored once; two at once may both be first.
    assert sum(nbytes > 0 for nbytes in scales) in ([3] if n_jobs == 1 else range(3, 6))
    best = mistique.get(store, f"{captures[-1].prefix}/scale").values
    assert np.array_equal(best, search.best_estimator_[:-1].transform(X))


def test_two_processes_that_fit_at_once_leave_right_answers(store: Store, homes: pd.DataFrame) -> None:
    command = [sys.executable, "-c", OTHER_PROCESS, store.uri]
    running = [subprocess.Popen([*command, name], stdin=subprocess.PIPE, text=True) for name in ("a", "b")]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=120)
        assert process.returncode == 0
    expected = StandardScaler().fit_transform(homes[COLUMNS])
    for name in ("a", "b"):
        assert np.array_equal(mistique.get(store, f"homes/{name}@1/train/scale").values, expected)
    pipeline(store, model="homes/c").fit(homes[COLUMNS], homes["price"])
    assert new_nbytes(store, "homes/c@1")["scale"] == 0


def test_a_class_of_the_same_name_with_another_body_is_a_change(store: Store, homes: pd.DataFrame) -> None:
    body = """
class Own(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return np.asarray(X) * FACTOR
"""
    for factor in ("2.0", "3.0"):
        defined: dict[str, Any] = {"TransformerMixin": TransformerMixin, "BaseEstimator": BaseEstimator, "np": np}
        exec(body.replace("FACTOR", factor), defined)
        pipeline(store, model="homes/own", first=defined["Own"]()).fit(homes[COLUMNS], homes["price"])
    for number, factor in ((1, 2.0), (2, 3.0)):
        answer = mistique.get(store, f"homes/own@{number}/train/scale").values
        assert np.array_equal(answer, homes[COLUMNS].to_numpy() * factor)


def test_a_global_that_own_code_reads_is_a_change(
    store: Store, homes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(store, first=FunctionTransformer(times_a_global)).fit(homes[COLUMNS], homes["price"])
    monkeypatch.setitem(GLOBALS, "factor", 5.0)
    capture(pipe, homes[COLUMNS], store=store, dataset="after")
    for dataset, factor in (("train", 2.0), ("after", 5.0)):
        answer = mistique.get(store, f"homes/ridge@1/{dataset}/scale").to_frame()
        assert answer.equals(homes[COLUMNS] * factor)


def test_equal_values_of_own_code_are_referred_to_with_the_facts_of_this_capture(
    store: Store, homes: pd.DataFrame
) -> None:
    X, y = homes[COLUMNS].to_numpy(), homes["price"].to_numpy()
    for first in (Times(), Times(after=3.0), Times(prefix="z")):
        pipeline(store, first=first).fit(X, y)
    assert [new_nbytes(store, f"homes/ridge@{n}")["scale"] for n in (2, 3)] == [0, 0]
    found = [store.catalog.find(f"homes/ridge@{n}/train/scale")[1] for n in (1, 2, 3)]
    assert found[0].lineage == found[1].lineage
    assert [intermediate.recompute_difference for intermediate in found] == [0.0, None, 0.0]
    assert [intermediate.columns for intermediate in found] == [
        ("x0", "x1", "x2"),
        ("x0", "x1", "x2"),
        ("z0", "z1", "z2"),
    ]
