"""The captures that the records of a catalog add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

from mistique.errors import ChunkCorruptError, IntermediateNotFoundError
from mistique.schema import Index, Intermediate, Key, Tally, Version
from mistique.storage.facts import CaptureId, Fact
from mistique.storage.outlines import Outline, outline
from mistique.storage.record_cells import Order
from mistique.storage.version_records import About, RunId, Saying

# The facts that lie behind the record of a capture.
Behind = Callable[[Order], Sequence[tuple[Order, Fact]]]


@dataclass(frozen=True)
class Parts:
    """The intermediates of a capture, and what became of each.

    `references` of an `Intermediate` are not loaded here; `Catalog.references` reads them by need.
    """

    intermediates: Mapping[str, Intermediate]
    orders: Mapping[str, Order]
    stored: frozenset[str]
    pinned: frozenset[str]
    indexes: Mapping[str, tuple[Order, Index]]
    tallies: Mapping[tuple[str, str], tuple[Order, Tally]]


class Contents:
    """What the records of one capture add up to; those behind its first are read when they are asked for."""

    def __init__(self, order: Order, head: Fact, later: Sequence[tuple[Order, Fact]], behind: Behind) -> None:
        self.order, self._head, self._later, self._behind = order, head, later, behind

    @property
    def version(self) -> Version:
        """As it was captured, by the name that it had then."""
        assert self._head.version is not None
        return self._head.version

    @cached_property
    def parts(self) -> Parts:
        """All of it.

        Raises
        ------
        ChunkCorruptError
            What lies behind the record is damaged, or of another capture.
        """
        behind = self._behind(self.order)
        if any(fact.of != self._head.of for _, fact in behind):
            where = f"record {self.order.counter} of the catalog"
            raise ChunkCorruptError(where=where, expected=f"intermediates of {self._head.of}", got="those of others")
        return _parts_of([*behind, *self._later])

    @cached_property
    def outline(self) -> Outline:
        """It in sum, by the first record where nothing was stored or dropped later."""
        is_as_captured = all(fact.leaves_stored for _, fact in self._later)
        if self._head.outline is not None and is_as_captured:
            return self._head.outline
        return outline(self.parts.intermediates, self.parts.stored)

    @property
    def lineages(self) -> tuple[str, ...]:
        """Beginnings of the lineages in it."""
        return (self._head.outline or self.outline).lineages

    def __getstate__(self) -> dict[str, Any]:
        # What is sent elsewhere is sent whole.
        known = {"parts": self.parts, "outline": self.outline}
        return {"order": self.order, "_head": self._head, "_later": self._later, **known}

    @property
    def index_nbytes(self) -> int:
        """Of its indexes."""
        if not any(fact.index for _, fact in self._later):
            return 0
        return sum(index.encoded_nbytes for _, index in self.parts.indexes.values())


@dataclass(frozen=True)
class Capture:
    """What one commit holds: the intermediates of one version over one dataset, in the order of the model."""

    version: Version
    dataset: str
    number: str
    order: Order
    id: CaptureId
    about: About
    contents: Contents = field(compare=False, repr=False)

    @property
    def intermediates(self) -> Mapping[str, Intermediate]:
        """By name."""
        return self.contents.parts.intermediates

    @property
    def orders(self) -> Mapping[str, Order]:
        """The record that says of each how it is now."""
        return self.contents.parts.orders

    @property
    def stored(self) -> frozenset[str]:
        """Those that can be read."""
        return self.contents.parts.stored

    @property
    def pinned(self) -> frozenset[str]:
        """Those that are to stay stored."""
        return self.contents.parts.pinned

    @property
    def indexes(self) -> Mapping[str, tuple[Order, Index]]:
        """The index of each that has one, and the record that says so."""
        return self.contents.parts.indexes

    @property
    def tallies(self) -> Mapping[tuple[str, str], tuple[Order, Tally]]:
        """What was counted over all rows, by intermediate and by what it is, and the record that holds it."""
        return self.contents.parts.tallies

    @property
    def prefix(self) -> str:
        """The keys of its intermediates begin with this."""
        return str(Key(self.version.model, self.number, self.dataset, "x"))[:-2]

    def resolve(self, name: str) -> Intermediate:
        """The intermediate with that name, alias, or position in the model (``-1`` is the prediction).

        Raises
        ------
        IntermediateNotFoundError
            Naming the nearest.
        """
        if name in self.intermediates:
            return self.intermediates[name]
        for intermediate in self.intermediates.values():
            if name in intermediate.aliases:
                return intermediate
        steps = self._steps()
        if name.lstrip("-").isdigit() and -len(steps) <= int(name) < len(steps):
            return steps[int(name)]
        aliases = [alias for i in self.intermediates.values() for alias in i.aliases]
        what = f"intermediate in {self.prefix}:"
        raise IntermediateNotFoundError(what=what, name=name, known=[*self.intermediates, *aliases])

    def _steps(self) -> list[Intermediate]:
        """What a position counts: of a pipeline its steps, not what is inside of them."""
        found = [i for i in self.intermediates.values() if i.role in ("input", "stage", "prediction")]
        if self.version.framework != "sklearn" or any(i.parents is None for i in found):
            return found
        chain = found[-1:]
        while chain and chain[0].parents and chain[0].parents[0] in self.intermediates:
            chain.insert(0, self.intermediates[chain[0].parents[0]])
        return [i for i in chain if any("/" not in name for name in (i.name, *i.aliases))]


def claims_of(
    facts: Mapping[CaptureId, Sequence[tuple[Order, Fact]]], saying: Saying
) -> dict[RunId, tuple[Order, int]]:
    """When each run was first captured, and the number that it claims; 0: none, as runs of older stores."""
    found: dict[RunId, tuple[Order, int]] = {}
    for of, said in facts.items():
        for order, fact in said:
            if fact.version and (of[:2] not in found or order < found[of[:2]][0]):
                found[of[:2]] = order, fact.number
    return {run: (order, saying.number_of(run, captured)) for run, (order, captured) in found.items()}


def numbers_of(
    claims: Mapping[RunId, tuple[Order, int]], saying: Saying, known: Mapping[RunId, int]
) -> dict[RunId, int]:
    """The number of each run among those of its model, those that are deleted or void included.

    The one that it claims; of two that claim one, until either claims another (`Catalog.commit`), the one's that is
    known to have it, else the first one's. All others are counted, in order: the first number above those of the runs
    before that nobody claims.
    """
    in_order = sorted(claims, key=lambda run: claims[run][0])
    holders: dict[tuple[str, int], RunId] = {}
    for run in sorted(in_order, key=lambda run: known.get(run) != claims[run][1]):
        holders.setdefault((saying.name_of(run), claims[run][1]), run)
    numbers: dict[RunId, int] = {}
    last: dict[str, int] = defaultdict(int)
    for run in in_order:
        name, number = saying.name_of(run), claims[run][1]
        if not number or holders[name, number] != run:
            number = last[name] + 1
            while (name, number) in holders:
                number += 1
        numbers[run], last[name] = number, max(number, last[name])
    return numbers


def captures_of(
    facts: Mapping[CaptureId, Sequence[tuple[Order, Fact]]],
    numbers: Mapping[RunId, int],
    saying: Saying,
    is_void: Callable[[Order, frozenset[str]], bool],
    behind: Behind,
    known: Mapping[CaptureId, Capture] | None = None,
) -> dict[CaptureId, Capture]:
    """The newest capture of each version and dataset, in the order of runs and epochs.

    Parameters
    ----------
    facts : mapping of CaptureId to sequence of (Order, Fact)
        Of each capture oldest first, without what lies behind others.
    numbers : mapping of RunId to int
        As of `numbers_of`.
    saying : Saying
        What was said of versions.
    is_void : callable
        Whether a capture that uses such segments and artifacts counts for nothing.
    behind : callable
        Reads what lies behind the record of a capture.
    known : mapping of CaptureId to Capture, optional
        What the facts of some captures added up to before, if nothing has changed of these since.
    """
    known = known or {}
    found = []
    for of, said in facts.items():
        if of[:2] not in numbers:  # its first record is not there
            continue
        run, epoch = numbers[of[:2]], of[2]
        name, about = saying.name_of(of[:2]), saying.about(of[:3])
        number = f"{run}" if epoch is None else f"{run}.{epoch}"
        capture = known.get(of)
        if capture is None or (capture.version.model, capture.number, capture.about) != (name, number, about):
            contents = _contents_of(said, is_void, behind)
            if contents is None:
                continue
            version = contents.version if contents.version.model == name else replace(contents.version, model=name)
            capture = Capture(version, of[3], number, contents.order, of, about, contents)
        if not saying.is_deleted(of[:3], of[3], capture.order):
            found.append((run, epoch or 0, capture.order, capture))
    return {capture.id: capture for *_, capture in sorted(found, key=itemgetter(0, 1, 2))}


def _contents_of(
    facts: Sequence[tuple[Order, Fact]], is_void: Callable[[Order, frozenset[str]], bool], behind: Behind
) -> Contents | None:
    """What the facts of one capture add up to; None: to nothing."""
    heads = [(order, fact) for order, fact in facts if fact.version is not None and not is_void(order, fact.uses)]
    if not heads:
        return None
    # What came before the newest capture belongs to one that it replaced; so does what another writer says of it.
    newest, head = heads[-1]
    later = [
        (order, fact)
        for order, fact in facts
        if order > newest and (fact.added_to is None or (fact.added_to == newest and not is_void(order, fact.uses)))
    ]
    return Contents(newest, head, [(order, fact) for order, fact in later if fact.is_later], behind)


def _parts_of(facts: Sequence[tuple[Order, Fact]]) -> Parts:
    """What the facts behind the record of a capture, and those that came later, add up to."""
    found: dict[str, tuple[Order, Intermediate]] = {}
    indexes: dict[str, tuple[Order, Fact]] = {}
    tallies: dict[tuple[str, str], tuple[Order, Tally]] = {}
    stored: set[str] = set()
    pinned: set[str] = set()
    for order, fact in facts:
        if fact.intermediate is not None:
            found[fact.intermediate.name] = order, fact.intermediate
            if fact.is_stored:
                stored.add(fact.intermediate.name)
        stored.discard(fact.dropped)
        pinned.add(fact.pinned)
        pinned.discard(fact.unpinned)
        if fact.index is not None:
            indexes[fact.index.name] = order, fact
        indexes.pop(fact.no_index, None)
        if fact.tally is not None:
            tallies[fact.tally.name, fact.tally.what] = order, fact.tally
    return Parts(
        {name: intermediate for name, (_, intermediate) in found.items()},
        {name: order for name, (order, _) in found.items()},
        frozenset(stored),
        frozenset(pinned - {""}),
        {
            name: (order, fact.index)
            for name, (order, fact) in indexes.items()
            # Of what is stored now, not of what was before.
            if fact.index and name in stored and found[name][0] == fact.made_from
        },
        tallies,
    )
