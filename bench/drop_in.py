"""Is our Pipeline scikit-learn's: its own tests, what it costs where nothing is captured, a search captured whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import sklearn
import sklearn.pipeline
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import mistique
from bench.harness import Report, Road, Scratch, interleaved, nbytes_of, run
from mistique.sklearn import Pipeline
from mistique.sklearn.examples import homes_split
from mistique.store import Store

_TESTS = Path(__file__).parent.parent / "tests" / "sklearn"
_NUMBERS = ["bedrooms", "bathrooms", "sqft_living", "sqft_lot", "floors", "view", "condition", "grade", "lat", "long"]


def own(report: Report, scratch: Scratch) -> None:
    """scikit-learn's tests of Pipeline, every pipeline in them being ours and captured."""
    module = Path(sklearn.__file__).parent / "tests" / "test_pipeline.py"
    store = scratch.path("own.mistique")
    command = [
        *(sys.executable, "-m", "pytest", str(module), "-q", "-p", "own_suite_plugin", "-p", "no:cacheprovider"),
        *("-c", os.devnull, "--rootdir", str(store.parent), "-W", "ignore::mistique.errors.CaptureWarning"),
        *(("-k", "pipeline_fit or pipeline_transform") if report.is_quick else ()),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")]),
        "MISTIQUE_OWN_SUITE_STORE": str(store),
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=store.parent, env=environment, check=False)
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    n_run = counts.get("passed", 0) + counts.get("failed", 0) + counts.get("error", 0)
    report.facts["counts"] = counts
    report.add(
        "share of scikit-learn's own tests of Pipeline that pass",
        counts.get("passed", 0) / max(n_run, 1),
        bar=1.0,
        unit="",
        is_high_better=True,
    )


def plain(report: Report, scratch: Scratch) -> None:
    """Fit and predict without `set_capture`, on few rows, so that what is ours shows."""
    X, _, y, _ = homes_split(500)
    n_fits = 20 if report.is_quick else 100

    def fits(kind: Any) -> Any:
        def run_all(_: Any) -> None:
            for _ in range(n_fits):
                pipe = kind([("fill", SimpleImputer()), ("scale", StandardScaler()), ("ridge", Ridge())])
                pipe.fit(X[_NUMBERS], y).predict(X[_NUMBERS])

        return run_all

    roads = {"ours": Road(fits(Pipeline)), "theirs": Road(fits(sklearn.pipeline.Pipeline))}
    timings = interleaved(roads, n_rounds=3 if report.is_quick else 21)
    report.facts["seconds"] = timings.medians()
    report.add("fit and predict without set_capture, ours / scikit-learn's", timings.ratios("ours", "theirs"), bar=1.02)


def search(report: Report, scratch: Scratch) -> None:
    """A grid search of boosted trees, whose candidates share the preparation, on two processes."""
    n_rows = 3_000 if report.is_quick else 16_000
    X, _, y, _ = homes_split(n_rows)
    grid: dict[str, list[Any]] = {
        "model__learning_rate": [0.03, 0.1] if report.is_quick else [0.02, 0.05, 0.1, 0.2, 0.3],
        "model__max_leaf_nodes": [15, 31] if report.is_quick else [7, 15, 31, 63],
        "model__l2_regularization": [0.0] if report.is_quick else [0.0, 1.0],
    }
    n_candidates = len(grid["model__learning_rate"]) * len(grid["model__max_leaf_nodes"])
    n_candidates *= len(grid["model__l2_regularization"])
    first = {name: values[:1] for name, values in grid.items()}
    stores: list[Path] = []

    def captured(asked: dict[str, list[Any]]) -> Path:
        path = scratch.path("search.mistique")
        with mistique.open(path) as store:
            _search(store, X, y, asked)
        return path

    # Compiled kernels and worker processes are there before either is measured.
    _search(None, X, y, first)
    one = nbytes_of(captured(first))
    roads = {
        "captured": Road(lambda _: stores.append(captured(grid))),
        "plain": Road(lambda _: _search(None, X, y, grid)),
    }
    # One round: each is 121 fits.
    timings = interleaved(roads, n_rounds=1, n_warm_up=0)
    report.facts["seconds"] = timings.medians()
    report.add(f"{n_candidates} candidates, n_jobs=2: captured / plain", timings.ratios("captured", "plain"), bar=1.3)
    differing = _differing_nbytes(stores[-1], n_first=3 + 1)
    whole = nbytes_of(stores[-1])
    report.facts |= {"whole_nbytes": whole, "one_candidate_nbytes": one, "differing_nbytes": differing}
    report.add("bytes / (one candidate's and the differing stages')", whole / (one + differing), bar=1.5)
    report.notes.append("differing: predictions and kept models of all fits but those of one candidate and the refit.")


def _search(store: Store | None, X: Any, y: Any, grid: dict[str, list[Any]]) -> None:
    numbers = sklearn.pipeline.Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    prepare = ColumnTransformer([("num", numbers, _NUMBERS), ("zip", encode, ["zipcode"])])
    pipe = Pipeline([("prepare", prepare), ("model", HistGradientBoostingRegressor(random_state=0))])
    if store is not None:
        pipe.set_capture(store, model="homes/search")
    GridSearchCV(pipe, grid, cv=3, n_jobs=2).fit(X, y)


def _differing_nbytes(path: Path, *, n_first: int) -> int:
    """What predictions and models of all fits but the first few take."""
    with mistique.open(path, mode="r") as store:
        captures = store.catalog.captures()
        predictions = [capture.intermediates["prediction"].stored_nbytes for capture in captures]
        models = {capture.version.artifact: capture.version.artifact_nbytes for capture in captures}
    share = 1 - n_first / len(captures)
    return int(share * (sum(predictions) + sum(models.values())))


if __name__ == "__main__":
    sys.exit(run("drop_in", __doc__, {"own": own, "plain": plain, "search": search}))
