"""Exact de-duplication: a column chunk that the store already holds is referred to, not stored again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mistique.errors import StoreError
from mistique.schema import Segment
from mistique.storage.digests import Digest, DigestIndex
from mistique.storage.segments import SegmentReader

Located = tuple[Segment, int, int]  # segment, block, group


class ExactDedup:
    """Locates chunks by digest over the whole store, whatever model, version or process wrote them."""

    def __init__(self, index: DigestIndex, segments: SegmentReader) -> None:
        self._index, self._segments = index, segments

    def locate(self, digests: Iterable[Digest]) -> dict[Digest, Located]:
        """Where chunks with these digests lie, for those that the store holds.

        Notes
        -----
        The index is advice. A chunk counts as held only if the table of its segment has the same digest at that place;
        a segment that is damaged or gone is passed over, and the chunk is stored again.
        """
        located: dict[Digest, Located] = {}
        described: dict[str, Segment | None] = {}
        for digest, place in self._index.find(digests).items():
            if place.segment not in described:
                described[place.segment] = self._describe(place.segment)
            segment = described[place.segment]
            if segment is None or not (place.block < segment.n_blocks and place.group < segment.n_groups):
                continue
            _, table = self._segments.describe(place.segment)
            if tuple(table.digests[place.block, place.group].tolist()) == digest:
                located[digest] = segment, place.block, place.group
        return located

    def _describe(self, segment_id: str) -> Segment | None:
        try:
            segment, _ = self._segments.describe(segment_id)
            return replace(segment, encoded_nbytes=self._segments.encoded_nbytes(segment_id))
        except StoreError:
            return None
