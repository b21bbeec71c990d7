"""Compaction: small segments merged, equal chunks kept once, what nobody refers to removed, while others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mistique.dedup.placement import Placement
from mistique.dedup.rewriting import Column, Rewriter, UnreadableSegmentError
from mistique.dedup.survey import Held, Survey, names_in_use, survey
from mistique.errors import StoreError
from mistique.storage.catalog import Catalog
from mistique.storage.digest_index import DigestIndex
from mistique.storage.fragments import random_timestamp
from mistique.storage.move_records import move_record, pack_chunks
from mistique.storage.options import damage_as_error
from mistique.storage.references import unpack_references
from mistique.storage.remains import Remains
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.segments import SegmentReader


@dataclass(frozen=True, repr=False)
class Compaction:
    """What a compaction did.

    Parameters
    ----------
    uri : str
    nbytes_before, nbytes_after : int
        Of the whole store.
    waiting_nbytes : int
        Of what is out of use and will be removed by a compaction after the grace period.
    n_segments_rewritten, n_segments_made : int
    n_segments_removed, n_artifacts_removed : int
    n_chunks_deduplicated : int
        Column chunks that were stored twice and are kept once.
    """

    uri: str
    nbytes_before: int
    nbytes_after: int
    waiting_nbytes: int
    n_segments_rewritten: int
    n_segments_made: int
    n_segments_removed: int
    n_artifacts_removed: int
    n_chunks_deduplicated: int

    def line(self) -> str:
        """All of it in one line."""
        return (
            f"{self.nbytes_before:,} -> {self.nbytes_after:,} bytes, {self.waiting_nbytes:,} of them out of use and "
            f"removed after the grace period; segments: {self.n_segments_rewritten} rewritten into "
            f"{self.n_segments_made}, {self.n_segments_removed} removed; chunks stored twice: "
            f"{self.n_chunks_deduplicated}; models removed: {self.n_artifacts_removed}"
        )

    def __repr__(self) -> str:
        return f"compaction of {self.uri}: {self.line()}"


# How often a compaction begins anew whose segments others remove while they are written.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Moved:
    n_rewritten: int = 0
    n_made: int = 0
    n_twins: int = 0


class Compactor:
    """Compacts one store. Several may be at it at once, and any may be killed at any moment.

    Parameters
    ----------
    catalog : Catalog
    segments : SegmentReader
    index : DigestIndex
    remains : Remains
    make_writer : callable
        Makes a `SegmentWriter`.
    placement : Placement

    Notes
    -----
    Segments first, then the record that says where their chunks came from: before it nothing has changed for anybody,
    after it everybody reads the new place (docs/adr/0016). What is made is sealed by whoever compacts, so only segments
    that this user's key sealed are rewritten (docs/adr/0017). The index of digests is advice: what keeps it from being
    written again is in `index_failure`, and ends no compaction. Held by ``tests/storage/test_compaction.py`` and
    ``tests/integration/test_compacting_processes.py``.
    """

    def __init__(
        self,
        catalog: Catalog,
        segments: SegmentReader,
        index: DigestIndex,
        remains: Remains,
        *,
        make_writer: Callable[[], SegmentWriter],
        placement: Placement,
    ) -> None:
        self._catalog, self._segments, self._index, self._remains = catalog, segments, index, remains
        self._make_writer, self._placement = make_writer, placement
        self._passed_over: set[str] = set()
        self.index_failure: StoreError | None = None

    def run(self, uri: str, *, grace_seconds: float) -> Compaction:
        """Compact it once."""
        before = self._remains.nbytes()
        moved = self._move()
        removed = self._remove(grace_seconds)
        found = self._survey()
        try:
            if moved.n_rewritten or removed or self._index.n_fragments > 1:
                self._reindex(found)
        except StoreError as error:
            self.index_failure = error
        self._catalog.compact()
        retired = self._catalog.moves.retired.keys() & self._remains.names()
        return Compaction(
            uri,
            before,
            self._remains.nbytes(),
            sum(self._remains.nbytes_of(name) for name in retired - found.names),
            moved.n_rewritten,
            moved.n_made,
            sum(len(name) == 32 for name in removed),
            sum(len(name) == 64 for name in removed),
            moved.n_twins,
        )

    def collect(self, uri: str, *, grace_seconds: float) -> Compaction:
        """Say what is out of use and remove what has been so for long enough; nothing is rewritten."""
        before = self._remains.nbytes()
        self._catalog.refresh()
        forgotten = self._there_unused(self._used())
        if forgotten:
            self._catalog.say(move_record([], [], made=(), generation=1, forgotten=forgotten, unix_seconds=time.time()))
        removed = self._remove(grace_seconds)
        retired = self._catalog.moves.retired.keys() & self._remains.names()
        return Compaction(
            uri,
            before,
            self._remains.nbytes(),
            sum(self._remains.nbytes_of(name) for name in retired - self._used()),
            0,
            0,
            sum(len(name) == 32 for name in removed),
            sum(len(name) == 64 for name in removed),
            0,
        )

    def _survey(self) -> Survey:
        references, _ = self._catalog.in_use()
        return survey(references, self._catalog.moves, self._segments, passed_over=self._passed_over)

    def _move(self) -> _Moved:
        """Write what is worth it again, and say where it is and what nobody uses."""
        tries = _TRIES
        while True:
            found = self._survey()
            found.choose()
            rewriter = Rewriter(
                found.rewritten,
                make_writer=self._make_writer,
                segments=self._segments,
                placement=self._placement,
            )
            try:
                if found.rewritten:
                    rewriter.leave_out(found.twins)
                    rewriter.leave_out_own_twins()
                    rewriter.write(self._columns(found.rewritten))
                parts, targets, made = rewriter.finish()
            except UnreadableSegmentError as error:
                rewriter.discard()
                self._passed_over.add(error.segment_id)
                continue
            except StoreError:
                tries -= 1
                is_taken = tries and self._is_taken(rewriter.begun)
                rewriter.discard()
                if not is_taken:
                    raise
                continue
            forgotten = self._unused(found)
            if parts or forgotten:
                generation = 1 + max((held.generation for held in found.rewritten), default=0)
                record = move_record(
                    parts, targets, made=made, generation=generation, forgotten=forgotten, unix_seconds=time.time()
                )
                self._catalog.say(record)
            return _Moved(len(parts), len(made), rewriter.n_twins)

    def _is_taken(self, begun: frozenset[str]) -> bool:
        """Whether a compaction without grace, elsewhere, removes what was being written."""
        for attempt in range(_TRIES):
            if begun - self._remains.names():
                return True
            time.sleep(0.02 * 2**attempt)  # it takes one file away after the other
        return False

    def _unused(self, found: Survey) -> frozenset[str]:
        """What lies there, was used, is not, and of which nobody has said so."""
        _, artifacts = self._catalog.in_use()
        return self._there_unused(found.names | artifacts)

    def _there_unused(self, used: frozenset[str]) -> frozenset[str]:
        there = self._remains.names() & self._catalog.mentioned()
        return there - used - self._catalog.moves.retired.keys() - self._catalog.moves.removed

    def _remove(self, grace_seconds: float) -> frozenset[str]:
        """Remove what has been out of use for so long, or was never used."""
        there = self._remains.names()
        removed = there & self._catalog.moves.removed  # by somebody who did not come to the end of it
        mentioned, retired = self._catalog.mentioned(), self._catalog.moves.retired

        def is_over(name: str) -> bool:
            if name in retired:
                return time.time() - retired[name] >= grace_seconds
            return name not in mentioned and self._remains.age_seconds(name) >= grace_seconds

        victims = frozenset(filter(is_over, there - removed - self._used()))
        if victims:
            order = self._catalog.announce(victims)
            victims -= self._used()
            self._catalog.remove(order, victims)
        for name in removed | victims:
            self._remains.remove(name)
        self._remains.remove_uncommitted(grace_seconds=grace_seconds)
        return removed | victims

    def _used(self) -> frozenset[str]:
        references, artifacts = self._catalog.in_use()
        return names_in_use(references, self._catalog.moves) | artifacts

    def _columns(self, rewritten: list[Held]) -> Iterator[Column]:
        """The columns of tables that lie in some segments, by the numbers of these, in the order of the models."""
        numbers = {held.segment.id: number for number, held in enumerate(rewritten)}
        for capture in self._catalog.captures():
            try:
                stored = self._catalog.references(capture)
            except StoreError:  # of a damaged record: it says nothing about columns
                continue
            for name, references in stored.items():
                node = capture.intermediates[name]
                if not node.is_table or not any(segment.id in numbers for segment in references.segments):
                    continue
                with damage_as_error(f"references of {name!r}", "runs of chunks"):
                    grid = unpack_references(references)
                values = [(values.segment, values.unit, values.place) for values in references.dictionaries]
                columns = [*grid.transpose(1, 0, 2).tolist(), *([value] for value in values)]
                for column in columns:
                    found: Column = []
                    for segment, unit, place in column:
                        if segment < 0:  # a block that is not stored
                            continue
                        number = numbers.get(references.segments[segment].id)
                        if number is not None:
                            found.append((number, int(rewritten[number].table.first_chunk[unit]) + place))
                    if found:
                        yield found

    def _reindex(self, found: Survey) -> None:
        """Let the index say where chunks lie now, and forget those that nobody has any more."""
        moves = self._catalog.moves

        def change(
            digests: np.ndarray, ids: list[str], units: np.ndarray, places: np.ndarray
        ) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
            names, which = np.unique(np.array(ids, "U32"), return_inverse=True)
            entries: dict[tuple[int, int], tuple[str, int, int]] = {}
            for number, name in enumerate(names.tolist()):
                here = np.flatnonzero(which == number)
                now, points = moves.follow(name, units[here], places[here])
                for to, target in enumerate(now):
                    there = points[:, 0] == to
                    packed = pack_chunks(points[there, 1], points[there, 2])
                    is_used = np.isin(packed, found.ends.get(target, np.empty(0, np.int64)))
                    kept = zip(digests[here[there]][is_used].tolist(), points[there][is_used].tolist(), strict=True)
                    entries.update(
                        {(first, second): (target, unit, place) for (first, second), (_, unit, place) in kept}
                    )
            located = list(entries.values())
            return (
                np.array(list(entries), np.uint64).reshape(-1, 2),
                [target for target, _, _ in located],
                np.array([unit for _, unit, _ in located], np.uint32),
                np.array([place for _, _, place in located], np.uint32),
            )

        self._index.rewrite(change, timestamp=random_timestamp())
