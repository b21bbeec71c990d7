"""Files that others read, and activations that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import CaptureError, QueryError
from mistique.store import Store
from tests.capturing import put, put_layer

GENERATOR = np.random.default_rng(0)
MAPS = GENERATOR.normal(size=(1500, 4, 4, 3)).astype(np.float32)
LABELS = pd.Index([f"row {i}" for i in range(1500)], name="id")


def test_a_frame_comes_back_from_parquet_with_its_types_and_row_labels(store: Store, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(9000), "b": ["x", None, "y"] * 3000}, index=[f"r{i}" for i in range(9000)])
    path = mistique.export(store, put(store, frame, labels=frame.index), path=tmp_path / "out.parquet")
    found = pd.read_parquet(path)
    assert found.index.tolist() == frame.index.tolist()
    assert found["a"].tolist() == frame["a"].tolist()
    assert found["b"].isna().tolist() == frame["b"].isna().tolist()


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_layer_comes_back_from_npy_in_its_shape(store: Store, tmp_path: Path, dtype: Any) -> None:
    key = put_layer(store, MAPS.astype(dtype))
    found = np.load(mistique.export(store, key, path=tmp_path / "out.npy"))
    assert found.dtype == np.float32
    assert np.array_equal(found, MAPS.astype(dtype).astype(np.float32))


def test_zarr_and_netcdf_hold_values_and_row_labels(store: Store, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    scipy_io = pytest.importorskip("scipy.io")
    mistique.add(store, {"conv": MAPS}, model="torch/net", dataset="valid", labels=LABELS, codec="raw")
    key = "torch/net@1/valid/conv"
    group = zarr.open_group(str(mistique.export(store, key, path=tmp_path / "out.zarr")), mode="r")
    assert np.array_equal(group["values"][:], MAPS)
    assert group["rows"][:3].tolist() == ["row 0", "row 1", "row 2"]
    with scipy_io.netcdf_file(mistique.export(store, key, path=tmp_path / "out.nc"), mmap=False) as file:
        assert np.array_equal(file.variables["values"][:], MAPS)
        assert b"".join(file.variables["rows"][7]).rstrip(b"\0") == b"row 7"


def test_what_was_made_elsewhere_answers_the_questions(store: Store, tmp_path: Path) -> None:
    truth = GENERATOR.integers(0, 2, 1500)
    np.savez(tmp_path / "net.npz", conv=MAPS, target=truth, prediction=1 - truth)
    name = mistique.add(store, tmp_path / "net.npz", model="torch/net", dataset="valid", labels=LABELS)
    np.save(tmp_path / "head.npy", MAPS.reshape(1500, -1))
    again = mistique.add(store, tmp_path / "head.npy", name="head", model="torch/net", dataset="valid", version="1")
    assert name == again == "torch/net@1"
    top = mistique.topk(store, "torch/net@1/valid/head", unit=5, k=3, exact=False)
    assert set(top.rows) <= set(LABELS)
    assert mistique.get(store, "torch/net@1/valid/prediction", rows=["row 9"]).values.tolist() == [1 - truth[9]]
    wrong = mistique.col_diff(store, "torch/net@1/valid/prediction", other="torch/net@1/valid/prediction")
    assert wrong.values[0, 1] == 1.0
    assert mistique.get(store, "torch/net@1/valid/conv", rows=["row 3"]).values.shape == (1, 4, 4, 3)


def test_a_version_is_added_to_and_never_overwritten(store: Store) -> None:
    for version in ("new", "new"):
        mistique.add(store, {"a": MAPS}, model="torch/net", dataset="valid", version=version)
    mistique.add(store, {"b": MAPS + 1}, model="torch/net", dataset="test", version="2", codec="raw")
    assert [f"{c.number} {c.dataset}" for c in store.catalog.captures()] == ["1 valid", "2 valid", "2 test"]
    with pytest.raises(CaptureError, match="has a already: add a new version"):
        mistique.add(store, {"a": MAPS}, model="torch/net", dataset="valid", version="2")
    with pytest.raises(CaptureError, match="'c' has 9 rows, expected 1500"):
        mistique.add(store, {"c": MAPS[:9]}, model="torch/net", dataset="valid", version="2")


def test_what_cannot_be_read_or_written_is_said(store: Store, tmp_path: Path) -> None:
    key = put(store, pd.DataFrame({"a": ["x", "y"]}))
    with pytest.raises(QueryError, match="columns of text or of several types"):
        mistique.export(store, key, path=tmp_path / "out.npy")
    with pytest.raises(QueryError, match=r"ends in .parquet, .npy, .nc, .zarr; got 'out.csv'"):
        mistique.export(store, key, path=tmp_path / "out.csv")
    with pytest.raises(CaptureError, match="found none"):
        mistique.add(store, tmp_path / "none.npy", name="a", model="a/b", dataset="x")


@pytest.mark.parametrize(("model", "dataset"), [("net@1", "valid"), ("", "valid"), ("torch/net", "a/b")])
def test_what_could_not_be_asked_for_by_its_name_is_not_taken(store: Store, model: str, dataset: str) -> None:
    with pytest.raises(CaptureError, match=r"expected (the|a) name"):
        mistique.add(store, {"conv": MAPS}, model=model, dataset=dataset)
    assert store.catalog.captures() == []


def test_a_tensor_is_taken_as_it_is(store: Store) -> None:
    class Tensor:
        """As PyTorch's: it leaves its graph and its device first."""

        def detach(self) -> Tensor:
            return self

        def cpu(self) -> Tensor:
            return self

        def numpy(self) -> np.ndarray:
            return MAPS

    mistique.add(store, {"conv": Tensor()}, model="torch/net", dataset="valid", codec="raw")
    assert np.array_equal(mistique.get(store, "torch/net@1/valid/conv").values, MAPS)
