"""A store in an object store: a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiledb
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import mistique
from mistique.errors import StoreNotFoundError
from mistique.planner.calibration import Calibration
from mistique.queries.listing import listing
from mistique.sklearn import Pipeline
from mistique.store import Store
from tests.capturing import put, put_layer
from tests.integration.loopback import BUCKET, config_for, s3_server

pytest.importorskip("moto.server", reason="moto[server] is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def config(server: str) -> dict[str, str]:
    return config_for(server)


def test_captured_asked_and_listed_in_an_object_store(config: dict[str, str]) -> None:
    frame = pd.DataFrame({"a": np.arange(1100.0), "t": pd.array(["x", None] * 550, dtype="str")})
    layer = np.random.default_rng(0).normal(size=(1100, 8)).astype(np.float32)
    with mistique.open(f"s3://{BUCKET}/s.mistique", config=config) as store:
        key = put(store, frame, labels=[f"r{i}" for i in range(len(frame))])
        layer_key = put_layer(store, layer, model="lab/net", batch_rows=128)
        coded_key = put_layer(store, layer, model="lab/net", codec="power")
    with mistique.open(f"s3://{BUCKET}/s.mistique", mode="r", config=config) as reader:
        found = mistique.get(reader, key, rows=["r1099", "r0"])
        assert found.to_frame()["a"].tolist() == [1099.0, 0.0]
        assert found.to_frame()["t"].isna().tolist() == [True, False]
        assert mistique.get(reader, layer_key).values.tobytes() == layer.tobytes()
        coded = mistique.get(reader, coded_key)
        assert np.abs(coded.values - layer).max() <= coded.max_abs_error
        assert [c.version for c in listing(reader).captures] == ["lab/model@1", "lab/net@1", "lab/net@2"]


def test_nothing_at_an_address_of_an_object_store_is_no_store(config: dict[str, str]) -> None:
    with pytest.raises(StoreNotFoundError, match=f"s3://{BUCKET}/none"):
        mistique.open(f"s3://{BUCKET}/none", mode="r", config=config)


def test_two_openers_of_one_object_store_see_each_others_commits(config: dict[str, str]) -> None:
    first, second = (mistique.open(f"s3://{BUCKET}/two.mistique", config=config) for _ in range(2))
    one, two = put(first, np.array([1.0])), put(second, np.array([2.0]))
    assert [mistique.get(first, key).values.tolist() for key in (one, two)] == [[1.0], [2.0]]
    assert [mistique.get(second, key).values.tolist() for key in (one, two)] == [[1.0], [2.0]]


def test_a_store_in_an_object_store_is_compacted(config: dict[str, str]) -> None:
    uri, values = f"s3://{BUCKET}/compact.mistique", np.random.default_rng(0).normal(size=(3000, 2))
    with mistique.open(uri, config=config) as store, mistique.open(uri, mode="r", config=config) as reader:
        keys = [put(store, values + i, model=f"lab/{i}") for i in range(3)]
        dropped = put_layer(store, values.astype(np.float32), model="lab/net")
        assert mistique.get(reader, keys[0]).values.tobytes() == values.tobytes()
        store.drop(dropped)
        done = store.compact(grace_seconds=0)
        assert (done.n_segments_rewritten, done.n_segments_made, done.n_segments_removed) == (3, 1, 4)
        assert done.nbytes_after < done.nbytes_before
        for opened in (store, reader):
            found = [mistique.get(opened, key).values for key in keys]
            assert all(array.tobytes() == (values + i).tobytes() for i, array in enumerate(found))
        assert store.compact(grace_seconds=0).n_segments_removed == 0


def test_what_reads_take_over_s3_says_nothing_of_a_copy_on_a_disk_and_what_runs_take_does(
    config: dict[str, str], tmp_path: Path, homes: pd.DataFrame
) -> None:
    uri, key = f"s3://{BUCKET}/costs.mistique", "homes/ridge@1/train/scale"
    with mistique.open(uri, config=config, gamma_min=float("inf"), memory_nbytes=0) as store:
        pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/ridge")
        pipe.fit(homes[["sqft_living", "grade"]], homes["price"])
        expected = mistique.get(store, key).values
        store.drop(key)
        assert mistique.get(store, key).plan.chosen.road == "recompute"
    copy_of(uri, tmp_path / "costs.mistique", config)
    with mistique.open(uri, config=config) as remote, mistique.open(tmp_path / "costs.mistique") as local:
        model = f"homes/ridge {local.catalog.find(key)[0].version.run_id}\tscale"
        known = [[c.is_known("read", "raw table"), c.is_known("stage", model)] for c in costs_of(remote, local)]
        assert known == [[True, True], [False, True]]
        assert np.array_equal(mistique.get(local, key).values, expected)


def costs_of(*stores: Store) -> list[Calibration]:
    return [store.calibration for store in stores]


def copy_of(uri: str, path: Path, config: dict[str, str]) -> None:
    """Copy a store, file by file."""
    vfs = tiledb.VFS(ctx=tiledb.Ctx(config))
    for name in vfs.ls_recursive(uri):
        to = path / name.removeprefix(uri).lstrip("/")
        if vfs.is_file(name):
            to.parent.mkdir(parents=True, exist_ok=True)
            with vfs.open(name, "rb") as source:
                to.write_bytes(source.read())
