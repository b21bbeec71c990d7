"""Answers in other libraries: xarray with named dimensions, and whatever reads Arrow."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pandas as pd
import pyarrow
import pytest

import mistique
from mistique.errors import MissingExtraError
from mistique.store import Store
from tests.capturing import capturing, put, put_layer


@pytest.fixture
def key(store: Store) -> str:
    """A model of two datasets with a target; the key of one."""
    rng = np.random.default_rng(0)
    for dataset in ("train", "valid"):
        given = pd.DataFrame({"sqft": rng.normal(size=80), "zone": pd.array(["n", "s"] * 40, dtype="str")})
        with capturing(store, dataset=dataset, run_id="one") as capture:
            capture.set_labels([f"r{i}" for i in range(80)])
            capture.add("input", given, role="input")
            capture.add("target", rng.normal(size=80), role="target")
            capture.add("prediction", rng.normal(size=80), role="prediction")
    return "lab/model@1/train"


def test_arrow_has_the_labels_and_the_types_that_were_captured(store: Store, key: str) -> None:
    answer = mistique.get(store, f"{key}/input", rows=["r3", "r1"])
    back = pd.DataFrame.from_arrow(answer)
    assert back.columns.tolist() == ["row", "sqft", "zone"]
    assert back["row"].tolist() == ["r3", "r1"]
    pd.testing.assert_frame_equal(back[["sqft", "zone"]], answer.to_frame().reset_index(drop=True))


def test_arrow_takes_odd_names_types_and_labels(store: Store) -> None:
    frame = pd.DataFrame({"row": [1, 2], "when": pd.to_datetime(["2020-01-01", None])})
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])
    table = pyarrow.table(mistique.get(store, put(store, frame, labels=index)))
    assert table.column_names == ["x", "level_1", "row", "when"]
    named = pyarrow.table(mistique.get(store, put(store, frame)))
    assert named.column_names == ["row_", "row", "when"]
    trace = mistique.trace(store, put(store, pd.DataFrame({"n": [1.5], "t": ["a"]})).rpartition("/")[0], row=0)
    assert pyarrow.table(trace).to_pydict() == {"stage": ["stage"] * 2, "column": ["n", "t"], "0": ["1.5", "a"]}


def test_xarray_names_the_dimensions_of_feature_maps(store: Store) -> None:
    key = put_layer(store, np.random.default_rng(0).random((6, 3, 4, 5), np.float32))
    whole = mistique.get(store, key).to_xarray()
    assert (whole.dims, whole.sizes["width"]) == (("row", "height", "width", "unit"), 4)
    some = mistique.get(store, key, unit=[4, 2], rows=[1, 3]).to_xarray()
    assert (some["unit"].values.tolist(), some["row"].values.tolist()) == ([4, 2], [1, 3])
    np.testing.assert_array_equal(some.sel(row=3, unit=2).values, whole.sel(row=3, unit=2).values)
    assert mistique.get(store, key, columns=[0, 7]).to_xarray().dims == ("row", "column")
    assert mistique.get(store, put_layer(store, np.zeros((2, 7, 3)))).to_xarray().dims == ("row", "step", "unit")
    assert mistique.get(store, put_layer(store, np.zeros((2, 3)))).to_xarray().dims == ("row", "unit")


def test_xarray_names_what_an_answer_is_over(store: Store, key: str) -> None:
    assert mistique.col_dist(store, f"{key}/prediction", by="zone").to_xarray().dims == ("group", "bin")
    worst = mistique.slices(store, key, min_rows=10)
    assert worst.to_xarray().sel(figure="rows").values.tolist() == worst.values[:, 0].tolist()
    labels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    assert mistique.get(store, put(store, np.arange(2.0), labels=labels)).to_xarray()["row"].values.tolist() == [
        "('a', 1)",
        "('b', 2)",
    ]


@pytest.mark.parametrize(("package", "says"), [("xarray", r"mistique\[xarray\]"), ("pyarrow", r"mistique\[all\]")])
def test_a_library_that_is_missing_is_named_with_what_to_install(
    store: Store, key: str, monkeypatch: pytest.MonkeyPatch, package: str, says: str
) -> None:
    answer = mistique.topk(store, f"{key}/prediction")
    # None: importing it raises, as if it were not installed.
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=says):
        answer.to_xarray() if package == "xarray" else answer.__arrow_c_stream__()
    assert issubclass(MissingExtraError, builtins.ImportError)
