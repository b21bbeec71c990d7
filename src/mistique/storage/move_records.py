"""The records of a compaction: what was moved where, what is about to be removed, what was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mistique.schema import Part, Segment
from mistique.storage.digests import is_sealed, seal
from mistique.storage.record_cells import Order, Record
from mistique.storage.record_fields import expect, names_of, number_of, to_json
from mistique.storage.units import compressed, expanded

MOVED, REMOVING, REMOVED = "moved", "removing", "removed"
# A chunk of a segment as one number: its unit, then its place.
_PLACE_BITS = 24


def pack_chunks(units: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Units and places as one int64 each."""
    packed: np.ndarray = (units.astype(np.int64) << _PLACE_BITS) | places.astype(np.int64)
    return packed


def unpack_chunks(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pack_chunks`."""
    return packed >> _PLACE_BITS, packed & ((1 << _PLACE_BITS) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentMove:
    """Where the chunks of one segment went.

    Parameters
    ----------
    source : Segment
    first_chunk : ndarray of shape (n_units + 1,), int64
        As in `UnitTable`: the segment itself may be gone.
    targets : ndarray of shape (n_chunks,), int64
        Numbers of segments in `Move.targets`; -1: nobody needed the chunk.
    units, places : ndarray of shape (n_chunks,), int64
    """

    source: Segment
    first_chunk: np.ndarray
    targets: np.ndarray
    units: np.ndarray
    places: np.ndarray

    def images(self, units: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets, units and places of some chunks; a target of -1: it was not moved."""
        n_units = len(self.first_chunk) - 1
        is_inside = (units >= 0) & (units < n_units) & (places >= 0)
        held = np.where(is_inside, units, 0)
        chunks = self.first_chunk[held] + places
        is_inside &= chunks < self.first_chunk[held + 1]
        chunks = np.where(is_inside, chunks, 0)
        return np.where(is_inside, self.targets[chunks], -1), self.units[chunks], self.places[chunks]


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """What a record ``moved`` says, without the places: those are read by need.

    Parameters
    ----------
    order : Order
    sources : tuple of Segment
    targets : tuple of Segment
        Made for it, or there before and holding equal chunks.
    generation : int
        Of the targets that were made for it: one more than the highest of the sources.
    made : frozenset of str
    forgotten : frozenset of str
        Segments and artifacts that nobody uses any more.
    unix_seconds : float
        When, by the clock of the host that compacted.
    body : bytes
        The record's, with its seal.
    """

    order: Order
    sources: tuple[Segment, ...]
    targets: tuple[Segment, ...]
    generation: int
    made: frozenset[str]
    forgotten: frozenset[str]
    unix_seconds: float
    body: bytes

    @property
    def names(self) -> frozenset[str]:
        """What it takes out of use."""
        return self.forgotten | {segment.id for segment in self.sources}

    @property
    def uses(self) -> frozenset[str]:
        """What it needs."""
        return frozenset(segment.id for segment in self.targets)


def move_record(
    parts: Sequence[SegmentMove],
    targets: Sequence[Segment],
    *,
    made: Iterable[str],
    generation: int,
    forgotten: Iterable[str],
    unix_seconds: float,
) -> Record:
    """The record of a move, sealed."""
    body: dict[str, Any] = {
        "sources": [asdict(part.source) for part in parts],
        "targets": [asdict(target) for target in targets],
        "made": sorted(made),
        "generation": generation,
        "forgotten": sorted(forgotten),
        "unix_seconds": unix_seconds,
    }
    arrays: list[np.ndarray] = []
    for part in parts:
        # Steps: what was copied in its order is then one value over and over.
        steps = [np.diff(part.first_chunk), part.targets, np.diff(part.units, prepend=0), part.places]
        arrays += [np.asarray(values, np.int64) for values in steps]
    content = b"".join(array.tobytes() for array in arrays)
    attachment = compressed(content) if arrays else b""
    return Record(MOVED, to_json({**body, "seal": seal(MOVED, to_json(body), attachment)}), attachment)


def move_from(order: Order, record: Record) -> Move:
    """What a record of a move says."""
    body = json.loads(record.body)
    sources, targets = (tuple(segment_from(item) for item in body[name]) for name in ("sources", "targets"))
    expect(int, body["generation"])
    names, seconds = (names_of(body["made"]), names_of(body["forgotten"])), number_of(body["unix_seconds"])
    return Move(order, sources, targets, body["generation"], *names, seconds, record.body)


def is_own(move: Move, attachment: bytes) -> bool:
    """Whether this user made a move."""
    body = json.loads(move.body)
    found = body.pop("seal", None)
    return is_sealed(found, MOVED, to_json(body), attachment)


def removing_record(names: Iterable[str]) -> Record:
    """The record that announces what is to be removed."""
    return Record(REMOVING, to_json({"names": sorted(names)}))


def removed_record(of: Order, names: Iterable[str], seen: Mapping[str, int]) -> Record:
    """The record that says which of them are."""
    return Record(REMOVED, to_json({"of": [of.counter, of.writer], "names": sorted(names), "seen": dict(seen)}))


def segment_from(body: Mapping[str, Any]) -> Segment:
    """A segment from its JSON.

    Raises
    ------
    TypeError, ValueError
        It is none: it may come from a stranger.
    """
    units, contents = Part(**body["units"]), Part(**body["contents"])
    segment = Segment(**{**body, "units": units, "contents": contents})
    sizes = units.offset, units.n_bytes, contents.offset, contents.n_bytes
    numbers = segment.n_units, segment.n_chunks, segment.encoded_nbytes, *sizes
    expect(int, *numbers)
    expect(str, segment.id, units.digest, contents.digest)
    if min(numbers) < 0 or max(numbers) >= 2**48:
        raise ValueError(f"numbers of a segment: {numbers}"[:200])
    return segment


class MovedParts:
    """What the attachment of a move says of each of its sources, looked at one by one.

    Parameters
    ----------
    content : bytes
    move : Move

    Raises
    ------
    ValueError
        It does not fit the record.
    """

    def __init__(self, content: bytes, move: Move) -> None:
        n_words = sum(segment.n_units + 3 * segment.n_chunks for segment in move.sources)
        self._words = np.frombuffer(expanded(content, n_words * 8) if n_words else b"", np.int64)
        if len(self._words) != n_words:
            raise ValueError(f"expected {n_words} numbers, got {len(self._words)}")
        self._n_targets, at = len(move.targets), 0
        self._sources: dict[str, tuple[Segment, int]] = {}
        for segment in move.sources:
            self._sources[segment.id] = segment, at
            at += segment.n_units + 3 * segment.n_chunks
        self._known: dict[str, SegmentMove] = {}

    def __getitem__(self, segment_id: str) -> SegmentMove:
        if segment_id not in self._known:
            segment, at = self._sources[segment_id]
            end = at + segment.n_units
            steps, rest = self._words[at:end], self._words[end : end + 3 * segment.n_chunks]
            targets, units, places = rest.reshape(3, segment.n_chunks)
            first_chunk = np.concatenate([[0], np.cumsum(steps)])
            if first_chunk[-1] != segment.n_chunks or (steps < 1).any() or (targets >= self._n_targets).any():
                raise ValueError(f"places that do not fit segment {segment.id}")
            self._known[segment_id] = SegmentMove(segment, first_chunk, targets, np.cumsum(units), places)
        return self._known[segment_id]

    def check(self) -> None:
        """Look at all of it."""
        for segment_id in self._sources:
            self[segment_id]
