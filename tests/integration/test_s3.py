"""A store in an object store: a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import StoreNotFoundError
from mistique.queries.listing import listing
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
