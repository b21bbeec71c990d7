"""Values of a few units from an index: their codes, looked up, or their cells; what the chunks would give."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from mistique.codecs import CodedCodec, Raw, codec_from_config, stored_form, zstd
from mistique.codecs.entropy import decode_codes
from mistique.codecs.payload import PayloadReader, damaged, joined
from mistique.kernels.transpose import turn
from mistique.planner.cost import ReadWork
from mistique.planner.index_layout import CODES, MAXIMA, IndexPlaces, group_of, payloads_of
from mistique.planner.question import Question, steps_of
from mistique.planner.summary import read_whole_shape, stored_columns
from mistique.planner.values import Values, array_places
from mistique.schema import ColumnType, Index, Intermediate
from mistique.storage.segments import SegmentReader

_MAX_HEADS_NBYTES = 2**28


def read_index(
    segments: SegmentReader, places: IndexPlaces, node: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    """Stored values by an index of codes or cells, verified, and their error bound.

    Parameters
    ----------
    segments : SegmentReader
    places : IndexPlaces
    node : Intermediate
    rows, columns : ndarray of int64, sorted

    Raises
    ------
    ChunkCorruptError
    """

    def read(stored: Intermediate, rows: np.ndarray, columns: np.ndarray) -> tuple[Values, float]:
        units, positions = np.divmod(columns, stored.positions)
        shape, order = array_places(stored, columns)
        cell = np.dtype(stored.types[0].cell)
        out = np.empty((len(columns), len(rows)), cell)
        wanted = steps_of(columns, stored.positions).tolist()
        numbers = places.numbers(stored, wanted)
        for span, low, high, n_rows in _spans_of(places, stored, rows):
            asked = rows[low:high] - span * places.index.span_rows
            payloads = payloads_of(segments, places, span, numbers)
            for unit, of_unit in _cells(places.index, stored, payloads, wanted, n_rows).items():
                here = np.flatnonzero(units == unit)
                out[order[here], low:high] = of_unit[np.ix_(positions[here], asked)]
        bits = np.dtype(f"u{cell.itemsize}")
        turned = np.empty((len(rows), len(columns)), cell)
        turn(out.view(bits), 0, turned.view(bits))
        return Values(stored, columns, turned.reshape(len(rows), *shape)), places.index.max_abs_error

    return read_whole_shape(read, node, rows, columns)


def read_maxima(
    segments: SegmentReader, places: IndexPlaces, node: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    """The largest of the positions of each unit, in place of its positions, and where it is."""
    stored = stored_form(node)
    units = steps_of(columns, node.positions)
    out = np.empty((len(rows), len(units)), stored.types[0].cell)
    where = np.empty((len(rows), len(units)), np.int64)
    for span, low, high, n_rows in _spans_of(places, stored, rows):
        asked = rows[low:high] - span * places.index.span_rows
        payloads = payloads_of(segments, places, span, units.tolist())
        for i, unit in enumerate(units.tolist()):
            cells, found = unpack_maxima(payloads[unit], n_rows, stored)
            out[low:high, i], where[low:high, i] = cells[asked], found[asked]
    return Values(node, units * node.positions, out, where), places.index.max_abs_error + node.summary_error


def index_work(question: Question, index: Index) -> ReadWork:
    """What answering by an index is made of."""
    assert index.references is not None
    stored, columns = stored_columns(question.target, question.columns)
    units = steps_of(columns, stored.positions)
    n_heads = len(steps_of(units * stored.positions, stored.group_columns)) if index.n_heads else 0
    n_spans = len(steps_of(question.rows, index.span_rows))
    n_all = (index.n_heads + index.n_units) * -(-stored.n_rows // index.span_rows)
    n_ranges = n_spans * (n_heads + len(units))
    width = 1 if index.form == MAXIMA else stored.positions
    n_cells = min(n_spans * index.span_rows, stored.n_rows) * len(units) * width
    n_opened = sum(
        question.table_of is not None and question.table_of(segment.id) is None for segment in index.references.segments
    )
    return ReadWork(
        n_ranges,
        n_ranges,
        index.encoded_nbytes * n_ranges // n_all,
        n_cells,
        n_opened,
        len(question.rows) * len(columns),
    )


def _spans_of(places: IndexPlaces, stored: Intermediate, rows: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Each span that holds some rows: its number, which of them it holds, and how many it has."""
    span_rows = places.index.span_rows
    for span in steps_of(rows, span_rows).tolist():
        low, high = np.searchsorted(rows, [span * span_rows, (span + 1) * span_rows]).tolist()
        yield span, low, high, min(span_rows, stored.n_rows - span * span_rows)


