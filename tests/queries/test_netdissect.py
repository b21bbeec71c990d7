"""NETDISSECT against a plain loop over pixels, and against another library's upsampling."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import mistique
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import capturing, put_layer
from tests.reference import diagnosis as oracle


def painted(n_rows: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Maps of 3 x 4 with 5 units, one of them dead, and concepts of 9 x 10 of which number 7 has no name."""
    random = np.random.default_rng(0)
    concepts = random.choice([0, 2, 7], (n_rows, 3, 2)).repeat(3, axis=1).repeat(5, axis=2)
    maps = random.normal(size=(n_rows, 3, 4, 5)).astype(np.float32)
    maps[..., 1] += (concepts[:, 1::3, [0, 2, 5, 7]] == 2) * 3.0
    maps[..., 3] = 0
    return maps, concepts


@pytest.mark.parametrize("alpha", [0.005, 0.2])
@pytest.mark.parametrize("at_once", [1, 10**9])
def test_every_score_equals_the_oracle(
    store: Store, monkeypatch: pytest.MonkeyPatch, alpha: float, at_once: int
) -> None:
    module = sys.modules["mistique.queries.netdissect"]
    monkeypatch.setattr(module, "_CELLS_AT_ONCE", at_once)
    monkeypatch.setattr(module, "_PIXELS_AT_ONCE", at_once)
    maps, concepts = painted()
    names = {2: "door", 0: "wall"}
    answer = mistique.netdissect(store, put_layer(store, maps), concepts=concepts, names=names, alpha=alpha)
    assert answer.columns == ("door", "wall")
    assert answer.silent == (3,)
    for unit in (0, 1, 2, 4):
        cells = maps[..., unit].astype(np.float64)
        threshold = float(np.quantile(cells, 1 - alpha))
        assert answer.thresholds[unit] == pytest.approx(threshold)
        for place, concept in enumerate(names):
            expected = oracle.concept_score(cells.tolist(), concepts.tolist(), concept, answer.thresholds[unit])
            assert answer.values[unit, place] == pytest.approx(expected, abs=1e-12)
    assert answer.values[3].tolist() == [0, 0]
    if alpha == 0.2:
        assert next(iter(answer.detectors.items())) == (1, "door")


def test_units_can_be_chosen_and_all_numbers_are_concepts_without_names(store: Store) -> None:
    maps, concepts = painted()
    key = put_layer(store, maps)
    every = mistique.netdissect(store, key, concepts=concepts, alpha=0.2)
    some = mistique.netdissect(store, key, concepts=concepts, alpha=0.2, unit=[4, 1])
    assert every.columns == ("0", "2", "7")
    assert some.rows.tolist() == [4, 1]
    np.testing.assert_array_equal(some.values, every.values[[4, 1]])


def test_the_strongest_pixels_can_be_counted_in_place_of_the_strongest_cells(store: Store) -> None:
    maps, concepts = painted()
    asked = {"concepts": concepts, "names": {2: "door"}, "alpha": 0.1, "threshold_of": "pixels"}
    answer = mistique.netdissect(store, put_layer(store, maps), **asked)
    for unit in (0, 1, 4):
        cells = maps[..., unit].tolist()
        pixels = [oracle.upsampled(image, *concepts.shape[1:]) for image in cells]
        assert answer.thresholds[unit] == pytest.approx(np.quantile(pixels, 0.9), abs=1e-6)
        expected = oracle.concept_score(cells, concepts.tolist(), 2, answer.thresholds[unit])
        assert answer.values[unit, 0] == pytest.approx(expected, abs=1e-12)


def test_a_detector_scores_over_the_least_iou(store: Store) -> None:
    maps, concepts = painted()
    key = put_layer(store, maps)
    for min_iou in (0.01, 0.2, 0.9):
        answer = mistique.netdissect(store, key, concepts=concepts, alpha=0.2, min_iou=min_iou)
        best = {int(u): v for u, v in zip(answer.rows, answer.values.max(axis=1), strict=True) if v > min_iou}
        assert list(answer.detectors) == sorted(best, key=lambda unit: -best[unit])
        assert f"{len(best)} of 5 units" in repr(answer)


def test_quantized_maps_have_no_bound(store: Store) -> None:
    maps, concepts = painted(200)
    answer = mistique.netdissect(store, put_layer(store, maps, codec=mistique.Power(8)), concepts=concepts, alpha=0.2)
    exact = mistique.netdissect(store, put_layer(store, maps, model="lab/exact"), concepts=concepts, alpha=0.2)
    assert answer.max_abs_error == np.inf
    np.testing.assert_allclose(answer.values, exact.values, atol=0.02)
    assert "without a bound" in repr(answer)


def test_what_does_not_fit_is_refused(store: Store) -> None:
    maps, concepts = painted()
    with capturing(store) as capture:
        capture.append("maps", maps)
        capture.append("flat", maps.reshape(12, -1))
        capture.append("odd", np.full_like(maps, np.nan))
    cases: dict[str, tuple[str, dict[str, object]]] = {
        "expected a layer of feature maps": ("flat", {}),
        "holds nulls, NaN": ("odd", {}),
        "a map for each of 12 rows of maps, got 3": ("maps", {"concepts": concepts[:3]}),
        "whole numbers of shape": ("maps", {"concepts": concepts.astype(float)}),
        "got list": ("maps", {"concepts": concepts.tolist()}),
        "alpha: expected a share": ("maps", {"alpha": 1}),
        "min_iou: expected a share": ("maps", {"min_iou": -0.1}),
        "threshold_of: expected": ("maps", {"threshold_of": "maps"}),
        "at least one concept": ("maps", {"names": []}),
        "unit: expected": ("maps", {"unit": 5}),
    }
    for says, (layer, asked) in cases.items():
        with pytest.raises(QueryError, match=says):
            mistique.netdissect(store, f"lab/model@1/train/{layer}", **{"concepts": concepts, **asked})


@pytest.mark.keras
def test_upsampling_is_that_of_tensorflow() -> None:
    import keras

    cells = np.random.default_rng(0).normal(size=(1, 3, 4, 1)).astype(np.float32)
    found = oracle.upsampled(cells[0, ..., 0].tolist(), 9, 10)
    np.testing.assert_allclose(found, np.asarray(keras.ops.image.resize(cells, (9, 10)))[0, ..., 0], atol=1e-6)
