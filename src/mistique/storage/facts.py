"""Records to nouns: what the records of a catalog say, and the captures that they add up to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import inf, isinf
from typing import Any

from mistique.errors import IntermediateNotFoundError
from mistique.schema import ColumnType, Dictionary, Intermediate, Key, References, Run, Version
from mistique.storage.move_records import MOVED, REMOVED, REMOVING, segment_from
from mistique.storage.record_cells import Order, Record

CaptureId = tuple[str, str, int | None, str]  # model, run, epoch, dataset
SEAL_FIELD = "seal"
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
        steps = [i for i in self.intermediates.values() if i.role in ("input", "stage", "prediction")]
        if name.lstrip("-").isdigit() and -len(steps) <= int(name) < len(steps):
            return steps[int(name)]
        aliases = [alias for i in self.intermediates.values() for alias in i.aliases]
        what = f"intermediate in {self.prefix}:"
        raise IntermediateNotFoundError(what=what, name=name, known=[*self.intermediates, *aliases])


@dataclass(frozen=True, slots=True)
class Fact:
    """A record, parsed: a version, one of its intermediates, that one was dropped, or what `Moves` takes."""

    of: CaptureId
    version: Version | None = None
    intermediate: Intermediate | None = None
    is_stored: bool = False
    dropped: str = ""
    uses: frozenset[str] = frozenset()


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
    model, run_id, epoch, dataset = body["of"]
    _expect(str, model, run_id, dataset)
    of = model, run_id, epoch, dataset
    if record.kind == "intermediate":
        return Fact(of, intermediate=intermediate_of(body), is_stored=body["is_stored"])
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
    run_numbers: dict[str, dict[str, int]] = {}
    heads: dict[CaptureId, tuple[Order, Version]] = {}
    void: set[tuple[str, CaptureId]] = set()
    counting: list[tuple[Order, Fact]] = []
    for order, fact in facts:
        by = order.writer, fact.of
        if fact.version is not None:
            runs = run_numbers.setdefault(fact.version.model, {})
            runs.setdefault(fact.version.run_id, len(runs) + 1)
            if is_void(order, fact):
                void.add(by)
            else:
                void.discard(by)
                heads[fact.of] = order, fact.version
        if by not in void or fact.dropped:
            counting.append((order, fact))
    parts: dict[CaptureId, dict[str, tuple[Order, Intermediate]]] = {of: {} for of in heads}
    stored: dict[CaptureId, set[str]] = {of: set() for of in heads}
    for order, fact in counting:
        # What came before the newest capture belongs to one that it replaced; so does what another writer says of it.
        if fact.of not in heads or order < heads[fact.of][0]:
            continue
        if fact.intermediate is not None and order.writer == heads[fact.of][0].writer:
            parts[fact.of][fact.intermediate.name] = order, fact.intermediate
            if fact.is_stored:
                stored[fact.of].add(fact.intermediate.name)
        stored[fact.of].discard(fact.dropped)

    def age(of: CaptureId) -> tuple[Any, ...]:
        order, version = heads[of]
        return run_numbers[version.model][version.run_id], version.epoch or 0, order

    captures = {}
    for of in sorted(heads, key=age):
        version = heads[of][1]
        run = run_numbers[version.model][version.run_id]
        captures[of] = Capture(
            version,
            of[3],
            f"{run}" if version.epoch is None else f"{run}.{version.epoch}",
            {name: intermediate for name, (_, intermediate) in parts[of].items()},
            {name: order for name, (order, _) in parts[of].items()},
            frozenset(stored[of]),
        )
    return captures


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
    fields = {name: value for name, value in body.items() if name not in ("of", "is_stored", SEAL_FIELD)}
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


def references_of(body: dict[str, Any]) -> References:
    """The references that an attachment holds."""
    return References(
        tuple(segment_from(segment) for segment in body["segments"]),
        tuple(Run(**run) for run in body["runs"]),
        tuple(Dictionary(**dictionary) for dictionary in body["dictionaries"]),
    )
