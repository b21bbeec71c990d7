"""The columns of tables on their way into a segment: new ones are gathered over all stages and encoded together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from mistique.codecs import Codec
from mistique.dedup.dictionary import Numbered, numbered
from mistique.dedup.exact import ExactDedup
from mistique.dedup.placement import Placement
from mistique.ingest.workers import Workers
from mistique.schema import Segment
from mistique.storage.digests import Digest, column_contents
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.units import Unit, UnitKind

Where = tuple[SegmentWriter | Segment, int, int]  # segment, unit, place


@dataclass(eq=False)
class TableColumn:
    """One distinct column.

    Parameters
    ----------
    places : list
        Where each of its chunks lies. None: not yet known.
    dictionary : TableColumn, optional
        Of one chunk: the values that the chunks of this column number. None: they are the values themselves.
    """

    places: list[Where | None]
    dictionary: TableColumn | None = None


@dataclass(eq=False)
class _New:
    """A column with chunks that may be new, and its cells until they are encoded."""

    column: TableColumn
    owner: str
    cells: np.ndarray
    contents: np.ndarray
    kind: UnitKind
    codec: Codec
    block_rows: int
    blocks: list[int] = field(default_factory=list)
    taken: Future[Numbered | None] | None = None


class TableColumns:
    """Takes columns, keeps each content once, and encodes what is new in units of columns that resemble one another.

    Parameters
    ----------
    writer : SegmentWriter
    lock : Lock
        Of the writer.
    dedup : ExactDedup
    workers : Workers
    placement : Placement
    key : bytes
        Of the digests.
    """

    def __init__(
        self,
        writer: SegmentWriter,
        lock: Lock,
        dedup: ExactDedup,
        workers: Workers,
        placement: Placement,
        key: bytes,
    ) -> None:
        self.writer, self._lock = writer, lock
        self._dedup, self._workers, self._placement, self._key = dedup, workers, placement, key
        self._columns: dict[bytes, TableColumn] = {}
        self._contents: dict[tuple[int, bytes, int], tuple[np.ndarray, np.ndarray]] = {}
        self._pending: list[_New] = []
        self._own: dict[Digest, Where] = {}
        self._grids: dict[str, dict[int, TableColumn]] = defaultdict(dict)
        self.pending_nbytes = 0
        self.new_nbytes: dict[str, float] = defaultdict(float)

    def put(self, owner: str, group: int, cells: np.ndarray, *, kind: UnitKind, codec: Codec, block_rows: int) -> None:
        """Take one column, shape (n_rows,): copied if it is new, so that a later stage may change it in place."""
        given, cells = cells, np.ascontiguousarray(cells)
        contents = self._contents_of(cells, block_rows, kind)
        name = contents.tobytes()
        column = self._columns.get(name)
        if column is None:
            known = self._dedup.column(name)
            column = self._columns[name] = TableColumn([None] * len(contents))
            if known is not None:
                column.places = list(known.chunks)
                column.dictionary = TableColumn([known.dictionary]) if known.dictionary else None
            else:
                own = cells.copy() if np.shares_memory(cells, given) else cells
                new = _New(column, owner, own, contents, kind, codec, block_rows)
                if not codec.is_lossy and own.dtype.kind != "O":  # text would hold the GIL
                    new.taken = self._workers.start(numbered, own)
                self._pending.append(new)
                self.pending_nbytes += cells.nbytes
        self._grids[owner][group] = column

    def _contents_of(self, cells: np.ndarray, block_rows: int, kind: UnitKind) -> np.ndarray:
        """The digests of a column's chunks; of texts that many stages pass on (`SeenTexts`), made once."""
        if cells.dtype.kind != "O":
            return column_contents(cells, block_rows, kind.context, self._key)
        name = id(cells), kind.context(1, len(cells)), block_rows
        if name not in self._contents:
            # The cells are held, so that no others get their number.
            self._contents[name] = cells, column_contents(cells, block_rows, kind.context, self._key)
        return self._contents[name][1]

    def forget(self, owner: str) -> None:
        """Leave out an intermediate: what others share with it stays."""
        self._grids.pop(owner, None)

    def encode(self) -> None:
        """Put the new chunks of all pending columns into the segment; beside `put`, but not beside another `encode`."""
        pending, self._pending = self._pending, []
        self.pending_nbytes = 0
        self._find_places(pending)
        pending = self._taken_apart(pending)
        self._claim(pending)
        packs = [pack for alike in self._alike(pending) for pack in alike]
        for units in self._workers.map(_encoded, packs):
            for unit, columns, block in units:
                # Held for an append alone: the threads that encode may be those that wait for it.
                with self._lock:
                    number = self.writer.append(unit)
                for place, new in enumerate(columns):
                    self._own[_digest(new.contents[block])] = self.writer, number, place
                    self.new_nbytes[new.owner] += unit.payload.nbytes / len(columns)
        for new in pending:
            for block, where in enumerate(new.column.places):
                if where is None:
                    new.column.places[block] = self._own[_digest(new.contents[block])]

    def grids(self) -> Iterator[tuple[str, list[TableColumn]]]:
        """The columns of each intermediate, in order."""
        for owner, columns in self._grids.items():
            yield owner, [columns[group] for group in sorted(columns)]

    def columns(self) -> dict[bytes, TableColumn]:
        """The distinct columns, by their contents."""
        return self._columns

    def entries(self) -> dict[Digest, tuple[int, int]]:
        """Unit and place of each chunk that is new."""
        return {digest: (unit, place) for digest, (where, unit, place) in self._own.items() if where is self.writer}

    def _find_places(self, news: list[_New]) -> None:
        """Note which chunks of some columns the store, or this capture, already holds."""
        if not news:
            return
        located = self._dedup.locate(np.concatenate([new.contents for new in news]))
        for new in news:
            digests = [_digest(words) for words in new.contents]
            new.column.places = [located.get(digest) or self._own.get(digest) for digest in digests]

    def _claim(self, news: list[_New]) -> None:
        """What is not known is encoded with the first column that has it."""
        claimed: set[Digest] = set()
        for new in news:
            for block, where in enumerate(new.column.places):
                digest = _digest(new.contents[block])
                if where is None and digest not in claimed:
                    claimed.add(digest)
                    new.blocks.append(block)

    def _taken_apart(self, news: list[_New]) -> list[_New]:
        """Columns of which nothing is known as numbers and values, where that is shorter or the numbers are known."""
        result = [new for new in news if any(new.column.places) or new.codec.is_lossy]
        unknown = [new for new in news if not any(new.column.places) and not new.codec.is_lossy]
        parts: list[_New] = []
        bases: set[bytes] = set()
        for new in unknown:
            taken = numbered(new.cells) if new.taken is None else new.taken.result()
            new.taken = None
            if taken is None:
                result.append(new)
                continue
            told = self._dedup.bases.find(taken, new.cells)
            taken = told or taken
            numbers = self._part(new, taken.numbers, new.block_rows)
            name = numbers.contents.tobytes()
            if not (told or taken.is_shorter or name in bases or self._is_known(numbers.contents[0])):
                result.append(new)
                continue
            bases.add(name)
            self._dedup.bases.remember(name, taken)
            values = self._part(new, taken.values, len(taken.values))
            numbers.column = new.column
            new.column.dictionary = values.column
            parts += [numbers, values]
        self._find_places(parts)
        return result + parts

    def _is_known(self, words: np.ndarray) -> bool:
        return _digest(words) in self._own or bool(self._dedup.locate(words[None]))

    def _part(self, new: _New, cells: np.ndarray, block_rows: int) -> _New:
        cell = "<U0" if cells.dtype.kind == "O" else cells.dtype.str
        kind = replace(new.kind, dtype=cell, cell=cell)
        contents = column_contents(cells, block_rows, kind.context, self._key)
        column = TableColumn([None] * len(contents))
        return _New(column, new.owner, cells, contents, kind, new.codec, block_rows)

    def _alike(self, news: list[_New]) -> Iterator[list[list[_New]]]:
        """Columns with something new in packs of one kind and length."""
        kinds: dict[tuple[object, ...], list[_New]] = defaultdict(list)
        for new in news:
            if new.blocks:
                kinds[new.kind, new.block_rows, len(new.cells)].append(new)
        for alike in kinds.values():
            if alike[0].codec.is_lossy:  # its scale is that of one column
                yield [[new] for new in alike]
            else:
                yield self._placement.packs(alike, [new.cells for new in alike])


def _encoded(pack: list[_New]) -> list[tuple[Unit, list[_New], int]]:
    """The units of a pack: one for each block, of the columns that are new there."""
    units = []
    for block in sorted({block for new in pack for block in new.blocks}):
        columns = [new for new in pack if block in new.blocks]
        rows = slice(block * pack[0].block_rows, (block + 1) * pack[0].block_rows)
        values = np.stack([new.cells[rows] for new in columns])
        payload = columns[0].codec.encode(values, columns[0].kind.type)
        contents = np.array([new.contents[block] for new in columns])
        units.append((Unit(columns[0].kind, values.shape, payload, contents), columns, block))
    return units


def _digest(words: np.ndarray) -> Digest:
    return int(words[0]), int(words[1])
