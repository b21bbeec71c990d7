"""What users of other tools complain of, symptom by symptom, where no other test holds it already."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.pipeline
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import mistique
from mistique.sklearn import Pipeline, capture
from mistique.sklearn.content import content_digest
from mistique.store import Store

NUMBERS = ["sqft_living", "grade", "lat"]


class Named(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """A step whose columns are those that came in."""

    def fit(self, X: Any, y: Any = None) -> Named:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return X * 2


class Nameless(TransformerMixin, BaseEstimator):
    """A step that knows of no names."""

    def fit(self, X: Any, y: Any = None) -> Nameless:
        return self

    def transform(self, X: Any) -> Any:
        return X.toarray()[:, :3]


def test_nobody_shows_what_the_data_are_after_each_step(store: Store, homes: pd.DataFrame) -> None:
    steps = [("scale", StandardScaler()), ("same", "passthrough"), ("pca", PCA(2)), ("model", LogisticRegression())]
    pipe = Pipeline(steps).set_capture(store, model="homes/x").fit(homes[NUMBERS][:1000], homes["grade"][:1000] > 8)
    test = homes[NUMBERS][1000:]
    capture(pipe, test, store=store, dataset="test")
    for dataset, rows in (("train", homes[NUMBERS][:1000]), ("test", test)):
        for i, name in enumerate(["scale", "same", "pca"], start=1):
            found = mistique.get(store, f"homes/x@1/{dataset}/{name}").values
            assert np.array_equal(found, pipe[:i].transform(rows))
        found = mistique.get(store, f"homes/x@1/{dataset}/predict_proba").values
        assert np.array_equal(found, pipe.predict_proba(rows))


def test_the_last_step_is_never_cached_and_users_find_out_by_timing(store: Store, homes: pd.DataFrame) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/x")
    pipe.fit(homes[NUMBERS], homes["price"])
    plan = mistique.explain(store, "homes/x@1/train/prediction", rows=slice(0, 9))
    assert next(c.road for c in plan.candidates if c.is_possible) == "read"
    assert mistique.get(store, "homes/x@1/train/prediction").max_abs_error == 0.0


SCRIPT = """
import sys, warnings
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer
import mistique
from mistique.sklearn import Pipeline

class Tripled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self
    def transform(self, X):
        return X * 3

