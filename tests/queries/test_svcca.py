"""SVCCA against singular value decompositions in memory, and what it refuses to say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

import mistique
from mistique.errors import QueryError
from mistique.queries import directions
from mistique.store import Store
from tests.capturing import put, put_layer
from tests.reference import similarity as oracle


def related(n_rows: int, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two layers that share 5 directions."""
    random = np.random.default_rng(0)
    shared = random.normal(size=(n_rows, 5))
    x, y = (
        np.concatenate([shared, random.normal(size=(n_rows, width))], axis=1) @ random.normal(size=(5 + width, n))
        for width, n in ((6, 20), (3, 12))
    )
    return (mean + x).astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
@pytest.mark.parametrize("cells_at_once", [1, 10**9])
def test_correlations_equal_those_of_the_oracle(
    store: Store, monkeypatch: pytest.MonkeyPatch, variance: float, mean: float, cells_at_once: int
) -> None:
    monkeypatch.setattr(directions, "CELLS_AT_ONCE", cells_at_once)
    x, y = related(2500, mean)
    answer = mistique.svcca(store, put_layer(store, x), other=put_layer(store, y, model="lab/y"), variance=variance)
    if variance == 1.0:  # float32 cells have noise in the directions that they lack, which is no direction of the model
        assert answer.values[:5].min() > 0.999
        return
    expected = oracle.svcca(x.astype(np.float64), y.astype(np.float64), variance)
    assert len(answer.values) == len(expected)
    np.testing.assert_allclose(answer.values, expected, atol=1e-7)
    assert answer.coefficient == pytest.approx(expected.sum() / min(answer.n_directions))


def test_correlations_equal_those_of_scikit_learn(store: Store) -> None:
    x, y = related(1500)
    answer = mistique.svcca(store, put_layer(store, x), other=put_layer(store, y, model="lab/y"), variance=0.9)
    n_directions = answer.n_directions
    reduced = [PCA(n, whiten=True).fit_transform(part) for n, part in zip(n_directions, (x, y), strict=True)]
    assert n_directions == tuple(PCA(0.9).fit(part).n_components_ for part in (x, y))
    n = min(n_directions)
    scores = CCA(n, scale=False, max_iter=5000, tol=1e-10).fit(*reduced).transform(*reduced)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(scores[0].T, scores[1].T, strict=True)]
    np.testing.assert_allclose(answer.values, expected, atol=1e-4)


def test_a_linear_map_of_a_layer_is_the_same_to_it(store: Store) -> None:
    x, _ = related(400)
    turned = x @ np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)
    answer = mistique.svcca(store, put_layer(store, x), other=put_layer(store, turned, model="lab/y"), variance=0.9999)
    assert answer.values.min() > 0.999


def test_unrelated_layers_score_by_chance_and_the_answer_says_how_much(store: Store) -> None:
    random = np.random.default_rng(0)
    keys = [put_layer(store, random.normal(size=(2000, 100)), model=f"lab/{i}") for i in (0, 1)]
    answer = mistique.svcca(store, keys[0], other=keys[1])
    assert answer.coefficient == pytest.approx(0.19, abs=0.02)
    assert answer.coefficient <= answer.chance < 0.23
    assert "nothing in common: about 0.22" in repr(answer).replace("\n  ", " ")


def test_units_are_compared_by_their_means(store: Store) -> None:
    maps = np.random.default_rng(0).normal(size=(300, 4, 4, 6)).astype(np.float32)
    means = maps.mean(axis=(1, 2), dtype=np.float64)
    one, two = put_layer(store, maps), put_layer(store, means[:, :3], model="lab/y")
    answer = mistique.svcca(store, one, other=two, reduce="mean", variance=0.9999)
    assert answer.n_columns == (6, 3)
    assert answer.values.min() > 0.9999


def test_rows_are_matched_by_label_and_columns_chosen(store: Store) -> None:
    random = np.random.default_rng(0)
    values, order = random.normal(size=(300, 3)), random.permutation(300)
    labels = np.array([f"r{i}" for i in range(300)])
    one = put(store, values, labels=labels)
    two = put(store, np.c_[values[order, 1], random.normal(size=300)], labels=labels[order], model="lab/y")
    answer = mistique.svcca(store, one, other=two, columns=[1], other_columns=[0])
    assert answer.values.tolist() == pytest.approx([1.0])


def test_as_many_directions_as_rows_are_refused(store: Store) -> None:
    keys = [put_layer(store, np.random.default_rng(i).normal(size=(50, 100)), model=f"lab/{i}") for i in (0, 1)]
    with pytest.raises(QueryError, match="directions in 50 rows: expected fewer together than rows"):
        mistique.svcca(store, keys[0], other=keys[1])


@pytest.mark.parametrize("cells_at_once", [1, 10**9])
@pytest.mark.parametrize("shape", [(120,), (2, 3, 20)])
def test_a_layer_of_more_columns_than_rows_is_held_against_the_oracle(
    store: Store, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], cells_at_once: int
) -> None:
    monkeypatch.setattr(directions, "CELLS_AT_ONCE", cells_at_once)
    random = np.random.default_rng(0)
    wide = (random.normal(size=(90, 12)) @ random.normal(size=(12, 120)) + 5).astype(np.float32)
    narrow = (wide[:, :4] + random.normal(size=(90, 4))).astype(np.float32)
    one, two = put_layer(store, wide.reshape(-1, *shape)), put_layer(store, narrow, model="lab/y")
    answer = mistique.svcca(store, one, other=two, variance=0.9)
    expected = oracle.svcca(wide.astype(np.float64), narrow.astype(np.float64), 0.9)
    assert answer.n_columns == (120, 4)
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)
    other_way = mistique.svcca(store, two, other=one, variance=0.9)
    np.testing.assert_allclose(other_way.values, expected, atol=1e-6)


def test_what_has_no_correlation_is_refused(store: Store) -> None:
    random = np.random.default_rng(0)
    key = put_layer(store, random.normal(size=(50, 3)))
    odd = random.normal(size=(50, 3))
    odd[7, 1] = np.nan
    cases = {
        "the same in every row": put_layer(store, np.full((50, 3), 0.1), model="lab/still"),
        "holds nulls, NaN": put_layer(store, odd, model="lab/odd"),
    }
    for says, other in cases.items():
        with pytest.raises(QueryError, match=says):
            mistique.svcca(store, key, other=other)
    for variance in (0, 1.5, True, "all"):
        with pytest.raises(QueryError, match="variance: expected a share"):
            mistique.svcca(store, key, other=key, variance=variance)  # type: ignore[arg-type]


def test_a_quantized_layer_has_no_bound_and_is_near(store: Store) -> None:
    x, y = related(2000)
    exact, other = put_layer(store, x), put_layer(store, y, model="lab/y")
    quantized = put_layer(store, x, model="lab/q", codec=mistique.Power(8))
    answer = mistique.svcca(store, quantized, other=other)
    assert answer.coefficient == pytest.approx(mistique.svcca(store, exact, other=other).coefficient, abs=0.02)
    assert answer.max_abs_error == np.inf
