"""Encoded chunks on their way into segments: gathered, de-duplicated, written in large rectangles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mistique.codecs import Codec
from mistique.dedup.exact import ExactDedup, Located
from mistique.schema import References, Run, Segment
from mistique.storage.digests import Digest, Place, chunk_digest, codec_text
from mistique.storage.segments import SegmentWriter

# cell type, codec, columns, rows of a block, columns of a group
SegmentWriterFactory = Callable[[np.dtype, Codec, int, int, int], SegmentWriter]


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A new chunk that no segment holds yet."""

    owner: str
    block: int
    group: int
    cells: np.ndarray
    params: np.ndarray
    codec: Codec
    geometry: tuple[int, int, int]  # block_rows, group_columns, n_columns of a layer (0: a table)


@dataclass(frozen=True, slots=True)
class _Written:
    writer: SegmentWriter
    block: int
    group: int
    owner: str
    nbytes: int


class SegmentBuffer:
    """Takes chunks, keeps each content once, and ends in references.

    Chunks of tables are looked for in the whole store, and what is new of all stages lies side by side in one segment
    for each cell type. A layer has a segment of its own, in which a chunk lies where it lies in the layer.

    Parameters
    ----------
    make_writer : callable
        Makes a `SegmentWriter` for a cell type, codec and geometry.
    dedup : ExactDedup
    max_nbytes : int
        Encoded bytes held before they are written.
    """

    def __init__(self, make_writer: SegmentWriterFactory, dedup: ExactDedup, *, max_nbytes: int) -> None:
        self._make_writer, self._dedup, self._max_nbytes = make_writer, dedup, max_nbytes
        self._pending: dict[Digest, Pending] = {}
        self._pending_nbytes = 0
        self._located: dict[Digest, Located] = {}
        self._written: dict[Digest, _Written] = {}
        self._layer_writers: dict[tuple[str, str], SegmentWriter] = {}
        self._writers: list[SegmentWriter] = []
        self._grids: dict[str, dict[tuple[int, int], Digest]] = defaultdict(dict)

    def put(self, pending: Pending) -> None:
        """Take one chunk."""
        digest = chunk_digest(pending.cells, pending.params, _text_of(pending.codec))
        self._grids[pending.owner][pending.block, pending.group] = digest
        if digest in self._pending or digest in self._located or digest in self._written:
            return
        self._pending[digest] = pending
        self._pending_nbytes += pending.cells.nbytes

    def end_block(self) -> None:
        """Write if the buffer is full. Only between whole row blocks: a block is one rectangle, written once."""
        if self._pending_nbytes > self._max_nbytes:
            self.flush()

    def flush(self) -> None:
        """Write what is pending and not yet in the store."""
        tables = [digest for digest, pending in self._pending.items() if not pending.geometry[2]]
        self._located.update(self._dedup.locate(tables))
        rectangles: dict[tuple[object, ...], dict[Digest, Pending]] = defaultdict(dict)
        for digest, pending in self._pending.items():
            if digest not in self._located:
                owner = pending.owner if pending.geometry[2] else ""
                cell = _cell_name(pending.cells)
                rectangles[owner, cell, repr(pending.codec.config()), pending.geometry][digest] = pending
        for chunks in rectangles.values():
            self._write(chunks)
        self._pending.clear()
        self._pending_nbytes = 0

    def forget(self, owner: str) -> None:
        """Leave out an intermediate: what others share with it stays."""
        self._grids.pop(owner, None)

    def finish(self) -> tuple[dict[str, References], dict[str, int], dict[Digest, Place]]:
        """Write the rest and close the segments.

        Returns
        -------
        references : dict of name to References
        new_nbytes : dict of name to int
            Bytes that each intermediate added to the store: its share of the segments written.
        places : dict of Digest to Place
            Of the table chunks written, for the index.
        """
        self.flush()
        segments = {writer.id: writer.finish() for writer in self._writers}
        located = dict(self._located)
        shares: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        places: dict[Digest, Place] = {}
        layer_ids = {writer.id for writer in self._layer_writers.values()}
        for digest, written in self._written.items():
            segment = segments[written.writer.id]
            located[digest] = segment, written.block, written.group
            shares[segment.id][written.owner] += written.nbytes
            if segment.id not in layer_ids:
                places[digest] = Place(segment.id, written.block, written.group)
        new_nbytes: dict[str, int] = defaultdict(int)
        for segment_id, by_owner in shares.items():
            total = max(sum(by_owner.values()), 1)
            for owner, nbytes in by_owner.items():
                new_nbytes[owner] += segments[segment_id].encoded_nbytes * nbytes // total
        references = {
            owner: pack_references({place: located[digest] for place, digest in grid.items()})
            for owner, grid in self._grids.items()
        }
        return references, new_nbytes, places

    def discard(self) -> None:
        """Give up: take away the segments begun."""
        for writer in self._writers:
            writer.discard()
        self._writers.clear()
        self._pending.clear()

    def _write(self, chunks: dict[Digest, Pending]) -> None:
        first = next(iter(chunks.values()))
        block_rows, group_columns, layer_columns = first.geometry
        if layer_columns:
            # A layer with parts in two cell types has a writer for each.
            name = first.owner, _cell_name(first.cells) + repr(first.codec.config())
            slots = {(p.owner, p.group): p.group for p in chunks.values()}
            writer = self._layer_writers.get(name)
            if writer is None:
                writer = self._new_writer(first, layer_columns)
                self._layer_writers[name] = writer
        else:
            slots = {slot: i for i, slot in enumerate(dict.fromkeys((p.owner, p.group) for p in chunks.values()))}
            writer = self._new_writer(first, len(slots) * group_columns)
        by_block: dict[int, dict[int, Pending]] = defaultdict(dict)
        for digest, pending in chunks.items():
            slot = slots[pending.owner, pending.group]
            by_block[pending.block][slot] = pending
            writer.note(pending.block, slot, digest, pending.params)
            self._written[digest] = _Written(writer, pending.block, slot, pending.owner, pending.cells.nbytes)
        first_column = min(slots.values()) * group_columns
        for blocks in _consecutive(sorted(by_block)):
            cells = _rectangle([by_block[block] for block in blocks], block_rows, group_columns, first_column)
            writer.write(cells, column=first_column, row=blocks[0] * block_rows)

    def _new_writer(self, pending: Pending, n_columns: int) -> SegmentWriter:
        block_rows, group_columns, _ = pending.geometry
        writer = self._make_writer(_cell_dtype(pending.cells), pending.codec, n_columns, block_rows, group_columns)
        self._writers.append(writer)
        return writer


