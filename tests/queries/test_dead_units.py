"""Units that never or always fire, and which layers and epochs a key with globs names."""

from __future__ import annotations

import numpy as np
import pytest

import mistique
from mistique.errors import IntermediateNotFoundError, QueryError
from mistique.queries.patterns import find_all
from mistique.store import Store
from tests.capturing import capturing, put, put_layer


def activations(n_rows: int = 1_200, seed: int = 0) -> np.ndarray:
    """Feature maps of five units: the first never fires, the last always does, the others sometimes."""
    maps = np.maximum(np.random.default_rng(seed).normal(size=(n_rows, 3, 4, 5)), 0).astype(np.float32)
    maps[..., 0] = 0
    maps[..., 4] += 0.1
    return maps


@pytest.mark.parametrize("codec", ["raw", "power", "kbit"])
def test_units_that_never_and_always_fire_are_named_whatever_the_codec(
    store: Store, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mistique.queries.portions.CELLS_AT_ONCE", 1)
    maps = activations()
    answer = mistique.dead_units(store, put_layer(store, maps, codec=codec))
    assert (answer.never[0].tolist(), answer.always[0].tolist()) == ([0], [4])
    np.testing.assert_allclose(answer.firing[0], (maps > 0).mean(axis=(0, 1, 2)))
    assert answer.values[0, :3].tolist() == [5, 1, 1]


def test_what_fires_is_above_the_threshold_and_no_nan(store: Store) -> None:
    key = put_layer(store, np.array([[0.2, np.nan, -1.0], [0.4, np.nan, 5.0]], np.float32))
    assert mistique.dead_units(store, key).never[0].tolist() == [1]
    answer = mistique.dead_units(store, key, threshold=0.4)
    assert (answer.never[0].tolist(), answer.threshold) == ([0, 1], 0.4)


def epochs_of_two_runs(store: Store) -> None:
    """Two runs of two epochs over two datasets, and one model more."""
    for run in ("a", "b"):
        for epoch in (1, 2):
            for dataset in ("train", "valid"):
                with capturing(store, model="lab/net", run_id=run, epoch=epoch, dataset=dataset) as capture:
                    capture.append("input", np.ones((4, 2), np.float32), role="input")
                    capture.append("conv1", np.eye(4, dtype=np.float32) * (epoch - 1))
                    capture.append("conv2", np.eye(4, dtype=np.float32))
                    capture.append("dense[a]", np.eye(4, dtype=np.float32))
    put_layer(store, np.zeros((3, 2), np.float32), name="conv1", model="lab/other")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("lab/net@1/valid/conv1", ["1.1/valid/conv1", "1.2/valid/conv1"]),
        ("lab/net@latest/valid/conv1", ["2.1/valid/conv1", "2.2/valid/conv1"]),
        ("lab/net@1.2/valid/conv*", ["1.2/valid/conv1", "1.2/valid/conv2"]),
        ("lab/net@*.2/train/conv?", [f"{run}.2/train/conv{i}" for run in (1, 2) for i in (1, 2)]),
        ("lab/net@2.1/v*/dense[a]", ["2.1/valid/dense[a]"]),
        ("lab/net@2.1/v*/dense%5Ba%5D", ["2.1/valid/dense[a]"]),
        ("lab/*r@1/train/conv1", ["1/train/conv1"]),
        ("lab/net@1.1/train", [f"1.1/train/{name}" for name in ("input", "conv1", "conv2", "dense[a]")]),
    ],
)
def test_a_key_names_layers_and_epochs(store: Store, key: str, expected: list[str]) -> None:
    epochs_of_two_runs(store)
    found = find_all(store, key)
    assert [f"{capture.number}/{capture.dataset}/{node.name}" for capture, node in found] == expected


def test_a_tag_is_a_version(store: Store) -> None:
    epochs_of_two_runs(store)
    store.tag("lab/net@1.2", "best")
    assert {capture.number for capture, _ in find_all(store, "lab/net@best/valid")} == {"1.2"}


def test_a_run_is_every_layer_of_every_epoch_and_no_input(store: Store) -> None:
    epochs_of_two_runs(store)
    answer = mistique.dead_units(store, "lab/net@1")
    assert len(answer) == 2 * 2 * 3
    assert set(answer.layers) == {"conv1", "conv2", "dense[a]"}
    assert set(answer.versions) == {"1.1/train", "1.1/valid", "1.2/train", "1.2/valid"}
    dead = {
        (version, layer): n
        for version, layer, n in zip(answer.versions, answer.layers, answer.values[:, 1], strict=True)
    }
    assert (dead["1.1/train", "conv1"], dead["1.2/train", "conv1"]) == (4, 0)


def test_what_a_key_does_not_name_is_said_with_the_nearest(store: Store) -> None:
    epochs_of_two_runs(store)
    for key, says in (
        ("lab/nett@1", "no model 'lab/nett'; nearest: lab/net"),
        ("lab/net@7", "no version 'lab/net@7'; nearest: lab/net@"),
        ("lab/net@1/tset", "no dataset of lab/net: 'tset'"),
        ("lab/net@1/train/conv9", "nearest: conv"),
    ):
        with pytest.raises(IntermediateNotFoundError, match=says):
            mistique.dead_units(store, key)
    with pytest.raises(QueryError, match="expected a key such as"):
        mistique.dead_units(store, "lab/net")
    with pytest.raises(QueryError, match="names no layer, or stage, of numbers"):
        mistique.dead_units(store, put(store, np.array(["a", "b"]), model="lab/text"))