def _cells(
    index: Index, stored: Intermediate, payloads: dict[int, np.ndarray], units: list[int], n_rows: int
) -> dict[int, np.ndarray]:
    kind = stored.types[0]
    if index.form != CODES:
        return {unit: Raw().decode(payloads[unit], (stored.positions, n_rows), kind) for unit in units}
    codec = codec_from_config(stored.codec)
    assert isinstance(codec, CodedCodec)
    n_blocks = -(-n_rows // stored.block_rows)
    block_of = np.arange(n_rows) // stored.block_rows * 256
    heads = {group: unpack_heads(payloads[group], n_blocks) for group in {group_of(stored, unit) for unit in units}}
    found = {}
    for unit in units:
        group, first = group_of(stored, unit), unit * stored.positions
        column = first - group * stored.group_columns
        n_columns = min(stored.group_columns, stored.n_columns - group * stored.group_columns)
        tables = codec.tables_of(heads[group], column=column, n_columns=n_columns, column_type=kind)
        codes = decode_codes(PayloadReader(payloads[index.n_heads + unit]), (stored.positions, n_rows))
        found[unit] = tables.reshape(-1).take(codes + block_of)
    return found


def pack_maxima(cells: np.ndarray, places: np.ndarray, stored: Intermediate) -> np.ndarray:
    """The largest of a unit's positions in each row, (n_rows,), and the position where it is, as one payload."""
    first = Raw().encode(cells[None], stored.types[0])
    kind = _places_type(stored)
    second = Raw().encode(places.astype(kind.cell)[None], kind)
    return joined(struct.pack("<I", first.nbytes), first, second)


def unpack_maxima(payload: np.ndarray, n_rows: int, stored: Intermediate) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pack_maxima`."""
    reader = PayloadReader(payload)
    cells = Raw().decode(reader.take(*reader.unpack("<I")), (1, n_rows), stored.types[0])
    return cells[0], Raw().decode(reader.rest(), (1, n_rows), _places_type(stored))[0]


def _places_type(stored: Intermediate) -> ColumnType:
    n_bytes = 1 if stored.positions <= 2**8 else 2 if stored.positions <= 2**16 else 4
    return ColumnType(f"uint{8 * n_bytes}", np.dtype(f"u{n_bytes}").str)


def pack_heads(heads: list[bytes]) -> np.ndarray:
    """The heads of the chunks of a group, one for each row block of a span, as one payload."""
    sizes = struct.pack(f"<{len(heads)}I", *map(len, heads))
    content = sizes + b"".join(heads)
    return np.frombuffer(struct.pack("<I", len(content)) + zstd.compress(content), np.uint8)


def unpack_heads(payload: np.ndarray, n_heads: int) -> list[bytes]:
    """The inverse of `pack_heads`."""
    reader = PayloadReader(payload)
    (n_bytes,) = reader.unpack("<I")
    if not 4 * n_heads <= n_bytes <= _MAX_HEADS_NBYTES:
        raise damaged(f"{n_heads} heads", f"{n_bytes} bytes")
    content = PayloadReader(zstd.decompress(reader.rest(), n_bytes))
    heads = [content.take(size).tobytes() for size in content.unpack(f"<{n_heads}I")]
    content.end()
    return heads
