"""The captures that the records of a catalog add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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


def captures_of(
    facts: Mapping[CaptureId, Sequence[tuple[Order, Fact]]],
    saying: Saying,
    is_void: Callable[[Order, Fact], bool],
    known: Mapping[CaptureId, Capture] | None = None,
) -> dict[CaptureId, Capture]:
    """The newest capture of each version and dataset, in the order of runs and epochs.

    Parameters
    ----------
    facts : mapping of CaptureId to sequence of (Order, Fact)
        Of each capture oldest first.
    saying : Saying
        What was said of versions.
    is_void : callable
        Whether a capture counts for nothing. The numbers of others do not change with it.
    known : mapping of CaptureId to Capture, optional
        What the facts of some captures added up to before, if nothing has changed of these since.
    """
    known = known or {}
    run_numbers: dict[str, dict[RunId, int]] = {}
    for _, of in sorted((order, of) for of, said in facts.items() for order, fact in said if fact.version):
        runs = run_numbers.setdefault(saying.name_of(of[:2]), {})
        runs.setdefault(of[:2], len(runs) + 1)
    built = {of: known[of] if of in known else _capture_of(of, said, is_void) for of, said in facts.items()}

    def age(capture: Capture) -> tuple[Any, ...]:
        return run_numbers[saying.name_of(capture.id[:2])][capture.id[:2]], capture.version.epoch or 0, capture.order

    captures = {}
    for capture in sorted((capture for capture in built.values() if capture is not None), key=age):
        of = capture.id
        if saying.is_deleted(of[:3], of[3], capture.order):
            continue
        name, epoch = saying.name_of(of[:2]), capture.version.epoch
        run = run_numbers[name][of[:2]]
        number, about = f"{run}" if epoch is None else f"{run}.{epoch}", saying.about(of[:3])
        if (capture.version.model, capture.number, capture.about) != (name, number, about):
            capture = replace(capture, version=replace(capture.version, model=name), number=number, about=about)
        captures[of] = capture
    return captures


def _capture_of(
    of: CaptureId, facts: Sequence[tuple[Order, Fact]], is_void: Callable[[Order, Fact], bool]
) -> Capture | None:
    """What the facts of one capture add up to, by the name that it was captured under; None: to nothing."""
    head: tuple[Order, Version] | None = None
    void: set[str] = set()
    counting: list[tuple[Order, Fact]] = []
    for order, fact in facts:
        if fact.version is not None:
            if is_void(order, fact):
                void.add(order.writer)
            else:
                void.discard(order.writer)
                head = order, fact.version
        if order.writer not in void or fact.is_later:
            counting.append((order, fact))
    if head is None:
        return None
    parts: dict[str, tuple[Order, Intermediate]] = {}
    indexes: dict[str, tuple[Order, Fact]] = {}
    stored: set[str] = set()
    pinned: set[str] = set()
    for order, fact in counting:
        # What came before the newest capture belongs to one that it replaced; so does what another writer says of it.
        if order < head[0]:
            continue
        is_part = order.writer == head[0].writer if fact.added_to is None else fact.added_to == head[0]
        if fact.added_to is not None and is_void(order, fact):
            continue
        if fact.intermediate is not None and is_part:
            parts[fact.intermediate.name] = order, fact.intermediate
            if fact.is_stored:
                stored.add(fact.intermediate.name)
        stored.discard(fact.dropped)
        pinned.add(fact.pinned)
        pinned.discard(fact.unpinned)
        if fact.index is not None and is_part:
            indexes[fact.index.name] = order, fact
        indexes.pop(fact.no_index, None)
    return Capture(
        head[1],
        of[3],
        "",
        {name: intermediate for name, (_, intermediate) in parts.items()},
        {name: order for name, (order, _) in parts.items()},
        frozenset(stored),
        head[0],
        of,
        About(),
        frozenset(pinned - {""}),
        {
            name: (order, fact.index)
            for name, (order, fact) in indexes.items()
            # Of what is stored now, not of what was before.
            if fact.index and name in stored and parts[name][0] == fact.made_from
        },
    )


def by_lineage(captures: Iterable[Capture]) -> dict[str, list[tuple[Capture, str]]]:
    """Where the intermediates of each lineage are, oldest first."""
    found: dict[str, list[tuple[Capture, str]]] = {}
    for capture in captures:
        for name, intermediate in capture.intermediates.items():
            if intermediate.lineage:
                found.setdefault(intermediate.lineage, []).append((capture, name))
    return found