@lru_cache(maxsize=256)
def _text_of(codec: Codec) -> str:
    return codec_text(codec.config())


def _cell_dtype(cells: np.ndarray) -> np.dtype:
    return np.dtype("U0") if cells.dtype.kind == "O" else cells.dtype


def _cell_name(cells: np.ndarray) -> str:
    return _cell_dtype(cells).str


def _consecutive(blocks: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _rectangle(blocks: list[dict[int, Pending]], block_rows: int, group_columns: int, first_column: int) -> np.ndarray:
    """Chunks of consecutive blocks, by slot, as one array; slots without a chunk are empty."""
    ends = [max((slot * group_columns + len(p.cells)) for slot, p in chunks.items()) for chunks in blocks]
    n_rows = (len(blocks) - 1) * block_rows + next(iter(blocks[-1].values())).cells.shape[1]
    some = next(iter(blocks[0].values())).cells
    shape = max(ends) - first_column, n_rows
    rectangle = np.full(shape, "", object) if some.dtype.kind == "O" else np.zeros(shape, some.dtype)
    for i, chunks in enumerate(blocks):
        for slot, pending in chunks.items():
            column, row = slot * group_columns - first_column, i * block_rows
            height, width = pending.cells.shape
            rectangle[column : column + height, row : row + width] = pending.cells
    return rectangle


def pack_references(grid: Mapping[tuple[int, int], Located]) -> References:
    """References to chunks, by (block, group), as few rectangles: down the blocks first, then over groups alike."""
    segments: dict[str, int] = {}
    listed: list[Segment] = []
    for segment, _, _ in grid.values():
        if segment.id not in segments:
            segments[segment.id] = len(listed)
            listed.append(segment)
    by_group: dict[int, list[Run]] = defaultdict(list)
    for (block, group), (segment, segment_block, segment_group) in sorted(grid.items(), key=lambda item: item[0]):
        index = segments[segment.id]
        runs = by_group[group]
        if runs and _continues(runs[-1], index, block, segment_block, segment_group):
            runs[-1] = replace(runs[-1], n_blocks=runs[-1].n_blocks + 1)
        else:
            runs.append(Run(index, block, 1, group, 1, segment_block, segment_group))
    packed: list[list[Run]] = []
    for group in sorted(by_group):
        runs = by_group[group]
        if packed and len(packed[-1]) == len(runs) and all(map(_goes_alike, packed[-1], runs)):
            packed[-1] = [replace(run, n_groups=run.n_groups + 1) for run in packed[-1]]
        else:
            packed.append(runs)
    return References(tuple(listed), tuple(run for runs in packed for run in runs))


def _continues(run: Run, segment: int, block: int, segment_block: int, segment_group: int) -> bool:
    return (
        run.segment == segment
        and run.block + run.n_blocks == block
        and run.segment_block + run.n_blocks == segment_block
        and run.segment_group == segment_group
    )


def _goes_alike(left: Run, right: Run) -> bool:
    """Whether `right` extends the rectangle of `left` by one more group."""
    return (
        (left.segment, left.block, left.n_blocks, left.segment_block)
        == (right.segment, right.block, right.n_blocks, right.segment_block)
        and left.group + left.n_groups == right.group
        and left.segment_group + left.n_groups == right.segment_group
    )
