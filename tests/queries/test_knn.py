"""KNN against a plain loop and against scikit-learn, its bound, its memory, and what may ask."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import ModelMismatchError, NoPlanError, QueryError
from mistique.queries import portions
from mistique.queries.row_distances import DISTANCES
from mistique.store import Store
from tests.capturing import put, put_layer
from tests.reference import diagnosis as oracle


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("cells_at_once", [1, 10**9])
def test_neighbours_equal_the_oracle_with_ties(
    store: Store, monkeypatch: pytest.MonkeyPatch, distance: str, cells_at_once: int
) -> None:
    monkeypatch.setattr(portions, "CELLS_AT_ONCE", cells_at_once)
    values = np.random.default_rng(0).integers(0, 4, (1300, 5)).astype(np.float32)
    answer = mistique.knn(store, put_layer(store, values), position=1100, k=30, distance=distance)
    rows = values.tolist()
    found = [oracle.distance(rows[i], rows[1100], distance) for i in answer.rows]
    np.testing.assert_allclose(answer.values, found, atol=1e-12)
    expected = [oracle.distance(rows[i], rows[1100], distance) for i in oracle.nearest_rows(rows, 1100, 30, distance)]
    np.testing.assert_allclose(answer.values, expected, atol=1e-12)
    if distance != "cosine":  # whose ties are told apart by rounding alone
        assert answer.rows.tolist() == oracle.nearest_rows(rows, 1100, 30, distance)


@pytest.mark.parametrize("distance", DISTANCES)
def test_neighbours_equal_those_of_scikit_learn(store: Store, distance: str) -> None:
    from sklearn.neighbors import NearestNeighbors

    values = np.random.default_rng(1).normal(size=(700, 3, 2, 4)).astype(np.float32)
    answer = mistique.knn(store, put_layer(store, values), row=5, k=9, distance=distance)
    flat = values.reshape(700, -1).astype(np.float64)
    peer = NearestNeighbors(n_neighbors=10, metric=distance, algorithm="brute").fit(flat)
    distances, rows = peer.kneighbors(flat[5:6])
    assert answer.rows.tolist() == rows[0, 1:].tolist()
    np.testing.assert_allclose(answer.values, distances[0, 1:], rtol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_every_distance_is_within_its_bound(store: Store, distance: str, spread: float) -> None:
    values = (2 + spread * np.random.default_rng(0).normal(size=(400, 30))).astype(np.float32)
    answer = mistique.knn(store, put_layer(store, values, codec="power"), row=0, k=50, distance=distance)
    rows = values.astype(np.float64).tolist()
    exact = [oracle.distance(rows[i], rows[0], distance) for i in answer.rows]
    error = np.abs(answer.values - exact).max()
    assert 0 < error <= answer.max_abs_error < np.inf
    assert "each distance within" in repr(answer)


def test_columns_and_units_can_be_chosen(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(100, 2, 3, 4)).astype(np.float32)
    answer = mistique.knn(store, put_layer(store, values), row=7, k=5, unit=[2])
    assert answer.rows.tolist() == oracle.nearest_rows(values[..., 2].reshape(100, -1).tolist(), 7, 5, "euclidean")


def test_a_row_is_asked_by_its_label_and_never_its_own_neighbour(store: Store) -> None:
    frame = pd.DataFrame({"name": ["p", "q", "r"], "x": [1.0, 1.0, 5.0]}, index=["a", "b", "c"])
    answer = mistique.knn(store, put(store, frame, labels=frame.index), row="b", k=10)
    assert (answer.rows.tolist(), answer.values.tolist()) == (["a", "c"], [0.0, 4.0])
    assert (answer.query, answer.query_position, answer.left_out) == ("b", 1, ("name",))
    assert answer.positions.tolist() == [0, 2]


def test_rows_with_nan_come_last_and_cannot_ask(store: Store) -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0, np.nan], "y": [0.0, 0.0, 0.0, 0.0]})
    key = put(store, frame)
    answer = mistique.knn(store, key, row=0)
    assert answer.rows.tolist() == [2, 1, 3]
    np.testing.assert_array_equal(answer.values, [2.0, np.nan, np.nan])
    with pytest.raises(QueryError, match="no value in x: choose other columns"):
        mistique.knn(store, key, row=1)
    assert mistique.knn(store, key, row=1, columns="y", k=1).rows.tolist() == [0]


def test_a_new_row_asks_any_stage_of_a_pipeline(store: Store, homes: pd.DataFrame) -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    from mistique.sklearn import Pipeline

    X, y = homes[["sqft_living", "grade", "lat", "long"]], homes["price"]
    steps = [("scale", StandardScaler()), ("pca", PCA(2)), ("ridge", Ridge())]
    Pipeline(steps).set_capture(store, model="homes/ridge").fit(X, y)
    for stage in ("input", "scale", "pca", "prediction"):
        key = f"homes/ridge@1/train/{stage}"
        known = mistique.knn(store, key, position=40, k=5)
        for example in (X.iloc[[40]], X.iloc[40], X.iloc[40].to_dict()):
            new = mistique.knn(store, key, example=example, k=6)
            # A row that was captured is its own nearest.
            assert new.values[0] == pytest.approx(0, abs=1e-9)
            np.testing.assert_allclose(new.values[1:], known.values, rtol=1e-6, atol=1e-9)
    assert (new.query, new.query_plan) == (None, None)
    assert "a new example" in repr(new)
    with pytest.raises(ModelMismatchError, match="none of lat, long"):
        mistique.knn(store, key, example={"sqft_living": 1, "grade": 2})
    with pytest.raises(ModelMismatchError, match="2 rows"):
        mistique.knn(store, key, example=X.iloc[:2])


def test_what_was_captured_without_its_model_cannot_be_run_on_a_new_row(store: Store) -> None:
    with pytest.raises(NoPlanError, match="the model was not kept"):
        mistique.knn(store, put_layer(store, np.zeros((3, 2), np.float32)), example=[0.0, 0.0])


BAD = {
    "k": ({"row": 0, "k": 0}, "k: expected"),
    "distance": ({"row": 0, "distance": "hamming"}, "distance: expected one of euclidean"),
    "nobody asks": ({}, "give one of row="),
    "two ask": ({"row": 0, "position": 0}, "give one of row="),
    "position": ({"position": 9}, "from -3 to 2"),
    "text": ({"row": 0, "columns": "t"}, "t holds str"),
}


@pytest.mark.parametrize(("asked", "says"), BAD.values(), ids=BAD.keys())
def test_a_question_that_makes_no_sense_is_refused(store: Store, asked: dict[str, object], says: str) -> None:
    key = put(store, pd.DataFrame({"x": [1.0, 2.0, 3.0], "t": ["a", "b", "c"]}))
    with pytest.raises(QueryError, match=says):
        mistique.knn(store, key, **asked)


@pytest.mark.slow
def test_a_layer_is_searched_in_a_fraction_of_its_memory(tmp_path: Path) -> None:
    # The batches repeat, so that they are stored once; they are read and searched one by one all the same. A layer of
    # 3 GB within 1 GB by `python -m bench.queries memory`.
    script = """
        import json, sys
        import numpy as np
        import mistique
        from bench.harness import peak_nbytes
        from tests.capturing import capturing

        path, doing = sys.argv[1:]
        store = mistique.open(path)
        if doing == "capture":
            batch = np.random.default_rng(0).integers(0, 9, (1024, 4096)).astype(np.float32)
            with capturing(store, codec="raw", batch_rows=1024) as capture:
                for _ in range(23):
                    capture.append("layer", batch)
                capture.append("layer", batch + np.float32(1))
            print("0")
        else:
            mistique.get(store, "lab/model@1/train/layer", rows=[0])
            before = peak_nbytes()
            answer = mistique.knn(store, "lab/model@1/train/layer", position=3, k=23)
            print(json.dumps([answer.rows.tolist(), answer.values.tolist(), peak_nbytes() - before]))
    """
    found = None
    for doing in ("capture", "search"):
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "s.mistique"), doing]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
    rows, distances, grown_nbytes = found
    assert rows == [*range(1027, 23 * 1024, 1024), 23 * 1024 + 3]
    assert distances == [0.0] * 22 + [64.0]
    layer_nbytes = 24 * 1024 * 4096 * 4
    assert grown_nbytes < layer_nbytes / 2, (
        f"{grown_nbytes / 1e6:.0f} MB more for a layer of {layer_nbytes / 1e6:.0f} MB"
    )


@pytest.mark.parametrize("cells_at_once", [1, 10**9])
def test_by_an_index_the_neighbours_are_those_of_the_chunks(
    store: Store, monkeypatch: pytest.MonkeyPatch, cells_at_once: int
) -> None:
    monkeypatch.setattr(sys.modules["mistique.queries.portions"], "CELLS_AT_ONCE", cells_at_once)
    values = np.maximum(np.random.default_rng(3).normal(size=(2500, 2, 2, 40)), 0).round(1).astype(np.float32)
    values[7, 0, 0, 5] = np.nan
    key = put_layer(store, values, codec="power")
    asked = [{"position": 3, "columns": [1, 9, 60]}, {"row": 2400, "unit": [2, 7], "distance": "cosine"}]
    expected = [mistique.knn(store, key, k=12, **which) for which in asked]
    mistique.index(store, key, max_share=10.0)
    for before, which in zip(expected, asked, strict=True):
        found = mistique.knn(store, key, k=12, **which)
        assert found.positions.tolist() == before.positions.tolist()
        assert found.values.tobytes() == before.values.tobytes()
        assert found.max_abs_error >= before.max_abs_error  # an index knows the bound of all of the layer
        assert (found.query, found.query_plan.key) == (before.query, before.query_plan.key)
    with pytest.raises(QueryError, match="NaN"):
        mistique.knn(store, key, position=7, unit=5)
