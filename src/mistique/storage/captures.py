"""The captures that the records of a catalog add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mistique.errors import IntermediateNotFoundError
from mistique.schema import Index, Intermediate, Key, Version
from mistique.storage.facts import CaptureId, Fact
from mistique.storage.record_cells import Order
from mistique.storage.version_records import About, RunId, Saying


@dataclass(frozen=True)
class Capture:
    """What one commit holds: the intermediates of one version over one dataset, in the order of the model.

    `references` of an `Intermediate` are not loaded here; `Catalog.references` reads them by need.
    """

    version: Version
    dataset: str
    number: str
    intermediates: Mapping[str, Intermediate]
    orders: Mapping[str, Order]
    stored: frozenset[str]
    order: Order
    id: CaptureId
    about: About
    pinned: frozenset[str] = frozenset()
    indexes: Mapping[str, tuple[Order, Index]] = field(default_factory=dict)

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


def captures_of(facts: list[tuple[Order, Fact]], is_void: Callable[[Order, Fact], bool]) -> dict[CaptureId, Capture]:
    """The newest capture of each version and dataset, in the order of runs and epochs.

    Parameters
    ----------
    facts : list of (Order, Fact)
        Oldest first.
    is_void : callable
        Whether a capture counts for nothing. The numbers of others do not change with it.
    """
    saying = saying_of(facts)
    run_numbers: dict[str, dict[RunId, int]] = {}
    heads: dict[CaptureId, tuple[Order, Version]] = {}
    void: set[tuple[str, CaptureId]] = set()
    counting: list[tuple[Order, Fact]] = []
    for order, fact in facts:
        by = order.writer, fact.of
        if fact.version is not None:
            runs = run_numbers.setdefault(saying.name_of(fact.of[:2]), {})
            runs.setdefault(fact.of[:2], len(runs) + 1)
            if is_void(order, fact):
                void.add(by)
            else:
                void.discard(by)
                heads[fact.of] = order, fact.version
        if by not in void or fact.is_later:
            counting.append((order, fact))
    parts: dict[CaptureId, dict[str, tuple[Order, Intermediate]]] = {of: {} for of in heads}
    stored: dict[CaptureId, set[str]] = {of: set() for of in heads}
    pinned: dict[CaptureId, set[str]] = {of: set() for of in heads}
    indexes: dict[CaptureId, dict[str, tuple[Order, Fact]]] = {of: {} for of in heads}
    for order, fact in counting:
        # What came before the newest capture belongs to one that it replaced; so does what another writer says of it.
        if fact.of not in heads or order < heads[fact.of][0]:
            continue
        head = heads[fact.of][0]
        is_part = order.writer == head.writer if fact.added_to is None else fact.added_to == head
        if fact.added_to is not None and is_void(order, fact):
            continue
        if fact.intermediate is not None and is_part:
            parts[fact.of][fact.intermediate.name] = order, fact.intermediate
            if fact.is_stored:
                stored[fact.of].add(fact.intermediate.name)
        stored[fact.of].discard(fact.dropped)
        pinned[fact.of].add(fact.pinned)
        pinned[fact.of].discard(fact.unpinned)
        if fact.index is not None and is_part:
            indexes[fact.of][fact.index.name] = order, fact
        indexes[fact.of].pop(fact.no_index, None)

    def age(of: CaptureId) -> tuple[Any, ...]:
        order, version = heads[of]
        return run_numbers[saying.name_of(of[:2])][of[:2]], version.epoch or 0, order

    captures = {}
    for of in sorted(heads, key=age):
        order, version = heads[of]
        if saying.is_deleted(of[:3], of[3], order):
            continue
        name = saying.name_of(of[:2])
        run = run_numbers[name][of[:2]]
        captures[of] = Capture(
            replace(version, model=name),
            of[3],
            f"{run}" if version.epoch is None else f"{run}.{version.epoch}",
            {name: intermediate for name, (_, intermediate) in parts[of].items()},
            {name: order for name, (order, _) in parts[of].items()},
            frozenset(stored[of]),
            heads[of][0],
            of,
            saying.about(of[:3]),
            frozenset(pinned[of] - {""}),
            {
                name: (order, fact.index)
                for name, (order, fact) in indexes[of].items()
                # Of what is stored now, not of what was before.
                if fact.index and name in stored[of] and parts[of][name][0] == fact.made_from
            },
        )
    return captures


def saying_of(facts: list[tuple[Order, Fact]]) -> Saying:
    """What was said of all versions."""
    return Saying((order, fact.said) for order, fact in facts if fact.said is not None)


def by_lineage(captures: Iterable[Capture]) -> dict[str, list[tuple[Capture, str]]]:
    """Where the intermediates of each lineage are, oldest first."""
    found: dict[str, list[tuple[Capture, str]]] = {}
    for capture in captures:
        for name, intermediate in capture.intermediates.items():
            if intermediate.lineage:
                found.setdefault(intermediate.lineage, []).append((capture, name))
    return found
