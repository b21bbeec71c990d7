"""Exact de-duplication: a column chunk that the store already holds is referred to, not stored again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mistique.dedup.bases import Bases
from mistique.errors import StoreError
from mistique.schema import Segment
from mistique.storage.digest_index import DigestIndex, Place
from mistique.storage.digests import Digest
from mistique.storage.segments import SegmentReader

# Columns of tables whose place is remembered while the store is open; each takes about 1 kB.
_MAX_COLUMNS = 100_000


class Located(NamedTuple):
    """A chunk that the store holds."""

    segment: Segment
    unit: int
    place: int


class KnownColumn(NamedTuple):
    """A column of a table that the store holds: its chunks, and the values that they number if they are numbers."""

    chunks: tuple[Located, ...]
    dictionary: Located | None


class ExactDedup:
    """Locates chunks by the digest of their values over the whole store, whatever model, version or process wrote them.

    Parameters
    ----------
    index : DigestIndex
    segments : SegmentReader
    follow : callable
        Where a chunk lies now that may have been moved; None: nobody should refer to it any more.

    Notes
    -----
    The index is advice. A chunk counts as held only if its segment's own table has the same digest at that place, and
    if the segment was sealed by this user's key (docs/adr/0017); one that is another's, damaged or gone is passed over,
    and the chunk is stored again. Of an index that cannot be read no advice is taken until the next `refresh`.
    """

    def __init__(
        self,
        index: DigestIndex,
        segments: SegmentReader,
        follow: Callable[[Place], Place | None] = lambda place: place,
    ) -> None:
        self._index, self._segments, self._follow = index, segments, follow
        self.bases = Bases()
        self._columns: OrderedDict[bytes, KnownColumn] = OrderedDict()
        self._described: dict[str, Segment | None] = {}
        self._contents: OrderedDict[str, np.ndarray] = OrderedDict()
        self.failure: StoreError | None = None

    def refresh(self) -> None:
        """See what others have written since; what keeps the index from being read is then in `failure`."""
        self.failure = None
        try:
            self._index.refresh()
        except StoreError as error:
            self._do_without(error)

    def column(self, contents: bytes) -> KnownColumn | None:
        """Where a whole column lies, if this store has seen it since it was opened."""
        return self._columns.get(contents)

    def remember(self, columns: Mapping[bytes, KnownColumn]) -> None:
        """Keep where columns lie that were just committed."""
        self._columns.update(columns)
        while len(self._columns) > _MAX_COLUMNS:
            self._columns.popitem(last=False)

    def forget(self) -> None:
        """Remember nothing: segments were moved."""
        self._columns.clear()
        self._described.clear()
        self._contents.clear()

    def locate(self, digests: np.ndarray) -> dict[Digest, Located]:
        """Where chunks with these digests, shape (n, 2), lie, for those that the store is known to hold."""
        located: dict[Digest, Located] = {}
        for digest, indexed in self._advice(digests).items():
            place = self._follow(indexed)
            segment = self.describe(place.segment) if place is not None else None
            if place is None or segment is None:
                continue
            try:
                table = self._segments.table(segment)
                if not 0 <= place.unit < table.n_units:
                    continue
                if digest == self.content(segment, place.unit, place.place):
                    located[digest] = Located(segment, place.unit, place.place)
            except StoreError:
                self._described[place.segment] = None
        return located

    def _advice(self, digests: np.ndarray) -> Mapping[Digest, Place]:
        if self.failure is not None:
            return {}
        try:
            return self._index.find(digests)
        except StoreError as error:
            self._do_without(error)
            return {}

    def _do_without(self, failure: StoreError) -> None:
        self.failure = failure
        self._index.forget()

    def content(self, segment: Segment, unit: int, place: int) -> Digest | None:
        """The digest of the values of a chunk; None: there is no such chunk.

        Raises
        ------
        ChunkCorruptError
        """
        table = self._segments.table(segment)
        if not 0 <= unit < table.n_units:
            return None
        contents = self._contents.get(segment.id)
        if contents is None:
            contents = self._contents[segment.id] = self._segments.contents(segment)
            while len(self._contents) > 64:
                self._contents.popitem(last=False)
        first, end = int(table.first_chunk[unit]), int(table.first_chunk[unit + 1])
        if not 0 <= place < end - first:
            return None
        found = contents[first + place]
        return int(found[0]), int(found[1])

    def describe(self, segment_id: str) -> Segment | None:
        """A segment that the index names; None: it cannot be read, or another user wrote it."""
        if segment_id not in self._described:
            try:
                self._described[segment_id] = self._segments.describe(segment_id)
            except StoreError:
                self._described[segment_id] = None
        return self._described[segment_id]
