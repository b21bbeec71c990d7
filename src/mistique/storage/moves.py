"""Where chunks went when segments were compacted, and what is on its way out: records beside those of captures.

A reference is never rewritten. A record ``moved`` says where the chunks of old segments lie now, and whoever reads a
reference follows it. What is to be removed is announced first (``removing``), then everybody's records are looked at
once more, and only then it is said to be gone (``removed``): a record that came in between and uses it counts for
nothing, for every reader alike (docs/adr/0016).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from threading import RLock
from typing import Any, Generic, TypeVar

import numpy as np

from mistique.errors import ChunkCorruptError, StoreError
from mistique.kernels.distinct import distinct
from mistique.schema import Part, References, Segment
from mistique.storage.move_records import (
    MOVED,
    REMOVING,
    Move,
    MovedParts,
    SegmentMove,
    is_own,
    move_from,
    pack_chunks,
    unpack_chunks,
)
from mistique.storage.options import damage_as_error
from mistique.storage.record_cells import Order, Record
from mistique.storage.record_fields import expect, names_of, order_of
from mistique.storage.references import pack_references, unpack_references

T = TypeVar("T")


class _AddedUp(Generic[T]):
    """What follows from all records, kept until one more comes, and never after that."""

    def __init__(self, add_up: Callable[[Moves], T]) -> None:
        self._add_up, self.__doc__ = add_up, add_up.__doc__

    def __get__(self, moves: Moves, owner: type[Moves]) -> T:
        with moves.lock:
            if self not in moves.added_up:
                moves.added_up[self] = self._add_up(moves)
            found: T = moves.added_up[self]
            return found


@dataclass(frozen=True, slots=True)
class _Removal:
    names: frozenset[str]
    seen: Mapping[str, int]  # for each writer who used one of them, the highest counter that had been looked at


class Moves:
    """All that was moved and removed in a store.

    Parameters
    ----------
    load : callable
        Gives the attachment of a record.
    """

    def __init__(self, load: Callable[[Order], bytes]) -> None:
        self._load = load
        self._moves: list[Move] = []
        self._announced: dict[Order, frozenset[str]] = {}
        self._settled: set[Order] = set()
        self._removals: list[_Removal] = []
        self._parts: dict[Order, MovedParts] = {}
        self._is_own: dict[Order, bool] = {}
        self.n_records, self.lock, self.added_up = 0, RLock(), dict[Any, Any]()

    def add(self, order: Order, record: Record) -> None:
        """Take a record; they come in any order."""
        with self.lock:
            if record.kind == MOVED:
                self._moves = sorted([*self._moves, move_from(order, record)], key=attrgetter("order"))
            elif record.kind == REMOVING:
                self._announced[order] = names_of(json.loads(record.body)["names"])
            else:
                body = json.loads(record.body)
                expect(int, *body["seen"].values())
                self._removals.append(_Removal(names_of(body["names"]), dict(body["seen"])))
                self._settled.add(order_of(body["of"]))
            self.n_records += 1
            self.added_up.clear()

    @_AddedUp
    def removed(self) -> frozenset[str]:
        """Segments and artifacts that are gone, or as good as gone."""
        return frozenset[str]().union(*(removal.names for removal in self._removals))

    @_AddedUp
    def pending(self) -> frozenset[str]:
        """Those that somebody announced to remove, and nobody knows yet whether he did."""
        return frozenset[str]().union(
            *(names for order, names in self._announced.items() if order not in self._settled)
        )

    @property
    def going(self) -> frozenset[str]:
        """Segments and artifacts that nothing new may use."""
        return self.removed | self.pending

    @_AddedUp
    def valid(self) -> list[Move]:
        """The moves that count, oldest first."""
        return [move for move in self._moves if not self.is_void(move.order, move.uses)]

    @_AddedUp
    def retired(self) -> dict[str, float]:
        """What was moved or forgotten, with the time when that was last said."""
        found: dict[str, float] = {}
        for move in self.valid:
            for name in move.names:
                found[name] = max(move.unix_seconds, found.get(name, move.unix_seconds))
        return found

    @property
    def mentioned(self) -> frozenset[str]:
        """Every name in any record of these."""
        return self.removed | self.pending | frozenset[str]().union(*(m.names | m.uses for m in self._moves))

    def users(self) -> list[tuple[Order, frozenset[str]]]:
        """The moves as records that use segments."""
        return [(move.order, move.uses) for move in self._moves]

    def generation(self, segment_id: str) -> int:
        """How many compactions a segment's chunks have been through."""
        return max((move.generation for move in self._moves if segment_id in move.made), default=0)

    def is_void(self, order: Order, uses: frozenset[str]) -> bool:
        """A record uses what was removed by somebody who had not seen that record."""
        return any(
            not removal.names.isdisjoint(uses) and removal.seen.get(order.writer, 0) < order.counter
            for removal in self._removals
        )

    def is_gone(self, name: str) -> bool:
        """Nobody should begin to use it: it is out of use, or about to be removed."""
        return name in self.removed or name in self.pending or name in self.retired

    def translate(self, references: References, *, by_own: bool = False) -> References:
        """References to where chunks lie now.

        Parameters
        ----------
        references : References
        by_own : bool, default False
            Follow this user's moves alone: what is captured by them is not to be what another says (docs/adr/0017).

        Raises
        ------
        ChunkCorruptError
            The records do not fit together.
        """
        if not any(segment.id in self._by_source for segment in references.segments):
            return references
        with damage_as_error("references to moved segments", "runs of chunks"):
            grid = unpack_references(references)
            values = [(values.segment, values.unit, values.place) for values in references.dictionaries]
            points = np.concatenate([grid.reshape(-1, 3), np.array(values, np.int64).reshape(-1, 3)])
            listed = self._follow(list(references.segments), points, by_own=by_own)
            dictionaries = {
                dictionary.group: (int(segment), int(unit), int(place))
                for dictionary, (segment, unit, place) in zip(
                    references.dictionaries, points[len(points) - len(values) :], strict=True
                )
            }
            return pack_references(listed, points[: len(points) - len(values)].reshape(grid.shape), dictionaries)

    def follow(self, segment_id: str, units: np.ndarray, places: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Where some chunks of one segment lie now.

        Returns
        -------
        ids : list of str
        points : ndarray of shape (n_chunks, 3), int64
            Of each chunk: the number of its segment in `ids`, its unit, its place.
        """
        points = np.stack([np.zeros(len(units), np.int64), units.astype(np.int64), places.astype(np.int64)], axis=1)
        nothing = Part(0, 0, "")
        listed = self._follow([Segment(segment_id, 0, 0, nothing, nothing, 0)], points)
        return [segment.id for segment in listed], points

    def ends(self, chunks: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Segment]]:
        """Wherever some chunks might be read from, by whatever subset of the moves that a reader knows.

        Parameters
        ----------
        chunks : mapping of str to ndarray of int64
            By segment, as `pack_chunks` packs them.

        Returns
        -------
        ends : dict of str to ndarray of int64, sorted
        segments : dict of str to Segment
            Those that moves name.

        Notes
        -----
        All ways are followed, not only the first, and a move to what somebody announced to remove is one more end, not
        a way on: until he has said so, that move may yet turn out void.
        """
        with self.lock:  # as of one moment
            pending, valid, by_source = self.pending, self.valid, self._by_source
        known = {segment.id: segment for move in valid for segment in move.targets}
        seen: dict[str, np.ndarray] = {}
        ends: dict[str, list[np.ndarray]] = defaultdict(list)
        waiting = [(name, distinct(packed)) for name, packed in chunks.items()]
        while waiting:
            name, packed = waiting.pop()
            fresh = np.setdiff1d(packed, seen[name], assume_unique=True) if name in seen else packed
            if not len(fresh):
                continue
            seen[name] = np.union1d(seen[name], fresh) if name in seen else fresh
            units, places = unpack_chunks(fresh)
            is_end = np.ones(len(fresh), bool)
            for move in by_source.get(name, ()):
                to, to_units, to_places = self._part(move, name).images(units, places)
                for number in distinct(to[to >= 0]).tolist():
                    went = to == number
                    target = move.targets[number].id
                    waiting.append((target, distinct(pack_chunks(to_units[went], to_places[went]))))
                if not move.uses & pending:
                    is_end &= to < 0
            ends[name].append(fresh[is_end])
        joined = {name: distinct(np.concatenate(parts)) for name, parts in ends.items()}
        return {name: packed for name, packed in joined.items() if len(packed)}, known

    def check(self, uses: Iterable[str]) -> None:
        """A capture is about to use these.

        Raises
        ------
        StoreError
            One of them was removed, or is being removed.
        """
        lost = sorted(self.going & set(uses))
        if lost:
            raise StoreError(
                f"a compaction removed {lost[0]} while a capture that uses it was under way: capture again, and give "
                "compact() a longer grace_seconds than captures take"
            )

    @_AddedUp
    def _by_source(self) -> dict[str, list[Move]]:
        by_source: dict[str, list[Move]] = defaultdict(list)
        for move in self.valid:
            for segment in move.sources:
                by_source[segment.id].append(move)
        return by_source

    def _follow(self, listed: list[Segment], points: np.ndarray, *, by_own: bool = False) -> list[Segment]:
        """Change points (number in `listed`, unit, place) to where they lie now; `listed` grows."""
        numbers = {segment.id: number for number, segment in enumerate(listed)}
        waiting, by_source = set(range(len(listed))), self._by_source
        # A move leads to a later generation or a larger segment, so no chunk comes twice to one place.
        for _ in range(len(self._moves) + 1):
            coming: set[int] = set()
            for number in waiting:
                for move in by_source.get(listed[number].id, ()):
                    if by_own and not self._is_made_by_user(move):
                        continue
                    here = np.flatnonzero(points[:, 0] == number)
                    to, units, places = self._part(move, listed[number].id).images(points[here, 1], points[here, 2])
                    for target in distinct(to[to >= 0]).tolist():
                        segment = move.targets[target]
                        if segment.id not in numbers:
                            numbers[segment.id] = len(listed)
                            listed.append(segment)
                        went = to == target
                        points[here[went]] = np.stack(
                            [np.full(went.sum(), numbers[segment.id]), units[went], places[went]], axis=1
                        )
                        coming.add(numbers[segment.id])
            waiting = coming
            if not waiting:
                return listed
        raise ChunkCorruptError(where="moved segments", expected="an end", got="a circle")

    def _is_made_by_user(self, move: Move) -> bool:
        if move.order not in self._is_own:
            self._is_own[move.order] = is_own(move, self._load(move.order))
        return self._is_own[move.order]

    def _part(self, move: Move, segment_id: str) -> SegmentMove:
        with damage_as_error(f"record {move.order.counter} of the catalog", "places of moved chunks"):
            if move.order not in self._parts:
                self._parts[move.order] = MovedParts(self._load(move.order), move)
            return self._parts[move.order][segment_id]
