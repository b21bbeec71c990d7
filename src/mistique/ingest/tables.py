"""The columns of tables on their way into a segment: new ones are gathered over all stages and encoded together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from mistique.codecs import Codec
from mistique.dedup.exact import ExactDedup, Located
from mistique.dedup.placement import Placement
from mistique.ingest.workers import Workers
from mistique.schema import Segment
from mistique.storage.digests import Digest, column_contents
from mistique.storage.segments import SegmentWriter
from mistique.storage.units import Unit, UnitKind


@dataclass(eq=False)
class TableColumn:
    """One distinct column.

    Parameters
    ----------
    contents : ndarray of shape (n_blocks, 2), uint64
    places : list
        Where each of its chunks lies: (segment or its writer, unit, place). None: not yet known.
    """

    contents: np.ndarray
    places: list[tuple[SegmentWriter | Segment, int, int] | None]


@dataclass(eq=False)
class _New:
    """A column with chunks that may be new, and its values until they are encoded."""

    column: TableColumn
    owner: str
    cells: np.ndarray
    kind: UnitKind
    codec: Codec
    block_rows: int
    blocks: list[int] = field(default_factory=list)


class TableColumns:
    """Takes columns, keeps each content once, and encodes what is new in units of columns that resemble one another.

    Parameters
    ----------
    writer : SegmentWriter
    dedup : ExactDedup
    workers : Workers
    placement : Placement
    key : bytes
        Of the digests.
    """

    def __init__(
        self, writer: SegmentWriter, dedup: ExactDedup, workers: Workers, placement: Placement, key: bytes
    ) -> None:
        self.writer = writer
        self._dedup, self._workers, self._placement, self._key = dedup, workers, placement, key
        self._columns: dict[bytes, TableColumn] = {}
        self._pending: list[_New] = []
        self._own: dict[Digest, tuple[SegmentWriter | Segment, int, int]] = {}
        self._grids: dict[str, dict[int, TableColumn]] = defaultdict(dict)
        self.pending_nbytes = 0
        self.new_nbytes: dict[str, float] = defaultdict(float)

    def put(self, owner: str, group: int, cells: np.ndarray, *, kind: UnitKind, codec: Codec, block_rows: int) -> None:
        """Take one column, shape (n_rows,): copied if it is new, so that a later stage may change it in place."""
        contents = column_contents(cells, block_rows, kind.context, self._key)
        name = contents.tobytes()
        column = self._columns.get(name)
        if column is None:
            known = self._dedup.column(name)
            places = [tuple(located) for located in known] if known else [None] * len(contents)
            column = self._columns[name] = TableColumn(contents, places)  # type: ignore[arg-type]
            if known is None:
                self._pending.append(_New(column, owner, cells.copy(), kind, codec, block_rows))
                self.pending_nbytes += cells.nbytes
        self._grids[owner][group] = column

    def forget(self, owner: str) -> None:
        """Leave out an intermediate: what others share with it stays."""
        self._grids.pop(owner, None)

    def encode(self) -> None:
        """Put the new chunks of all pending columns into the segment."""
        self._find_places()
        packs = [pack for alike in self._alike() for pack in alike]
        for units in self._workers.map(_encoded, packs):
            for unit, columns, block in units:
                number = self.writer.append(unit)
                for place, new in enumerate(columns):
                    digest = _digest(new.column.contents[block])
                    self._own[digest] = new.column.places[block] = self.writer, number, place
                    self.new_nbytes[new.owner] += unit.payload.nbytes / len(columns)
        for new in self._pending:
            for block, place in enumerate(new.column.places):
                if place is None:  # twice among the pending ones: the first was encoded
                    new.column.places[block] = self._own[_digest(new.column.contents[block])]
        self._pending.clear()
        self.pending_nbytes = 0

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

    def _find_places(self) -> None:
        """Note what is known of the pending columns; what stays is claimed by the first column that has it."""
        if not self._pending:
            return
        digests = np.concatenate([new.column.contents for new in self._pending])
        located: dict[Digest, Located] = self._dedup.locate(digests)
        claimed: set[Digest] = set()
        for new in self._pending:
            for block, words in enumerate(new.column.contents):
                digest = _digest(words)
                if digest in located:
                    new.column.places[block] = tuple(located[digest])
                elif digest in self._own:
                    new.column.places[block] = self._own[digest]
                elif digest not in claimed:
                    claimed.add(digest)
                    new.blocks.append(block)

    def _alike(self) -> Iterator[list[list[_New]]]:
        """Pending columns with something new in packs of one kind and length."""
        kinds: dict[tuple[object, ...], list[_New]] = defaultdict(list)
        for new in self._pending:
            if new.blocks:
                kinds[new.kind, new.block_rows, len(new.cells)].append(new)
        for news in kinds.values():
            if news[0].codec.is_lossy:  # its scale is that of one column
                yield [[new] for new in news]
            else:
                yield self._placement.packs(news, [new.cells for new in news])


def _encoded(pack: list[_New]) -> list[tuple[Unit, list[_New], int]]:
    """The units of a pack: one for each block, of the columns that are new there."""
    units = []
    for block in sorted({block for new in pack for block in new.blocks}):
        columns = [new for new in pack if block in new.blocks]
        rows = slice(block * pack[0].block_rows, (block + 1) * pack[0].block_rows)
        values = np.stack([new.cells[rows] for new in columns])
        payload = columns[0].codec.encode(values, columns[0].kind.type)
        contents = np.array([new.column.contents[block] for new in columns])
        units.append((Unit(columns[0].kind, values.shape, payload, contents), columns, block))
    return units


def _digest(words: np.ndarray) -> Digest:
    return int(words[0]), int(words[1])
