"""Units of bytes come back as they were written, and only as such."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import tiledb
from hypothesis import given
from hypothesis import strategies as st

import mistique
from mistique.errors import ChunkCorruptError
from mistique.schema import Segment
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.segments import SegmentReader
from mistique.storage.units import LaidUnit, Unit, UnitKind, UnitTable, compressed, expanded
from mistique.store import Store

KIND = UnitKind('{"name": "raw"}', "<f4", "<f4", is_table=False)
TABLE_KIND = UnitKind('{"name": "raw"}', "<f8", "<f8", is_table=True)


def _unit(payload: bytes, kind: UnitKind = KIND, shape: tuple[int, int] = (2, 3)) -> Unit:
    n_chunks = shape[0] if kind.is_table else 1
    return Unit(kind, shape, np.frombuffer(payload, np.uint8), np.arange(2 * n_chunks, dtype=np.uint64).reshape(-1, 2))


def _written(store: Store, payloads: list[bytes], *, flush_after: int = 10**9) -> tuple[Segment, SegmentReader]:
    writer: SegmentWriter = store._make_writer()
    for number, payload in enumerate(payloads, start=1):
        assert writer.append(_unit(payload)) == number - 1
        if number % flush_after == 0:
            writer.flush()
    return writer.finish(), store.segments


@pytest.mark.parametrize("flush_after", [1, 3, 10**9])
def test_payloads_come_back_whatever_was_written_together(store: Store, flush_after: int) -> None:
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(int(n)) for n in rng.integers(1, 30_000, 40)]
    segment, reader = _written(store, payloads, flush_after=flush_after)
    wanted = np.array([0, 1, 5, 17, 39])
    found = {
        u: p.tobytes() for units, part in reader.payloads(segment, wanted) for u, p in zip(units, part, strict=True)
    }
    assert found == {unit: payloads[unit] for unit in wanted}


def test_a_payload_is_let_go_of_once_it_is_written(store: Store) -> None:
    writer = store._make_writer()
    unit = _unit(bytes(1000))
    is_held = weakref.ref(unit.payload)
    writer.append(unit)
    del unit
    assert is_held() is not None
    writer.flush()
    assert is_held() is None


def test_a_small_segment_takes_little_more_than_its_bytes(store: Store) -> None:
    segment, _ = _written(store, [b"x" * 100])
    assert segment.encoded_nbytes < 12_000


def test_a_unit_beyond_the_last_is_an_error_of_ours(store: Store) -> None:
    segment, reader = _written(store, [b"abc"])
    with pytest.raises(ChunkCorruptError, match="units below 1"):
        list(reader.payloads(segment, np.array([1])))


def test_a_flipped_byte_in_the_array_is_noticed(store: Store) -> None:
    segment, _ = _written(store, [bytes(1000), bytes(2000)])
    for path in sorted((Path(store.uri) / "segments" / segment.id).rglob("a0.tdb")):
        content = bytearray(path.read_bytes())
        content[700] ^= 1
        path.write_bytes(content)
    again = mistique.open(store.uri, mode="r")
    with pytest.raises(ChunkCorruptError, match="unit 0"):
        list(again.segments.payloads(segment, np.array([0])))
    assert len(list(again.segments.payloads(segment, np.array([1])))) == 1


def test_what_was_discarded_leaves_no_array(store: Store) -> None:
    writer = store._make_writer()
    writer.append(_unit(b"abc"))
    writer.flush()
    writer.discard()
    assert tiledb.object_type(f"{store.uri}/segments/{writer.id}") is None


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=40), st.booleans(), st.integers(1, 5), st.integers(1, 9)),
        min_size=1,
        max_size=12,
    )
)
def test_a_table_of_units_comes_back(parts: list[tuple[bytes, bool, int, int]]) -> None:
    units = [_unit(payload, TABLE_KIND if is_table else KIND, (c, r)) for payload, is_table, c, r in parts]
    offsets = np.cumsum([0] + [unit.payload.nbytes for unit in units])[:-1].tolist()
    table = UnitTable.of([LaidUnit.of(unit, offset) for unit, offset in zip(units, offsets, strict=True)])
    found = UnitTable.from_bytes(table.to_bytes(), n_units=len(units))
    assert found.n_chunks == sum(c if is_table else 1 for _, is_table, c, _ in parts)
    assert [found.kinds[int(k)] for k in found.kind_of] == [unit.kind for unit in units]
    for name in ("offsets", "n_bytes", "digests", "shapes"):
        assert (getattr(found, name) == getattr(table, name)).all()


@pytest.mark.parametrize("n_units", [0, 1, 3])
def test_a_table_of_another_length_is_refused(n_units: int) -> None:
    table = UnitTable.of([LaidUnit.of(_unit(b"abc"), 0), LaidUnit.of(_unit(b"de"), 8)])
    with pytest.raises((ValueError, TypeError)):
        UnitTable.from_bytes(table.to_bytes(), n_units=n_units)


def test_more_than_was_asked_for_is_never_unpacked() -> None:
    with pytest.raises(ValueError, match="at most 999 bytes"):
        expanded(compressed(bytes(1000)), 999)