X = np.arange(120.0).reshape(60, 2)
store = mistique.open(sys.argv[1])
pipe = Pipeline([("mine", Tripled()), ("odd", FunctionTransformer(lambda x: x + 1)), ("ridge", Ridge())])
pipe.set_capture(store, model="main/mine")
GridSearchCV(pipe, {"ridge__alpha": [1.0, 9.0]}, cv=2, n_jobs=2).fit(X, X[:, 0])
store.drop("main/mine@5/train/odd")
found = mistique.get(store, "main/mine@5/train/odd")
assert np.array_equal(found.values, X * 3 + 1), found.values[:3]
assert found.plan.chosen.road.startswith("recompute")
"""


@pytest.mark.supported(
    "lambdas, classes from `__main__`", "captured and run again by who captured them; by others with `trust`"
)
def test_a_step_from_main_is_captured_by_every_worker_and_run_again_by_its_owner(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "error::UserWarning", str(script), store.uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-2000:]
    captures = store.catalog.captures()
    assert len(captures) == 5
    assert {name for c in captures for name in c.intermediates} >= {"mine", "odd", "prediction"}
    assert all("runs it only with trust" in c.version.artifact_note for c in captures)


def test_sparse_inside_and_frames_outside_fail_as_they_do_without_capture(store: Store, homes: pd.DataFrame) -> None:
    outcomes = []
    for kind in (sklearn.pipeline.Pipeline, Pipeline):
        encode = ColumnTransformer([("zip", OneHotEncoder(), ["zipcode"])], remainder="drop")
        pipe = kind([("encode", encode), ("ridge", Ridge())]).set_output(transform="pandas")
        if kind is Pipeline:
            pipe.set_capture(store, model="homes/x")
        with pytest.raises(ValueError, match=r"[Ss]parse") as told:
            pipe.fit(homes, homes["price"])
        outcomes.append((type(told.value), str(told.value)))
    assert outcomes[0] == outcomes[1]
    assert store.catalog.captures() == []


def test_names_of_features_are_lost_in_the_middle(store: Store) -> None:
    texts = ["the cat sat", "a dog ran", "the dog sat down"] * 10
    steps = [
        ("weigh", TfidfVectorizer()),
        ("named", Named()),
        ("nameless", Nameless()),
        ("model", LogisticRegression()),
    ]
    Pipeline(steps).set_capture(store, model="texts/x").fit(texts, np.arange(30) % 2)
    key = "texts/x@1/train/"
    words = ("cat", "dog", "down", "ran", "sat", "the")
    assert mistique.get(store, key + "weigh").columns == mistique.get(store, key + "named").columns == words
    assert mistique.get(store, key + "nameless").columns == ("0", "1", "2")


def test_eight_million_small_results_make_the_directory_the_bottleneck(store: Store) -> None:
    wide = np.random.default_rng(0).integers(0, 200, (1_100, 2_600), np.uint8)
    capture(StandardScaler().fit(wide[:9]), wide, store=store, dataset="x", model="a/wide")
    n_chunks = sum(
        node.n_columns * node.n_blocks for c in store.catalog.captures() for node in c.intermediates.values()
    )
    n_files = sum(len(files) for _, _, files in os.walk(store.uri))
    assert n_chunks >= 10_000
    assert n_files < 200


def test_a_file_written_as_one_type_is_read_as_another_and_its_rows_are_shuffled(store: Store) -> None:
    order = np.random.default_rng(0).permutation(5000)
    for dtype in (np.float16, np.float32):
        values = (order[:, None] / 7).astype(dtype)
        mistique.add(store, {"x": values}, model=f"a/{values.dtype}", dataset="train", labels=order, codec="raw")
        found = mistique.get(mistique.open(store.uri, mode="r"), f"a/{values.dtype}@1/train/x")
        assert found.values.dtype == dtype
        assert np.array_equal(found.values, values)
        assert found.rows.tolist() == order.tolist()


class Unprinted(pd.DataFrame):
    """A frame that nobody may turn into text."""

    @property
    def _constructor(self) -> Any:
        return Unprinted

    def __repr__(self) -> str:
        raise AssertionError("the data were printed")


def test_to_hash_the_input_costs_more_than_the_work_and_prints_it(store: Store, homes: pd.DataFrame) -> None:
    # joblib 683, 343, 822, 1370. That a digest takes at most twice a reading is `bench.kernels`.
    gigabyte = np.zeros((6_250_000, 20))  # of which the system holds one page until somebody writes
    content_digest(gigabyte[:9])
    tracemalloc.start()
    try:
        assert content_digest(gigabyte)
        assert tracemalloc.get_traced_memory()[1] < gigabyte.nbytes / 50
    finally:
        tracemalloc.stop()
    rows = Unprinted(homes[NUMBERS])
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/x")
    pipe.fit(rows, homes["price"])
    assert np.array_equal(mistique.get(store, "homes/x@1/train/input").values, homes[NUMBERS].to_numpy())


FITS = """
import sys
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
import mistique
from mistique.data import load_homes
from mistique.sklearn import Pipeline
X = load_homes()[["sqft_living", "grade", "lat"]][:1500]
store = mistique.open(sys.argv[1])
pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/x", on_error="raise")
sys.stdin.readline()
pipe.fit(X, X["grade"])
"""


@pytest.mark.slow
def test_parallel_callers_corrupt_the_cache_or_miss_it_for_ever(store: Store, homes: pd.DataFrame) -> None:
    # joblib 490, 1046, 73. Two: each takes six seconds to start.
    command = [sys.executable, "-c", FITS, store.uri]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        process.communicate("go\n", timeout=120)
    assert [process.returncode for process in running] == [0] * 2
    expected = StandardScaler().fit_transform(homes[NUMBERS])
    for version in range(1, 3):
        assert np.array_equal(mistique.get(store, f"homes/x@{version}/train/scale").values, expected)
    store.compact(grace_seconds=0)
    store.gc(grace_seconds=0)
    segments = [p for p in Path(store.uri, "segments").iterdir() if len(p.name) == 32]
    assert len(segments) == 1
    for version in range(1, 3):
        assert np.array_equal(mistique.get(store, f"homes/x@{version}/train/scale").values, expected)


@pytest.mark.supported("XGBoost, LightGBM as the last step", "the prediction, run again")
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.filterwarnings("ignore")
def test_boosters_of_other_libraries_are_captured_and_run_again(
    store: Store, homes: pd.DataFrame, library: str
) -> None:
    module = pytest.importorskip(library)
    kind, options = {"xgboost": ("XGBRegressor", {}), "lightgbm": ("LGBMRegressor", {"verbose": -1})}[library]
    model = getattr(module, kind)(n_estimators=5, n_jobs=1, **options)
    pipe = Pipeline([("scale", StandardScaler()), ("model", model)]).set_output(transform="pandas")
    pipe.set_capture(store, model="homes/x").fit(homes[NUMBERS], homes["price"])
    key = "homes/x@1/train/prediction"
    assert np.array_equal(mistique.get(store, key).values, pipe.predict(homes[NUMBERS]))
    store.drop(key)
    again = mistique.get(store, key)
    assert again.plan.chosen.road.startswith("recompute")
    assert np.allclose(again.values, pipe.predict(homes[NUMBERS]), rtol=1e-5)


@pytest.mark.supported("callbacks of scikit-learn 1.9", "called as without capture")
def test_callbacks_are_called_as_without_capture(store: Store, homes: pd.DataFrame) -> None:
    callback = pytest.importorskip("sklearn.callback")
    del callback
    told: list[list[str]] = []

    class Told:
        """Notes what it is told."""

        max_propagation_depth = None

        def __init__(self) -> None:
            told.append([])

        def setup(self, estimator: Any, context: Any) -> None:
            told[-1].append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            told[-1].append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any, **given: Any) -> None:
            told[-1].append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator: Any, context: Any, **given: Any) -> bool:
            told[-1].append(f"end {context.task_name}")
            return False

    for is_captured in (False, True):
        pipe = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())]).set_callbacks(Told())
        if is_captured:
            pipe.set_capture(store, model="homes/x")
        pipe.fit(homes[NUMBERS], homes["grade"] > 8)
    assert len(told[0]) > 4
    assert told[0] == told[1]
    assert len(store.catalog.captures()) == 1
