"""When a layer settled: similarities against a plain loop, and what epochs may be compared."""

from __future__ import annotations

import numpy as np
import pytest

import mistique
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import capturing
from tests.reference.similarity import svcca


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA by HSIC_1, by its definition in Song et al. 2012, equation 5."""

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        k, gram = a @ a.T, b @ b.T
        k, gram = k - np.diag(np.diag(k)), gram - np.diag(np.diag(gram))
        trace = sum(k[i, j] * gram[j, i] for i in range(n) for j in range(n))
        return (trace + k.sum() * gram.sum() / ((n - 1) * (n - 2)) - 2 * (k @ gram).sum() / (n - 2)) / (n * (n - 3))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def trained(store: Store, layers: dict[str, list[np.ndarray]], **more: object) -> str:
    """A run whose layers give these at each epoch; the key of its dataset."""
    for epoch in range(len(next(iter(layers.values())))):
        with capturing(store, model="lab/net", run_id="one", epoch=epoch + 1, **more) as capture:
            capture.append("input", np.zeros((len(next(iter(layers.values()))[0]), 1), np.float32), role="input")
            for name, outputs in layers.items():
                capture.append(name, outputs[epoch])
    return "lab/net@1/train"


def test_similarity_to_the_last_epoch_is_that_of_the_definition(store: Store) -> None:
    rng = np.random.default_rng(0)
    dense = [rng.normal(size=(40, 6)).astype(np.float32) for _ in range(3)]
    maps = [rng.normal(size=(40, 3, 3, 20)).astype(np.float32) for _ in range(3)]  # more columns than rows
    maps[1] = maps[2] + 0.3 * maps[1]
    answer = mistique.epochs(store, trained(store, {"dense": dense, "maps": maps}))
    assert answer.rows.tolist() == ["dense", "maps"]
    for row, outputs in zip(answer.values, (dense, maps), strict=True):
        flat = [output.reshape(40, -1).astype(float) for output in outputs]
        np.testing.assert_allclose(row, [unbiased_cka(output, flat[-1]) for output in flat], atol=1e-6)
    assert abs(answer.values[1, 0]) < 0.2  # the biased estimate is above 0.8


def test_the_epoch_from_which_on_a_layer_stays_alike_is_where_it_settled(store: Store) -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 60, 4)).astype(np.float32)
    turned = np.linalg.qr(rng.normal(size=(4, 4)))[0].astype(np.float32)
    layers = {
        "early": [x, 3 * x @ turned, x, x + 5],  # rotation, scale and shift are no change
        "late": [noise, noise, noise, x],
        "back and forth": [x, noise, x, x],
        "constant": [x, np.ones_like(x), np.ones_like(x) * 0.1, np.ones_like(x) * 0.1],
    }
    answer = mistique.epochs(store, trained(store, layers))
    assert answer.settled == ("1.1", None, "1.3", None)
    np.testing.assert_allclose(answer.values[0], 1.0, atol=1e-5)
    assert np.isnan(answer.values[3]).all()
    assert "at the end" in repr(answer)


def test_some_layers_and_some_rows_can_be_asked(store: Store) -> None:
    rng = np.random.default_rng(0)
    layers = {name: [rng.normal(size=(50, 4)) for _ in range(2)] for name in ("conv1", "conv2", "dense")}
    key = trained(store, layers)
    answer = mistique.epochs(store, f"{key}/conv*", n_rows=10)
    assert (answer.rows.tolist(), answer.n_rows) == (["conv1", "conv2"], 10)
    rows = np.linspace(0, 49, 10).astype(int)
    first, last = (output[rows] for output in layers["conv1"])
    assert answer.values[0, 0] == pytest.approx(unbiased_cka(first, last))


def test_epochs_that_cannot_be_compared_are_refused(store: Store) -> None:
    rng = np.random.default_rng(0)
    key = trained(store, {"dense": [rng.normal(size=(8, 2)) for _ in range(2)]})
    with pytest.raises(QueryError, match=r"has one epoch, 1\.2"):
        mistique.epochs(store, "lab/net@1.2/train")
    with pytest.raises(QueryError, match="n_rows: expected"):
        mistique.epochs(store, key, n_rows=3)
    trained(store, {"dense": [rng.normal(size=(8, 2)) for _ in range(2)]}, dataset="valid")
    with pytest.raises(QueryError, match="one model over one dataset"):
        mistique.epochs(store, "lab/net@1")
    with capturing(store, model="lab/net", run_id="one", epoch=3) as capture:
        capture.append("dense", rng.normal(size=(9, 2)))
    with pytest.raises(QueryError, match="captured over other rows"):
        mistique.epochs(store, key)
    with capturing(store, model="lab/net", run_id="one", epoch=3) as capture:
        capture.append("dense", np.full((8, 2), np.nan))
    with pytest.raises(QueryError, match="not finite"):
        mistique.epochs(store, key)


def test_svcca_of_epochs_is_that_of_the_oracle(store: Store) -> None:
    rng = np.random.default_rng(0)
    dense = [rng.normal(size=(200, 6)).astype(np.float32) for _ in range(3)]
    dense[1] = dense[2] @ rng.normal(size=(6, 6)).astype(np.float32) + 0.2 * dense[1]
    maps = [(rng.normal(size=(200, 5)) @ rng.normal(size=(5, 270))).astype(np.float32) for _ in range(3)]
    key = trained(
        store, {"dense": dense, "maps": [m.reshape(200, 3, 3, 30) for m in maps], "still": [dense[0] * 0] * 3}
    )
    answer = mistique.epochs(store, key, measure="svcca")
    for row, given in zip(answer.values, (dense, maps), strict=False):
        expected = [svcca(output.astype(float), given[-1].astype(float), 0.99).mean() for output in given]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert np.isnan(answer.values[2]).all()
    assert "Similarity (SVCCA)" in repr(answer)
    with pytest.raises(QueryError, match="measure: expected one of cka, svcca"):
        mistique.epochs(store, key, measure="pwcca")
    with pytest.raises(QueryError, match=r"expected fewer together than rows.*n_rows="):
        mistique.epochs(store, key, measure="svcca", n_rows=8)
