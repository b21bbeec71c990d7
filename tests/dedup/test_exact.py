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
from mistique.ingest.buffer import pack_references
from mistique.schema import Segment
from mistique.storage.digests import Place
from mistique.storage.records import random_timestamp
from mistique.store import Store
from tests.capturing import capturing, put, put_layer, references_of

VALUES = np.random.default_rng(0).normal(size=(3000, 4))
OTHER_PROCESS = """
import sys
import numpy as np
import mistique
from tests.capturing import put
with mistique.open(sys.argv[1]) as store:
    put(store, np.random.default_rng(0).normal(size=(3000, 4)), model="lab/other")
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
        lambda p: Place(p.segment, p.block, p.group + 1),
        lambda p: Place(p.segment, p.block + 1, p.group),
        lambda p: Place(p.segment, 10_000, 10_000),
        lambda p: Place("0" * 32, 0, 0),
    ],
    ids=["wrong column", "wrong block", "outside of the segment", "no such segment"],
)
def test_an_index_that_lies_does_no_harm(store: Store, lie: object) -> None:
    first = put(store, VALUES)
    segment = references_of(store, first).segments[0]
    _, table = store.segments.describe(segment.id)
    truth = {tuple(table.digests[b, g].tolist()): Place(segment.id, b, g) for b in range(3) for g in range(4)}
    lies = {digest: lie(place) for digest, place in truth.items()}  # type: ignore[operator]
    store._digests.add(lies, timestamp=random_timestamp())
    second = put(mistique.open(store.uri), VALUES)
    assert mistique.get(store, second).values.tobytes() == VALUES.tobytes()


def test_only_digests_that_the_store_holds_are_located(store: Store) -> None:
    key = put(store, VALUES)
    segment = references_of(store, key).segments[0]
    _, table = store.segments.describe(segment.id)
    known, unknown = tuple(table.digests[1, 2].tolist()), (1, 2)
    located = ExactDedup(store._digests, store.segments).locate([known, unknown])
    assert [(d, s.id, b, g) for d, (s, b, g) in located.items()] == [(known, segment.id, 1, 2)]


def test_a_fresh_layer_is_one_run(store: Store) -> None:
    key = put_layer(store, np.random.default_rng(0).normal(size=(5000, 200)).astype(np.float32), batch_rows=128)
    assert len(references_of(store, key).runs) == 1


SEGMENTS = [
    Segment(
        f"{i:032x}",
        "<f8",
        {"name": "raw"},
        n_rows=10,
        n_columns=10,
        block_rows=1,
        group_columns=1,
        root="",
        encoded_nbytes=1,
    )
    for i in range(3)
]


@given(
    n_blocks=st.integers(1, 7),
    n_groups=st.integers(1, 7),
    data=st.data(),
    is_shifted=st.booleans(),
    n_segments=st.integers(1, 3),
)
def test_packed_references_cover_the_grid_exactly(
    n_blocks: int, n_groups: int, data: st.DataObject, is_shifted: bool, n_segments: int
) -> None:
    # Mostly one after the other, so that long runs come up; some chunks lie elsewhere.
    grid = {}
    for block in range(n_blocks):
        for group in range(n_groups):
            place = SEGMENTS[0], block + 2 * is_shifted, group + is_shifted
            if data.draw(st.integers(0, 3)) == 0:
                place = (
                    SEGMENTS[data.draw(st.integers(0, n_segments - 1))],
                    data.draw(st.integers(0, 8)),
                    data.draw(st.integers(0, 8)),
                )
            grid[block, group] = place
    packed = pack_references(grid)
    unpacked = [
        ((run.block + b, run.group + g), (packed.segments[run.segment], run.segment_block + b, run.segment_group + g))
        for run in packed.runs
        for b in range(run.n_blocks)
        for g in range(run.n_groups)
    ]
    assert len(unpacked) == len(grid)
    assert dict(unpacked) == grid


def test_one_rectangle_is_packed_as_one_run() -> None:
    grid = {(b, g): (SEGMENTS[1], b + 3, g + 5) for b in range(6) for g in range(4)}
    (run,) = pack_references(grid).runs
    assert (run.n_blocks, run.n_groups, run.segment_block, run.segment_group) == (6, 4, 3, 5)
