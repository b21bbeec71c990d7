"""What a store holds in its segments: the chunks in use, those that are there twice, and what is worth rewriting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from mistique.errors import ChunkCorruptError, StoreError
from mistique.kernels.distinct import distinct
from mistique.schema import References, Segment
from mistique.storage.move_records import pack_chunks, unpack_chunks
from mistique.storage.moves import Moves
from mistique.storage.references import MAX_CHUNKS
from mistique.storage.segments import SegmentReader
from mistique.storage.units import UnitTable

# A segment of 4 MB reads at nearly the speed of a large one: its fixed cost is some 2 ms, its bytes are 10.
SMALL_NBYTES = 4 * 1024 * 1024
WASTED_SHARE = 0.2
_MAX_WAITING = 2_000_000


@dataclass(eq=False)
class Held:
    """A segment of which something is in use.

    Parameters
    ----------
    segment : Segment
    table : UnitTable
    contents : ndarray of shape (n_chunks, 2), uint64
    is_used : ndarray of shape (n_chunks,), bool
    generation : int
    must_move : bool
        It is out of use already, and some reference came too late to know.
    is_own : bool
        This user's key sealed it. What others wrote stays as it is: rewritten, the digests that it claims would be
        sealed by somebody who has not seen the values (docs/adr/0017).
    """

    segment: Segment
    table: UnitTable
    contents: np.ndarray
    is_used: np.ndarray
    generation: int
    must_move: bool
    is_own: bool

    @property
    def rank(self) -> tuple[int, int, str]:
        """Chunks move to equal ones of a higher rank only, so that no two compactions send them in a circle."""
        return self.generation, self.segment.units.offset, self.segment.id

    def units_of(self, chunks: np.ndarray) -> np.ndarray:
        """The unit of each of some chunks."""
        found: np.ndarray = np.searchsorted(self.table.first_chunk, chunks, side="right") - 1
        return found

    def wasted_share(self, is_needed: np.ndarray) -> float:
        """Of the bytes of its units, if only some of its chunks are needed."""
        first = self.table.first_chunk
        n_needed = np.add.reduceat(is_needed.astype(np.int64), first[:-1])
        n_bytes = self.table.n_bytes
        return 1 - float((n_bytes * n_needed / np.diff(first)).sum() / max(n_bytes.sum(), 1))


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """Chunks of one segment that another may hold as well, by their digests.

    Parameters
    ----------
    held, keeper : Held
    chunks, kept : ndarray of int64
        Numbers of chunks in the one and in the other.
    """

    held: Held
    keeper: Held
    chunks: np.ndarray
    kept: np.ndarray


@dataclass(eq=False)
class Survey:
    """The segments in use.

    Parameters
    ----------
    held : list of Held
        Those that can be read, of the highest rank first.
    names : frozenset of str
        All of them.
    ends : mapping
        The chunks in use, as `pack_chunks` packs them, by segment.
    """

    held: list[Held]
    names: frozenset[str]
    ends: dict[str, np.ndarray]
    rewritten: list[Held] = field(default_factory=list)
    twins: list[Twin] = field(default_factory=list)

    def choose(self) -> None:
        """Decide what is rewritten, and look for twins of its chunks."""
        ours = [held for held in self.held if held.is_own]
        if not ours:
            return
        # Half a digest finds them; whether they are equal is for their values to say.
        halves = [held.contents[held.is_used, 0] for held in ours]
        _, inverse = np.unique(np.concatenate(halves), return_inverse=True)
        groups = np.split(inverse, np.cumsum([len(half) for half in halves])[:-1])
        keeper, kept = np.full(inverse.max(initial=0) + 1, -1), np.zeros(inverse.max(initial=0) + 1, np.int64)
        is_wasteful = False
        for number, (held, group) in enumerate(zip(ours, groups, strict=True)):
            chunks = np.flatnonzero(held.is_used)
            # The first of equal chunks within one segment stands for the others, too.
            is_first = np.zeros(len(group), bool)
            is_first[np.unique(group, return_index=True)[1]] = True
            is_needed = np.zeros_like(held.is_used)
            is_needed[chunks[(keeper[group] < 0) & is_first]] = True
            is_worth_it = held.must_move or held.wasted_share(is_needed) > WASTED_SHARE
            if is_worth_it or held.segment.encoded_nbytes < SMALL_NBYTES:
                self.rewritten.append(held)
                is_wasteful |= is_worth_it
                self.twins += _twins(ours, held, chunks, group, keeper, kept)
            else:
                fresh = (keeper[group] < 0) & is_first
                keeper[group[fresh]], kept[group[fresh]] = number, chunks[fresh]
        if len(self.rewritten) == 1 and not is_wasteful:  # a small one alone: it would come out as it is
            self.rewritten, self.twins = [], []
        # What is rewritten may have twins among itself; they are found once it is known what no large segment keeps.


def _twins(
    keepers: list[Held], held: Held, chunks: np.ndarray, group: np.ndarray, keeper: np.ndarray, kept: np.ndarray
) -> Iterator[Twin]:
    for number in distinct(keeper[group]).tolist():
        if number >= 0:
            there = keeper[group] == number
            yield Twin(held, keepers[number], chunks[there], kept[group[there]])


def survey(references: Iterable[References], moves: Moves, segments: SegmentReader, *, passed_over: set[str]) -> Survey:
    """What is in use.

    Parameters
    ----------
    references : iterable of References
        As they were written.
    moves : Moves
    segments : SegmentReader
    passed_over : set of str
        Segments that cannot be read: they stay as they are.

    Raises
    ------
    ChunkCorruptError
        A reference makes no sense; nobody can say then what is in use.
    """
    chunks, described, is_disputed = _referred(references)
    ends, of_moves = moves.ends(chunks)
    held: list[Held] = []
    for name, packed in ends.items():
        if name in passed_over or name in is_disputed:
            continue
        segment = of_moves.get(name) or described[name]
        units, places = unpack_chunks(packed)
        try:
            table, contents = segments.table(segment), segments.contents(segment)
            sealed = segments.describe(name)
        except StoreError:
            passed_over.add(name)
            continue
        if units[-1] >= table.n_units or (table.first_chunk[units] + places >= table.first_chunk[units + 1]).any():
            continue  # of a record that is damaged: its own answers are errors, those of others are not its business
        is_used = np.zeros(segment.n_chunks, bool)
        is_used[table.first_chunk[units] + places] = True
        is_own = sealed is not None and (sealed.units, sealed.contents) == (segment.units, segment.contents)
        held.append(Held(segment, table, contents, is_used, moves.generation(name), moves.is_gone(name), is_own))
    held.sort(key=lambda held: held.rank, reverse=True)
    return Survey(held, frozenset(ends), ends)


def names_in_use(references: Iterable[References], moves: Moves) -> frozenset[str]:
    """The segments from which something is, or may yet be, read."""
    chunks, _, _ = _referred(references)
    return frozenset(moves.ends(chunks)[0])


def _referred(references: Iterable[References]) -> tuple[dict[str, np.ndarray], dict[str, Segment], set[str]]:
    """The chunks that references name, their segments, and the segments of which they say different things."""
    described: dict[str, Segment] = {}
    is_disputed: set[str] = set()
    # Each set of steps once: thousands of captures may refer to one layer, by the same run.
    steps: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for found in references:
        for segment in found.segments:
            known = described.setdefault(segment.id, segment)
            if (known.units, known.contents) != (segment.units, segment.contents):
                is_disputed.add(segment.id)
        ids = [segment.id for segment in found.segments]
        try:
            for run in found.runs:
                along = run.n_blocks, run.n_groups, run.unit, run.block_step, run.group_step, run.place, run.place_step
                steps[ids[run.segment]].add(along)
            for values in found.dictionaries:
                steps[ids[values.segment]].add((1, 1, values.unit, 0, 0, values.place, 0))
        except IndexError as error:
            raise ChunkCorruptError(
                where="references", expected=f"one of {len(ids)} segments", got=str(error)
            ) from error
    return {name: _chunks(along) for name, along in steps.items()}, described, is_disputed


def _chunks(steps: set[tuple[int, ...]]) -> np.ndarray:
    """The chunks that runs name, packed and sorted."""
    parts: list[np.ndarray] = []
    n_waiting = 0
    for n_blocks, n_groups, unit, block_step, group_step, place, place_step in steps:
        if not 0 < n_blocks * n_groups <= MAX_CHUNKS:
            raise ChunkCorruptError(where="references", expected="runs of chunks", got=f"{n_blocks} x {n_groups}")
        blocks, groups = np.arange(n_blocks)[:, None], np.arange(n_groups)
        units = unit + blocks * block_step + groups * group_step
        places = np.broadcast_to(place + groups * place_step, units.shape)
        if units.min() < 0 or places.min() < 0:
            raise ChunkCorruptError(where="references", expected="numbers of chunks", got="numbers below 0")
        parts.append(pack_chunks(units, places).reshape(-1))
        n_waiting += units.size
        if n_waiting > _MAX_WAITING:
            parts, n_waiting = [distinct(np.concatenate(parts))], 0
    return distinct(np.concatenate(parts))
