"""Similar columns come into one pack, in every mode all columns come, and what a store answers is the same."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mistique
from mistique.dedup.placement import (
    BAND_HASHES,
    N_BANDS,
    PACK_COLUMNS,
    PLACEMENTS,
    THRESHOLD,
    Placement,
    buckets,
    discretized,
    signatures,
)
from tests.capturing import capturing, references_of
from tests.reference.minhash import jaccard


def _noise(n_columns: int, n_rows: int = 4096) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_columns, n_rows))


@pytest.mark.parametrize("mode", PLACEMENTS)
@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.uint8]),
        st.tuples(st.integers(1, 40), st.integers(1, 9)),
    )
)
def test_every_column_is_in_one_pack(mode: str, cells: np.ndarray) -> None:
    packs = Placement(mode).packs(range(len(cells)), list(cells))
    assert sorted(number for pack in packs for number in pack) == list(range(len(cells)))
    assert max(map(len, packs)) <= PACK_COLUMNS


def test_off_is_the_order_of_arrival() -> None:
    noise = _noise(20)
    columns = [*noise, *(noise * 2)]
    assert [n for pack in Placement("off").packs(range(40), columns) for n in pack] == list(range(40))


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_a_scaled_column_follows_its_column(mode: str) -> None:
    noise = _noise(20)
    scaled = (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, keepdims=True)
    order = [n for pack in Placement(mode).packs(range(40), [*noise, *scaled]) for n in pack]
    assert order == [n for i in range(20) for n in (i, i + 20)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_auto_leaves_narrow_cells_and_single_packs_in_order(dtype: type) -> None:
    noise = _noise(20)
    narrow = [column.astype(dtype) for column in [*(noise * 10), *(noise * 10)]]
    for columns in (narrow, [*noise[:8], *(2 * noise[:8])]):
        order = [n for pack in Placement("auto").packs(range(len(columns)), columns) for n in pack]
        assert order == list(range(len(columns)))


def test_shifting_and_scaling_change_no_bin() -> None:
    (noise,) = _noise(1)
    noise[::7] = np.nan
    one, other = discretized([noise, 4 * noise + 8])
    np.testing.assert_array_equal(one, other)


def test_the_written_threshold_is_where_buckets_begin_to_be_shared() -> None:
    assert THRESHOLD == pytest.approx((1 / N_BANDS) ** (1 / BAND_HASHES)) == 0.5
    found: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=128)
        changed = np.where(rng.random(128) < rng.uniform(0, 0.9), rng.normal(size=128), x)
        likeness = jaccard(*discretized([x, changed]).tolist())
        is_shared = len(set(buckets(signatures([x, changed])).tolist())) == 1
        if abs(likeness - THRESHOLD) > 0.2:
            found[likeness > THRESHOLD].append(is_shared)
    assert np.mean(found[True]) > 0.97
    assert np.mean(found[False]) < 0.25


def test_an_unknown_placement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"placement: expected .*, got 'near'"):
        mistique.open(tmp_path / "s", placement="near")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_pickled_store_keeps_its_placement(tmp_path: Path, placement: str) -> None:
    with mistique.open(tmp_path / "s", placement=placement) as store, pickle.loads(pickle.dumps(store)) as other:
        assert other._placement.mode == placement


def _captured(path: Path, placement: str, stages: dict[str, np.ndarray]) -> tuple[dict[str, bytes], int]:
    """The bits of what a store answers for some tables, and the bytes of its segments."""
    with mistique.open(path, placement=placement) as store:
        with capturing(store) as capture:
            for name, table in stages.items():
                capture.add(name, table)
        keys = {name: f"{capture.committed}/train/{name}" for name in stages}
        answers = {name: mistique.get(store, key, exact=True).values.tobytes() for name, key in keys.items()}
        segments = {s.id: s.encoded_nbytes for key in keys.values() for s in references_of(store, key).segments}
    return answers, sum(segments.values())


@pytest.mark.parametrize("data", ["cancer", "digits", "noise"])
def test_answers_are_the_same_and_bytes_are_no_more(tmp_path: Path, data: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    table = {
        "cancer": lambda: datasets.load_breast_cancer().data,
        "digits": lambda: datasets.load_digits().data,
        "noise": lambda: np.random.default_rng(0).normal(size=(2000, 24)),
    }[data]()
    spread = table.std(axis=0) + (table.std(axis=0) == 0)
    stages = {
        "input": table,
        "imputed": np.where(table > table.mean(axis=0) + 3 * spread, np.nan, table),
        "clipped": np.clip(table, *np.quantile(table, [0.02, 0.98], axis=0)),
        "scaled": (table - table.mean(axis=0)) / spread,
        "logged": np.log1p(np.abs(table)),
    }
    found = {placement: _captured(tmp_path / placement, placement, stages) for placement in PLACEMENTS}
    expected = {name: np.ascontiguousarray(values).tobytes() for name, values in stages.items()}
    assert [answers == expected for answers, _ in found.values()] == [True] * 3
    nbytes = {placement: n_bytes for placement, (_, n_bytes) in found.items()}
    assert max(nbytes["on"], nbytes["auto"]) <= 1.02 * nbytes["off"]
    if data == "noise":  # 24 columns and what was made of them: too many for one pack
        assert max(nbytes["on"], nbytes["auto"]) <= 0.75 * nbytes["off"]
