"""Making an index of a stored layer: its units taken apart from the chunks that hold many of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mistique.codecs import CodedCodec, Raw, codec_from_config, stored_form
from mistique.codecs.entropy import encode_codes
from mistique.codecs.floats import as_numbers
from mistique.errors import ChunkCorruptError, IndexTooLargeError
from mistique.planner.index_bounds import pack_bounds
from mistique.planner.index_layout import (
    BOUNDS,
    CELLS,
    CODES,
    MAXIMA,
    SPAN_ROWS,
    float32_nbytes,
    index_kind,
    keeps_maxima,
    spans_of,
)
from mistique.planner.index_read import pack_heads, pack_maxima
from mistique.planner.reading import read
from mistique.planner.values import Values
from mistique.schema import Index, Intermediate
from mistique.storage.digests import content_key, digest_bytes
from mistique.storage.references import pack_references, unpack_references
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.segments import SegmentReader
from mistique.storage.units import Unit, UnitKind, UnitTable

T = TypeVar("T")
R = TypeVar("R")
# The blocks and groups that a unit of a segment stands for.
_Wanted = dict[int, list[tuple[int, int]]]
# Cells of a span that are in memory at once, in columns of codes or of values.
_CELLS_AT_ONCE = 32 * 1024 * 1024
_FLUSH_NBYTES = 16 * 1024 * 1024
# A build is given up early where the units so far took so many times the share: the others may be sparser.
_HOPELESS = 1.5


class _NotCodedError(Exception):
    """A chunk was not kept by codes."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some heads or units of a span, in order from `first` on, and how many cells of the layer they are made from."""

    span: int
    first: int
    payloads: list[np.ndarray]
    shapes: list[tuple[int, int]]
    n_cells: int


