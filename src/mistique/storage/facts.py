"""Records to nouns: what the records of a catalog say, and the captures that they add up to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf, isinf
from typing import Any

from mistique.errors import IntermediateNotFoundError
from mistique.schema import ColumnType, Dictionary, Index, Intermediate, Key, References, Run, Version
from mistique.storage.move_records import MOVED, REMOVED, REMOVING, segment_from
from mistique.storage.record_cells import Order, Record
from mistique.storage.version_records import RENAMED, SAID, About, RunId, Said, Saying, said_of

CaptureId = tuple[str, str, int | None, str]  # model, run, epoch, dataset
SEAL_FIELD = "seal"
# An intermediate that was stored after its capture, and that one is to stay stored.
STORED, PIN = "stored", "pin"
ADDED_TO, USES = "capture", "uses"
# That an intermediate has an index, made from what one record says is stored; and that it has none any more.
INDEX, NO_INDEX, MADE_FROM = "index", "no index", "made_from"
# More than anybody has: what a record claims is allocated when all of it is asked for.
MAX_ROWS = 2**40


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


@dataclass(frozen=True, slots=True)
class Fact:
    """A record, parsed: a version, one of its intermediates, what became of one later, what was said, or `Moves`'."""

    of: CaptureId
    version: Version | None = None
    intermediate: Intermediate | None = None
    is_stored: bool = False
    dropped: str = ""
    uses: frozenset[str] = frozenset()
    # Of an intermediate that was stored later: the capture that it belongs to.
    added_to: Order | None = None
    pinned: str = ""
    unpinned: str = ""
    index: Index | None = None
    made_from: Order | None = None
    no_index: str = ""
    said: Said | None = None

    @property
    def is_later(self) -> bool:
        """It says something of a capture that was there before."""
        return bool(self.dropped or self.added_to is not None or self.pinned or self.unpinned or self.no_index)


def fact_of(record: Record) -> Fact:
    """What a record says."""
    body = json.loads(record.body)
    if record.kind == "capture":
        version = Version(**body["version"])
        _expect(str, version.model, version.run_id, version.framework, version.artifact_note, body["dataset"])
        _expect(str, *body.get("uses", ()), *((version.artifact,) if version.artifact is not None else ()))
        _expect(int, version.artifact_nbytes, version.batch_rows, 0 if version.epoch is None else version.epoch)
        uses = frozenset(body.get("uses", ())) | ({version.artifact} if version.artifact else set())
        return Fact(capture_id_of(version, body["dataset"]), version=version, uses=uses)
    if record.kind in (MOVED, REMOVING, REMOVED):
        return Fact(("", "", None, ""))
    if record.kind in (SAID, RENAMED):
        return Fact(("", "", None, ""), said=said_of(record))
    model, run_id, epoch, dataset = body["of"]
    _expect(str, model, run_id, dataset)
    of = model, run_id, epoch, dataset
    if record.kind == "intermediate":
        return Fact(of, intermediate=intermediate_of(body), is_stored=body["is_stored"])
    if record.kind == STORED:
        added_to = Order(*body[ADDED_TO])
        uses = frozenset(body[USES])
        return Fact(of, intermediate=intermediate_of(body), is_stored=True, uses=uses, added_to=added_to)
    if record.kind == PIN:
        return Fact(of, **{"pinned" if body["is_pinned"] else "unpinned": body["name"]})
    if record.kind == INDEX:
        index, added_to, made_from = index_of(body[INDEX]), Order(*body[ADDED_TO]), Order(*body[MADE_FROM])
        return Fact(of, uses=frozenset(body[USES]), added_to=added_to, index=index, made_from=made_from)
    if record.kind == NO_INDEX:
        return Fact(of, no_index=body["index_of"])
    return Fact(of, dropped=body["name"])


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


def capture_id_of(version: Version, dataset: str) -> CaptureId:
    """What tells a capture from others."""
    return version.model, version.run_id, version.epoch, dataset


def to_json(value: object) -> bytes:
    """JSON as records hold it, without spaces."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def intermediate_body(intermediate: Intermediate) -> dict[str, Any]:
    """An intermediate without its references, as a record holds it."""
    body = {**asdict(replace(intermediate, references=None)), "codec": dict(intermediate.codec)}
    # JSON has no infinity.
    return {**body, "summary_error": None if isinf(intermediate.summary_error) else intermediate.summary_error}


def intermediate_of(body: dict[str, Any]) -> Intermediate:
    """The inverse of `intermediate_body`."""
    fields = {
        name: value for name, value in body.items() if name not in ("of", "is_stored", SEAL_FIELD, ADDED_TO, USES)
    }
    fields["types"] = tuple(
        ColumnType(**{**kind, "categories": None if kind["categories"] is None else tuple(kind["categories"])})
        for kind in fields["types"]
    )
    # Records of before there were summaries have no such field.
    error = fields.get("summary_error", 0.0)
    fields["summary_error"] = inf if error is None else error
    for name in ("shape", "columns", "aliases", "parents"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    found = Intermediate(**fields)
    _expect(str, found.name, found.role, found.container, found.detail, found.lineage, found.recompute_note)
    _expect(str, *found.aliases, *(found.columns or ()), *(found.parents or ()))
    _expect(str, *(text for kind in found.types for text in (kind.dtype, kind.cell)))
    _expect(int, found.n_rows, *found.shape, found.raw_nbytes, found.stored_nbytes)
    if min(found.n_rows, *found.shape, 0) < 0 or max(found.n_rows, *found.shape, 0) > MAX_ROWS:
        raise ValueError(f"{found.n_rows} rows of shape {found.shape}")
    return found


def _expect(kind: type, *values: object) -> None:
    """See that fields of a record are what they should be: it may come from a stranger.

    Raises
    ------
    TypeError
    """
    for value in values:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {str(value)[:40]!r}")


def index_body(index: Index) -> dict[str, Any]:
    """An index without its references, as a record holds it."""
    body = asdict(replace(index, references=None))
    return {**body, "max_abs_error": None if isinf(index.max_abs_error) else index.max_abs_error}


def index_of(body: dict[str, Any]) -> Index:
    """The inverse of `index_body`."""
    error = body["max_abs_error"]
    return Index(**{**body, "max_abs_error": inf if error is None else error})


def references_of(body: dict[str, Any]) -> References:
    """The references that an attachment holds."""
    return References(
        tuple(segment_from(segment) for segment in body["segments"]),
        tuple(Run(**run) for run in body["runs"]),
        tuple(Dictionary(**dictionary) for dictionary in body["dictionaries"]),
        body.get("n_blocks_held"),
    )
