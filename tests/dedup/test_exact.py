"""What the store already holds is referred to, and the index is believed no further than its segment bears it out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mistique
from mistique.dedup.exact import ExactDedup
from mistique.schema import Part, Segment
from mistique.storage.digest_index import Place
from mistique.storage.fragments import random_timestamp
from mistique.storage.references import pack_references
from mistique.store import Store
from tests.capturing import capturing, put, put_layer, references_of

VALUES = np.random.default_rng(0).normal(size=(9000, 4))
OTHER_PROCESS = """
import sys
import numpy as np
import mistique
from tests.capturing import put
with mistique.open(sys.argv[1]) as store:
    put(store, np.random.default_rng(0).normal(size=(9000, 4)), model="lab/other")
"""


def stored_nbytes(store: Store, key: str) -> int:
    return store.catalog.find(key)[1].stored_nbytes


def test_a_table_that_another_model_stored_adds_no_bytes(store: Store) -> None:
    first = put(store, VALUES)
    second = put(store, VALUES.copy(), model="lab/other", dataset="valid")
    assert stored_nbytes(store, first) > VALUES.nbytes // 2
    assert stored_nbytes(store, second) == 0
    assert mistique.get(store, second).values.tobytes() == VALUES.tobytes()


def test_a_table_that_another_process_stored_adds_no_bytes(store: Store) -> None:
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, store.uri], check=True)
    key = put(store, VALUES)
    assert stored_nbytes(store, key) == 0
    assert mistique.get(store, key).values.tobytes() == VALUES.tobytes()


def test_one_new_column_among_old_ones_adds_its_own_bytes_alone(store: Store) -> None:
    first = put(store, VALUES)
    changed = VALUES.copy()
    changed[:, 2] += 1
    second = put(store, changed)
    assert 0 < stored_nbytes(store, second) < stored_nbytes(store, first) / 2
    assert mistique.get(store, second).values.tobytes() == changed.tobytes()


def test_a_column_that_two_stages_share_is_stored_once_in_a_capture(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("first", VALUES)
        capture.add("second", VALUES[:, ::-1])
    assert stored_nbytes(store, "lab/model@1/train/second") == 0
    assert mistique.get(store, "lab/model@1/train/second").values.tobytes() == VALUES[:, ::-1].tobytes()


def test_equal_values_of_another_dtype_are_another_chunk(store: Store) -> None:
    put(store, np.zeros(100, np.int64))
    key = put(store, np.zeros(100, np.float64))
    assert stored_nbytes(store, key) > 0
    assert mistique.get(store, key).values.dtype == np.float64


def test_a_chunk_of_another_codec_is_another_chunk(store: Store) -> None:
    put(store, VALUES, codec="power")
    key = put(store, VALUES, codec="raw")
    assert mistique.get(store, key, exact=True).values.tobytes() == VALUES.tobytes()


@pytest.mark.parametrize(
    "lie",
    [
        lambda p: Place(p.segment, p.unit, (p.place + 1) % 4),
        lambda p: Place(p.segment, (p.unit + 1) % 3, p.place),
        lambda p: Place(p.segment, p.unit, 4),
        lambda p: Place(p.segment, 10_000, 10_000),
        lambda p: Place("0" * 32, 0, 0),
    ],
    ids=["wrong column", "wrong block", "outside of the unit", "outside of the segment", "no such segment"],
)
def test_an_index_that_lies_does_no_harm(store: Store, lie: object) -> None:
    first = put(store, VALUES)
    segment = references_of(store, first).segments[0]
    contents = store.segments.contents(segment).reshape(3, 4, 2)
    truth = {
        tuple(contents[unit, place].tolist()): Place(segment.id, unit, place) for unit in range(3) for place in range(4)
    }
    lies = {digest: lie(place) for digest, place in truth.items()}  # type: ignore[operator]
    store._digests.add(lies, timestamp=random_timestamp())
    second = put(mistique.open(store.uri), VALUES)
    assert mistique.get(store, second).values.tobytes() == VALUES.tobytes()


def test_only_digests_that_the_store_holds_are_located(store: Store) -> None:
    key = put(store, VALUES)
    segment = references_of(store, key).segments[0]
    known = store.segments.contents(segment)[6]  # the third of the second unit's four columns
    dedup = ExactDedup(store._digests, store.segments)
    dedup.refresh()
    located = dedup.locate(np.array([known, [1, 2]], np.uint64))
    assert [(d, s.id, unit, place) for d, (s, unit, place) in located.items()] == [
        (tuple(known.tolist()), segment.id, 1, 2)
    ]


def test_a_fresh_layer_is_one_run(store: Store) -> None:
    key = put_layer(store, np.random.default_rng(0).normal(size=(5000, 200)).astype(np.float32), batch_rows=128)
    assert len(references_of(store, key).runs) == 1


def test_equal_chunks_of_layers_are_stored_once_in_a_capture_and_over_captures(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(3000, 8, 8, 16)).astype(np.float32)
    with capturing(store) as capture:
        capture.append("conv", values)
        capture.append("dropout", values.copy())
    with capturing(mistique.open(store.uri), model="lab/other") as capture:
        capture.append("conv", np.concatenate([values[:2048], values[2048:] + 1]))
    # Which of the two layers comes first is chance: they are encoded side by side.
    first = sum(stored_nbytes(store, f"lab/model@1/train/{name}") for name in ("conv", "dropout"))
    assert first < 1.1 * values.nbytes
    assert 0 < stored_nbytes(store, "lab/other@1/train/conv") < first / 2
    assert mistique.get(store, "lab/other@1/train/conv").values[:2048].tobytes() == values[:2048].tobytes()


SEGMENTS = tuple(Segment(f"{i:032x}", 100, 100, Part(0, 8, ""), Part(0, 8, ""), 1) for i in range(3))


@given(
    n_blocks=st.integers(1, 7),
    n_groups=st.integers(1, 7),
    data=st.data(),
    steps=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2)),
)
def test_packed_references_cover_the_grid_exactly(
    n_blocks: int, n_groups: int, data: st.DataObject, steps: tuple[int, int, int]
) -> None:
    # Mostly at even steps, so that long runs come up; some chunks lie elsewhere.
    block_step, group_step, place_step = steps
    grid = np.empty((n_blocks, n_groups, 3), np.int64)
    for block in range(n_blocks):
        for group in range(n_groups):
            grid[block, group] = 0, block * block_step + group * group_step, group * place_step
            if data.draw(st.integers(0, 3)) == 0:
                grid[block, group] = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(0, 8)))
    packed = pack_references(SEGMENTS, grid)
    unpacked = {}
    for run in packed.runs:
        for i in range(run.n_blocks):
            for j in range(run.n_groups):
                place = run.block + i, run.group + j
                assert place not in unpacked
                unit = run.unit + i * run.block_step + j * run.group_step
                unpacked[place] = packed.segments[run.segment], unit, run.place + j * run.place_step
    expected = {
        (block, group): (SEGMENTS[grid[block, group, 0]], *grid[block, group, 1:].tolist())
        for block in range(n_blocks)
        for group in range(n_groups)
    }
    assert unpacked == expected


def test_even_steps_are_packed_as_one_run() -> None:
    blocks, groups = np.meshgrid(np.arange(6), np.arange(4), indexing="ij")
    grid = np.stack([np.full_like(blocks, 1), 3 + blocks + 6 * groups, groups % 1], axis=2)
    (run,) = pack_references(SEGMENTS, grid).runs
    assert (run.n_blocks, run.n_groups, run.unit, run.block_step, run.group_step) == (6, 4, 3, 1, 6)