class IndexBuilder:
    """Builds the index of a layer in a segment of its own.

    Parameters
    ----------
    segments : SegmentReader
    node : Intermediate
        A layer, with its references, all of whose rows are stored.
    """

    def __init__(self, segments: SegmentReader, node: Intermediate) -> None:
        self._segments, self._node = segments, node
        self._stored = replace(stored_form(node), summary_error=0.0)
        self._worst = 0.0

    def build(self, make_writer: Callable[[], SegmentWriter], *, max_share: float) -> Index:
        """Write the index; nothing is seen of it before a record refers to it.

        Parameters
        ----------
        make_writer : callable
        max_share : float
            Of the float32 bytes of the layer, that it may take.

        Raises
        ------
        IndexTooLargeError
            It would take more.
        ChunkCorruptError
        """
        codec = codec_from_config(self._stored.codec)
        if keeps_maxima(self._node):
            return self._write(make_writer(), MAXIMA, 0, self._maxima(), max_share)
        if isinstance(codec, CodedCodec):
            try:
                return self._write(make_writer(), CODES, self._stored.n_groups, self._codes(codec), max_share)
            except _NotCodedError:
                self._worst = 0.0
        try:
            return self._write(make_writer(), CELLS, 0, self._units(self._raw), max_share)
        except IndexTooLargeError:
            if not (isinstance(codec, Raw) and self._stored.types[0].is_float):
                raise
            return self._write(make_writer(), BOUNDS, 0, self._units(self._bounds), max_share)

    def _write(
        self, writer: SegmentWriter, form: str, n_heads: int, pieces: Iterator[_Piece], max_share: float
    ) -> Index:
        stored = self._stored
        numbers = np.full((len(spans_of(stored)), n_heads + stored.n_units), -1, np.int64)
        try:
            self._fill(writer, index_kind(form), pieces, numbers, max_share)
            segment = writer.finish()
            self._check_nbytes(segment.encoded_nbytes, max_share)
        except BaseException:
            writer.discard()
            raise
        grid = np.zeros((*numbers.shape, 3), np.int64)
        grid[:, :, 1] = numbers
        references = pack_references([segment], grid)
        return Index(
            stored.name, form, SPAN_ROWS, n_heads, stored.n_units, self._worst, segment.encoded_nbytes, references
        )

    def _fill(
        self, writer: SegmentWriter, kind: UnitKind, pieces: Iterator[_Piece], numbers: np.ndarray, max_share: float
    ) -> None:
        key, n_cells = content_key(), self._stored.n_rows * self._stored.n_columns
        done_nbytes = done_cells = 0
        for piece in pieces:
            for i, (payload, shape) in enumerate(zip(piece.payloads, piece.shapes, strict=True)):
                digest = digest_bytes(payload, key, kind.context(*shape))
                unit = Unit(kind, shape, payload, np.array([digest], np.uint64))
                numbers[piece.span, piece.first + i] = writer.append(unit)
                done_nbytes += payload.nbytes
            done_cells += piece.n_cells
            if done_cells:  # what is far too large is not written to its end
                self._check_nbytes(int(done_nbytes * n_cells / done_cells / _HOPELESS), max_share)
            if writer.pending_nbytes > _FLUSH_NBYTES:
                writer.flush()

    def _check_nbytes(self, nbytes: int, max_share: float) -> None:
        whole = float32_nbytes(self._node)
        if nbytes > max_share * whole:
            raise IndexTooLargeError(name=self._stored.name, nbytes=nbytes, float32_nbytes=whole, max_share=max_share)

    def _codes(self, codec: CodedCodec) -> Iterator[_Piece]:
        """The codes of each unit, cut out of the chunks of its group, and the heads of these."""
        stored = self._stored
        width, positions, n_groups = stored.group_columns, stored.positions, stored.n_groups
        for span, (low, high) in enumerate(spans_of(stored)):
            step = max(_CELLS_AT_ONCE // ((high - low) * width), 1)
            for first in range(0, n_groups, step):
                groups = range(first, min(first + step, n_groups))
                codes, heads = self._coded_chunks(codec, groups, low, high)
                packed = [pack_heads(of_group) for of_group in heads]
                yield _Piece(span, first, packed, [(1, payload.nbytes) for payload in packed], 0)
                units = [codes[at : at + positions] for at in range(0, len(codes), positions)]
                payloads = self._spread(lambda unit: np.frombuffer(encode_codes(unit), np.uint8), units)
                shapes = [unit.shape for unit in units]
                yield _Piece(span, n_groups + first * width // positions, payloads, shapes, codes.size)

    def _coded_chunks(
        self, codec: CodedCodec, groups: range, low: int, high: int
    ) -> tuple[np.ndarray, list[list[bytes]]]:
        """The codes (n_columns, n_rows) of some groups in some row blocks, and the heads of each group's chunks."""
        stored, references = self._stored, self._node.references
        assert references is not None
        grid = unpack_references(references)
        blocks = range(low // stored.block_rows, -(-high // stored.block_rows))
        width, start = stored.group_columns, groups.start * stored.group_columns
        codes = np.empty((min(groups.stop * width, stored.n_columns) - start, high - low), np.uint8)
        heads: list[list[bytes]] = [[b""] * len(blocks) for _ in groups]
        wanted: dict[int, _Wanted] = {}
        for block in blocks:
            for group in groups:
                at, unit, _ = grid[block, group].tolist()
                wanted.setdefault(at, {}).setdefault(unit, []).append((block, group))
        for at, of_unit in wanted.items():
            segment = references.segments[at]
            table = self._segments.table(segment)

            def take(work: tuple[int, np.ndarray], table: UnitTable = table, of_unit: _Wanted = of_unit) -> float:
                unit, payload = work
                kind = table.kinds[int(table.kind_of[unit])]
                shape = int(table.shapes[unit, 0]), int(table.shapes[unit, 1])
                if json.loads(kind.codec) != codec.config() or kind.cell != stored.types[0].cell:
                    raise ChunkCorruptError(where=f"unit {unit}", expected=str(codec.config()), got=kind.codec)
                found = codec.codes_of(payload, shape)
                if found is None:
                    raise _NotCodedError
                for block, group in of_unit[unit]:
                    top, left = block * stored.block_rows - low, group * width - start
                    place = codes[left : left + width, top : top + stored.block_rows]
                    if place.shape != shape:
                        raise ChunkCorruptError(where=f"unit {unit}", expected=str(place.shape), got=str(shape))
                    place[:] = found[0]
                    heads[group - groups.start][block - blocks.start] = found[1]
                return codec.max_abs_error(payload, kind.type)

            for units, payloads in self._segments.payloads(segment, np.array(sorted(of_unit), np.int64)):
                errors = self._spread(take, list(zip(units.tolist(), payloads, strict=True)))
                self._worst = max(self._worst, *errors)
        return codes, heads

    def _units(self, pack: Callable[[np.ndarray], np.ndarray]) -> Iterator[_Piece]:
        """The cells of each unit, or their bounds."""
        stored = self._stored
        for span, (low, high) in enumerate(spans_of(stored)):
            step = max(_CELLS_AT_ONCE // ((high - low) * stored.group_columns * 4), 1) * stored.group_columns
            for first in range(0, stored.n_columns, step):
                columns = np.arange(first, min(first + step, stored.n_columns))
                values, error = read(self._segments, stored, np.arange(low, high), columns)
                self._worst = max(self._worst, error)
                assert isinstance(values.parts, np.ndarray)
                cells = list(values.parts.reshape(high - low, stored.positions, -1).transpose(2, 1, 0))
                payloads = self._spread(pack, cells)
                shapes = [unit.shape for unit in cells]
                yield _Piece(span, first // stored.positions, payloads, shapes, len(columns) * (high - low))

    def _raw(self, unit: np.ndarray) -> np.ndarray:
        return Raw().encode(np.ascontiguousarray(unit), self._stored.types[0])

    def _bounds(self, unit: np.ndarray) -> np.ndarray:
        numbers = as_numbers(unit, self._stored.types[0])
        return pack_bounds(numbers.astype(np.float32 if unit.itemsize <= 4 else np.float64))

    def _maxima(self) -> Iterator[_Piece]:
        """The largest of the positions of each unit, in each row, NaN where one is, and where that is."""
        stored = self._stored
        step = max(_CELLS_AT_ONCE // (stored.block_rows * stored.n_columns * 4), 1) * stored.block_rows
        for span, (low, high) in enumerate(spans_of(stored)):
            found = np.empty((stored.n_units, high - low), stored.types[0].cell)
            places = np.empty((stored.n_units, high - low), np.int64)
            for top in range(low, high, step):
                rows = np.arange(top, min(top + step, high))
                values, error = read(self._segments, stored, rows, np.arange(stored.n_columns))
                self._worst = max(self._worst, error)
                here = slice(top - low, top - low + len(rows))
                found[:, here], places[:, here] = _largest(values)
            units = list(zip(found, places, strict=True))
            payloads = self._spread(lambda unit: pack_maxima(*unit, stored), units)
            yield _Piece(span, 0, payloads, [(1, high - low)] * len(units), (high - low) * stored.n_columns)

    def _spread(self, function: Callable[[T], R], work: list[T]) -> list[R]:
        futures = self._segments.spread(lambda part: [function(item) for item in part], work)
        return [result for future in futures for result in future.result()]


def _largest(values: Values) -> tuple[np.ndarray, np.ndarray]:
    """The largest of the positions of each unit, in cells, and the first position where it is: (n_units, n_rows)."""
    cells = np.asarray(values.parts)
    numbers = values.to_numpy().reshape(cells.shape)
    # NumPy knows no order of bfloat16 and of 8-bit floats; every one of them is a float32.
    wide = numbers if numbers.dtype.kind in "iufb" else numbers.astype(np.float32)
    places = wide.argmax(axis=1)
    return np.take_along_axis(cells, places[:, None], axis=1)[:, 0].T, places.T
