"""What bounds leave in the running holds the answer: the same as a scan gives, row for row and bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mistique
from mistique.queries import contenders
from mistique.store import Store
from tests.capturing import put_layer


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return mistique.open(tmp_path / "s.mistique", gamma_min=float("inf"), index_share=0)


def bounded(store: Store, values: np.ndarray, **options: Any) -> tuple[str, str]:
    """Two layers of the same values, the second with bounds of them: their keys."""
    plain = put_layer(store, values, dataset="plain", **options)
    key = put_layer(store, values, dataset="bounded", **options)
    with np.errstate(all="raise"):
        assert mistique.index(store, key, max_share=0.24).form == "bounds"
    return plain, key


def layer(n_rows: int, shape: tuple[int, ...], *, seed: int = 0) -> np.ndarray:
    """Normal values, a unit of ties, and one that is mostly zero."""
    values = np.random.default_rng(seed).normal(size=(n_rows, *shape)).astype(np.float32)
    values[..., 1] = np.arange(n_rows).reshape(-1, *[1] * (len(shape) - 1)) % 5
    values[..., 2] = values[..., 2].clip(0)
    return values


def alike(first: Any, second: Any) -> None:
    np.testing.assert_array_equal(first.positions, second.positions)
    np.testing.assert_array_equal(first.values, second.values)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds are used whatever reading some rows is predicted to take."""
    monkeypatch.setattr(contenders, "_WORTH", float("inf"))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("shape", [(40,), (2, 2, 10)])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    ("units", "combine", "reduce"),
    [
        ([5], "sum", "max"),
        ([1], "sum", "mean"),
        ([9, 3, 4], "sum", "max"),
        ([2, 8, 1], "euclidean", "mean"),
        ([0, 6], "manhattan", "max"),
        ([7, 1, 2], "max", "max"),
    ],
)
def test_topk_of_bounds_is_topk_of_a_scan(
    store: Store, shape: tuple[int, ...], largest: bool, units: list[int], combine: str, reduce: str
) -> None:
    plain, key = bounded(store, layer(3000, shape))
    asked: dict[str, Any] = {"unit": units, "combine": combine, "reduce": reduce, "largest": largest, "k": 12}
    by_bounds, by_scan = mistique.topk(store, key, **asked), mistique.topk(store, plain, **asked)
    assert by_bounds.plan.chosen.road == "index"
    alike(by_bounds, by_scan)
    np.testing.assert_array_equal(by_bounds.places, by_scan.places)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("distance", ["euclidean", "manhattan", "chebyshev", "cosine"])
def test_knn_of_bounds_is_knn_of_a_scan(store: Store, distance: str) -> None:
    plain, key = bounded(store, layer(3000, (40,)))
    for columns in ([4], [30, 2, 7], [1, 5]):
        asked: dict[str, Any] = {"position": 77, "columns": columns, "distance": distance, "k": 9}
        by_bounds = mistique.knn(store, key, **asked)
        assert (by_bounds.plan.chosen.road == "index") == (distance != "cosine")
        alike(by_bounds, mistique.knn(store, plain, **asked))


def test_the_highest_rows_of_one_unit_are_known_without_reading_the_layer(store: Store) -> None:
    plain, key = bounded(store, layer(20_000, (64,)))
    by_bounds, by_scan = mistique.topk(store, key, unit=9, k=50), mistique.topk(store, plain, unit=9, k=50)
    alike(by_bounds, by_scan)
    assert by_bounds.plan.chosen.road == "index"
    assert "after 0 were read" in by_bounds.plan.reason
    assert by_bounds.max_abs_error == 0
    assert by_bounds.plan.read_nbytes < by_scan.plan.read_nbytes / 20


def test_where_most_row_blocks_are_left_all_is_read_as_before(store: Store) -> None:
    _, key = bounded(store, layer(3000, (40,)))
    assert mistique.topk(store, key, unit=[5, 6, 7], k=700).plan.chosen.road == "read"


@pytest.mark.usefixtures("always")
def test_of_values_that_are_not_finite_a_scan_is_made(store: Store) -> None:
    values = layer(3000, (40,))
    values[8, 3], values[9, 3] = np.nan, np.inf
    plain, key = bounded(store, values)
    by_bounds = mistique.topk(store, key, unit=3, k=5)
    assert by_bounds.plan.chosen.road == "read"
    alike(by_bounds, mistique.topk(store, plain, unit=3, k=5))


def test_what_is_not_kept_exactly_has_no_bounds(store: Store) -> None:
    key = put_layer(store, layer(3000, (40,)), codec=mistique.LowPrecision())
    with pytest.raises(mistique.errors.IndexTooLargeError):
        mistique.index(store, key, max_share=0.1)
