"""The default codec: what it keeps exactly, what by power, and what not at all."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import mistique
from mistique.codecs import Auto, Power, Raw, resolve_codec
from mistique.errors import CaptureWarning, NoPlanError, UnknownCodecError
from mistique.planner.execute import execute
from mistique.storage.captures import Capture as Committed
from mistique.store import Store
from tests.capturing import capturing

MAPS = np.random.default_rng(0).normal(size=(50, 6, 4, 3)).astype(np.float32)
POOLED = MAPS.reshape(50, 3, 2, 2, 2, 3).max(axis=(2, 4))
POOL = {"op": "max_pool", "size": [2, 2], "strides": [2, 2], "padding": "valid", "not_finite": "lowest"}
RESHAPE = {"op": "reshape"}


def chain(store: Store, *, codec: Any = "auto", **of_maps: Any) -> Committed:
    """An input, feature maps, and what follows from them: pooled, then flattened."""
    with capturing(store, codec=codec) as capture:
        capture.append("input", MAPS + 1, role="input", parents=())
        capture.append("maps", MAPS, parents=("input",), **of_maps)
        capture.append("pooled", POOLED, parents=("maps",), derivation=POOL)
        capture.append("flat", POOLED.reshape(50, -1), parents=("pooled",), derivation=RESHAPE)
    return store.catalog.find("lab/model@latest/train/input")[0]


def test_auto_is_a_policy_that_has_its_name() -> None:
    assert resolve_codec("auto") == Auto() == resolve_codec(Auto())
    with pytest.raises(UnknownCodecError, match="one of auto, "):
        resolve_codec("zip")


def test_the_default_of_a_store_is_auto(store: Store) -> None:
    with store.capture(model="m", dataset="d", framework="none") as capture:
        capture.append("floats", MAPS)
        capture.append("halves", MAPS.astype(ml_dtypes.bfloat16))
        capture.append("classes", np.arange(50))
        capture.append("flags", MAPS[:, 0] > 0)
        capture.append("prediction", MAPS, role="prediction")
        capture.append("target", MAPS, role="target")
        capture.add("table", MAPS[:, 0, 0])
    nodes = store.catalog.find("m@1/d/floats")[0].intermediates
    power, raw = Power(bits=5).config(), Raw().config()
    assert {name: node.codec for name, node in nodes.items()} == {
        "floats": power,
        "halves": power,
        "classes": raw,
        "flags": raw,
        "prediction": raw,
        "target": raw,
        "table": raw,
    }


def test_what_follows_from_what_is_kept_is_not_stored_and_answered(store: Store) -> None:
    capture = chain(store)
    assert capture.stored == {"input", "maps"}
    for name, expected in (("pooled", POOLED), ("flat", POOLED.reshape(50, -1))):
        answer = mistique.get(store, f"lab/model@1/train/{name}")
        assert answer.plan.chosen.road == "derive from maps"
        assert np.abs(answer.values - expected).max() <= answer.max_abs_error < 0.5
        by_column, _ = execute(store, capture, capture.intermediates[name], by_column=True)
        assert np.array_equal(by_column.to_numpy(), answer.values)
    with pytest.raises(NoPlanError, match=r"derive from maps: maps is stored by the lossy codec power"):
        mistique.get(store, "lab/model@1/train/flat", exact=True)


def test_from_exactly_kept_maps_the_answer_is_exact(store: Store) -> None:
    with capturing(store, codec="auto") as capture:
        capture.append("maps", MAPS, parents=(), codec="raw")
        capture.append("pooled", POOLED, parents=("maps",), derivation=POOL)
        averages = MAPS.mean(axis=(1, 2))
        capture.append("mean", averages, parents=("maps",), derivation={"op": "global_average", "keepdims": False})
    answer = mistique.get(store, "lab/model@1/train/pooled", exact=True)
    assert np.array_equal(answer.values, POOLED)
    assert answer.max_abs_error == 0.0
    answer = mistique.get(store, "lab/model@1/train/mean")
    assert np.abs(answer.values - averages).max() <= answer.max_abs_error < 1e-5
    with pytest.raises(NoPlanError, match="an average is rounded in another order"):
        mistique.get(store, "lab/model@1/train/mean", exact=True)


def test_an_explicit_codec_keeps_everything(store: Store) -> None:
    assert chain(store, codec="raw").stored == {"input", "maps", "pooled", "flat"}


def test_what_follows_from_what_is_not_kept_is_stored(store: Store) -> None:
    assert chain(store, keep=False).stored == {"input", "pooled"}


def test_a_derived_prediction_is_stored(store: Store) -> None:
    with capturing(store, codec="auto") as capture:
        capture.append("maps", MAPS, parents=())
        capture.append("prediction", POOLED, parents=("maps",), role="prediction", derivation=POOL)
    assert np.array_equal(mistique.get(store, "lab/model@1/train/prediction", exact=True).values, POOLED)


def test_a_parent_that_failed_before_leaves_its_children_stored(store: Store) -> None:
    with (
        pytest.warns(CaptureWarning, match="maps was not stored"),
        capturing(store, codec="auto", on_error="warn") as capture,
    ):
        capture.append("maps", np.array([object()] * 50), parents=())
        capture.append("pooled", POOLED, parents=("maps",), derivation=POOL)
    assert np.abs(mistique.get(store, "lab/model@1/train/pooled").values - POOLED).max() < 0.5


def test_what_follows_from_a_parent_that_failed_later_is_left_out_with_a_warning(store: Store) -> None:
    with pytest.warns(CaptureWarning) as caught, capturing(store, codec="auto", on_error="warn") as capture:
        for start in (0, 25):
            capture.append("input", MAPS[start : start + 25] + 1, role="input", parents=())
            maps = MAPS[start : start + 25] if start == 0 else np.zeros((25, 9), np.float32)
            capture.append("maps", maps, parents=("input",))
            capture.append("pooled", POOLED[start : start + 25], parents=("maps",), derivation=POOL)
    said = [str(warning.message) for warning in caught]
    assert any("pooled was not stored: it follows from 'maps', which was not stored" in text for text in said)
    assert set(store.catalog.find("lab/model@1/train/input")[0].intermediates) == {"input"}


def test_under_one_lineage_what_was_left_out_is_recorded_again_and_answered(store: Store) -> None:
    with capturing(store, codec="auto") as capture:
        capture.append("maps", MAPS, parents=(), lineage="of maps")
        capture.append("pooled", POOLED, parents=("maps",), derivation=POOL, lineage="of pooled")
    with capturing(store, codec="auto") as capture:
        assert capture.reuse("maps", lineage="of maps", parents=())
        assert capture.reuse("pooled", lineage="of pooled", parents=("maps",))
    with capturing(store, codec="auto") as capture:
        assert not capture.reuse("pooled", lineage="of pooled", parents=("maps",))
        capture.append("input", MAPS)
    with capturing(store, codec="raw") as capture:
        assert not capture.reuse("pooled", lineage="of pooled", parents=("maps",))
        capture.append("input", MAPS)
    answer = mistique.get(store, "lab/model@2/train/pooled")
    assert np.abs(answer.values - POOLED).max() <= answer.max_abs_error


def test_what_is_held_exactly_is_good_enough_for_auto(store: Store) -> None:
    with capturing(store, codec="raw") as capture:
        capture.append("maps", MAPS, lineage="of maps")
        capture.add("table", MAPS[:, 0, 0], lineage="of table", codec="power")
    with capturing(store, codec="auto") as capture:
        assert capture.reuse("maps", lineage="of maps")
        assert not capture.reuse("table", lineage="of table")
    assert np.array_equal(mistique.get(store, "lab/model@2/train/maps", exact=True).values, MAPS)
