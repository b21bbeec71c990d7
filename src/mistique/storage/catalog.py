"""The catalog: what was captured, as nouns. Its records are the commit point."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isinf
from threading import RLock
from time import sleep
from typing import Any

from mistique.errors import CaptureLostError, ChunkCorruptError, IntermediateNotFoundError
from mistique.schema import LATEST, ColumnType, Dictionary, Intermediate, Key, References, Run, Version
from mistique.storage.digests import is_sealed, seal
from mistique.storage.move_records import MOVED, REMOVED, REMOVING, removed_record, removing_record, segment_from
from mistique.storage.moves import Moves
from mistique.storage.records import Order, Record, RecordLog

_SEAL, _SEAL_FIELD = "record", "seal"
# How often a capture looks again whether what it uses was removed, 0.01 s apart, then twice as long each time: 10 s.
_TRIES = 10
CaptureId = tuple[str, str, int | None, str]  # model, run, epoch, dataset


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


class Catalog:
    """Versions, datasets and intermediates of a store, kept in memory without their references."""

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._facts: dict[Order, _Fact] = {}
        self._captures: dict[CaptureId, Capture] = {}
        self._of_lineage: dict[str, list[tuple[Capture, str]]] = {}
        self._references: dict[Order, References] = {}
        self._sealed: dict[Order, bool] = {}
        self._translated: dict[Order, References] = {}
        self._moves = Moves(lambda order: log.attachments([order])[0])
        self._is_loaded = False
        self._lock = RLock()

    @property
    def moves(self) -> Moves:
        """What compactions moved and removed."""
        return self._moves

    def refresh(self) -> None:
        """See what others have committed since."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        if self._log.refresh() or not self._is_loaded:
            for order, record in self._log.records():
                if order not in self._facts:
                    try:
                        self._facts[order] = _fact(record)
                        if record.kind in (MOVED, REMOVING, REMOVED):
                            self._moves.add(order, record)
                            self._translated.clear()
                    except (KeyError, TypeError, ValueError) as error:
                        where = f"record {order.counter} of the catalog"
                        raise ChunkCorruptError(where=where, expected=f"a {record.kind}", got=str(error)) from error
            self._captures = _captures(self._sorted_facts(), lambda order, fact: self._moves.is_void(order, fact.uses))
            self._of_lineage = _by_lineage(self._captures.values())
            self._is_loaded = True

    def captures(self) -> list[Capture]:
        """Every capture, oldest run first."""
        self.refresh()
        return list(self._captures.values())

    def commit(self, version: Version, dataset: str, intermediates: Sequence[Intermediate]) -> Capture:
        """Make a capture seen, whole and at once.

        Raises
        ------
        StoreError
            A compaction removed what it uses; nothing was written.
        CaptureLostError
            The same while it was written: what lies in the store is not seen, or it is seen and right.
        """
        self.refresh()
        intermediates = [
            node
            if node.references is None
            else replace(node, references=self._moves.translate(node.references, by_own=True))
            for node in intermediates
        ]
        used = {segment.id for node in intermediates if node.references for segment in node.references.segments}
        uses = used | ({version.artifact} if version.artifact else set())
        self._moves.check(uses)
        head = {"version": asdict(version), "dataset": dataset, "uses": sorted(used)}
        records = [Record("capture", _json(head))]
        capture_id = _capture_id(version, dataset)
        for intermediate in intermediates:
            body = {"of": capture_id, "is_stored": intermediate.is_stored, **_intermediate_json(intermediate)}
            attachment = _json(asdict(intermediate.references)) if intermediate.references is not None else b""
            if intermediate.lineage:
                body[_SEAL_FIELD] = seal(_SEAL, _json(body), attachment)
            records.append(Record("intermediate", _json(body), attachment))
        order = self._log.append(records)[0]
        self._is_loaded = False
        self.refresh()
        self._confirm(order, frozenset(uses), capture_id)
        return self._captures[capture_id]

    def drop(self, capture: Capture, name: str) -> None:
        """Forget where an intermediate is stored; it can still be recomputed."""
        body = {"of": _capture_id(capture.version, capture.dataset), "name": name}
        self._log.append([Record("drop", _json(body))])
        self._is_loaded = False
        self.refresh()

    def find(self, key: Key | str) -> tuple[Capture, Intermediate]:
        """The capture and the intermediate that a key names.

        Raises
        ------
        IntermediateNotFoundError
            Naming the nearest model, version, dataset or intermediate.
        """
        wanted = Key.parse(key)
        capture = self.find_capture(wanted)
        return capture, capture.resolve(wanted.intermediate)

    def find_capture(self, key: Key) -> Capture:
        """The capture that a key names: of ``latest``, the newest version that has the dataset."""
        captures = self.captures()
        of_model = [c for c in captures if c.version.model == key.model]
        if not of_model:
            raise IntermediateNotFoundError(what="model", name=key.model, known=[c.version.model for c in captures])
        of_version = [c for c in of_model if key.version in (LATEST, c.number, c.number.partition(".")[0])]
        if not of_version:
            known = [f"{key.model}@{c.number}" for c in of_model]
            raise IntermediateNotFoundError(what="version", name=f"{key.model}@{key.version}", known=known)
        found = [c for c in of_version if c.dataset == key.dataset]
        if not found:
            known = [c.dataset for c in of_version]
            what = f"dataset of {key.model}@{key.version}:"
            raise IntermediateNotFoundError(what=what, name=key.dataset, known=known)
        return found[-1]

    def held(self, lineage: str, is_wanted: Callable[[Intermediate], bool]) -> Intermediate | None:
        """A stored intermediate of that lineage that is wanted, with its references; None: there is none.

        Nobody reads or hashes what a lineage stands for, so only records that this user's key sealed are believed, and
        only moves that it sealed are followed.
        """
        self.refresh()
        for capture, name in reversed(self._of_lineage.get(lineage, [])):
            if name in capture.stored and is_wanted(capture.intermediates[name]):
                written = self._raw_references(capture)[name]
                if not self._sealed[capture.orders[name]]:
                    continue
                references = self._moves.translate(written, by_own=True)
                if not any(self._moves.is_gone(segment.id) for segment in references.segments):
                    return replace(capture.intermediates[name], references=references)
        return None

    def derived(self, lineage: str) -> Intermediate | None:
        """An intermediate of that lineage that was not stored as it follows from another; None: there is none.

        By a record that this user's key sealed, as in `held`.
        """
        self.refresh()
        for capture, name in reversed(self._of_lineage.get(lineage, [])):
            intermediate, order = capture.intermediates[name], capture.orders[name]
            is_left_out = not self._facts[order].is_stored and intermediate.derivation is not None
            if is_left_out and self._is_sealed(order, b""):
                return intermediate
        return None

    def references(self, capture: Capture) -> Mapping[str, References]:
        """Where the chunks of the stored intermediates of a capture lie, read at once and kept."""
        with self._lock:
            for name, references in self._raw_references(capture).items():
                order = capture.orders[name]
                if order not in self._translated:
                    self._translated[order] = self._moves.translate(references)
            return {name: self._translated[capture.orders[name]] for name in capture.stored}

    def in_use(self) -> tuple[list[References], frozenset[str]]:
        """What no compaction may take away: references as they were written, and artifacts.

        Captures that were replaced count as long as what replaced them may yet turn out void.
        """
        self.refresh()
        pending = self._moves.pending
        unsettled = _captures(
            self._sorted_facts(),
            lambda order, fact: self._moves.is_void(order, fact.uses) or bool(pending & fact.uses),
        )
        captures = [*self._captures.values(), *unsettled.values()]
        found: dict[Order, References] = {}
        for capture in captures:
            for name, references in self._raw_references(capture).items():
                found[capture.orders[name]] = references
        return list(found.values()), frozenset(c.version.artifact for c in captures if c.version.artifact)

    def mentioned(self) -> frozenset[str]:
        """Every segment and artifact that some record names or named."""
        return self._moves.mentioned.union(*(fact.uses for fact in self._facts.values()))

    def move(self, record: Record) -> None:
        """Write that chunks were moved."""
        self._log.append([record])
        self._is_loaded = False
        self.refresh()

    def announce(self, names: frozenset[str]) -> Order:
        """Write that these are to be removed, and see what others wrote before they could know."""
        order = self._log.append([removing_record(names)])[0]
        self._is_loaded = False
        self.refresh()
        return order

    def remove(self, announced: Order, names: frozenset[str]) -> None:
        """Write that of what was announced, these are removed; records that use them and are not known yet are void."""
        seen: dict[str, int] = {}
        for order, uses in [*((order, fact.uses) for order, fact in self._facts.items()), *self._moves.users()]:
            if uses & names:
                seen[order.writer] = max(order.counter, seen.get(order.writer, 0))
        self._log.append([removed_record(announced, names, seen)])
        self._is_loaded = False
        self.refresh()

    def compact(self) -> None:
        """Merge what the log consists of."""
        self._log.compact()

    def _confirm(self, order: Order, uses: frozenset[str], capture_id: CaptureId) -> None:
        """Nobody removed what a record uses while it was written."""
        for attempt in range(_TRIES + 1):
            if self._moves.is_void(order, uses) or attempt == _TRIES:
                raise CaptureLostError(model=capture_id[0], dataset=capture_id[3])
            if not uses & self._moves.pending:
                return
            sleep(0.01 * 2**attempt)
            self.refresh()

    def _sorted_facts(self) -> list[tuple[Order, _Fact]]:
        return sorted(self._facts.items(), key=lambda item: item[0])

    def _raw_references(self, capture: Capture) -> dict[str, References]:
        missing = [name for name in capture.stored if capture.orders[name] not in self._references]
        contents = self._log.attachments([capture.orders[name] for name in missing]) if missing else []
        for name, content in zip(missing, contents, strict=True):
            try:
                self._references[capture.orders[name]] = _references(json.loads(content))
                self._sealed[capture.orders[name]] = self._is_sealed(capture.orders[name], content)
            except (KeyError, TypeError, ValueError) as error:
                where = f"references of {capture.prefix}/{name}"
                raise ChunkCorruptError(where=where, expected="runs of chunks", got=str(error)) from error
        return {name: self._references[capture.orders[name]] for name in capture.stored}

    def _is_sealed(self, order: Order, attachment: bytes) -> bool:
        """Whether this user's key sealed that record, with that attachment, as they were written."""
        body = json.loads(self._log.record(order).body)
        found = body.pop(_SEAL_FIELD, None)
        return found is not None and is_sealed(found, _SEAL, _json(body), attachment)


@dataclass(frozen=True, slots=True)
class _Fact:
    """A record, parsed: a version, one of its intermediates, that one was dropped, or what `Moves` takes."""

    of: CaptureId
    version: Version | None = None
    intermediate: Intermediate | None = None
    is_stored: bool = False
    dropped: str = ""
    uses: frozenset[str] = frozenset()


def _fact(record: Record) -> _Fact:
    body = json.loads(record.body)
    if record.kind == "capture":
        version = Version(**body["version"])
        uses = frozenset(body.get("uses", ())) | ({version.artifact} if version.artifact else set())
        return _Fact(_capture_id(version, body["dataset"]), version=version, uses=uses)
    if record.kind in (MOVED, REMOVING, REMOVED):
        return _Fact(("", "", None, ""))
    model, run_id, epoch, dataset = body["of"]
    of = model, run_id, epoch, dataset
    if record.kind == "intermediate":
        return _Fact(of, intermediate=_intermediate(body), is_stored=body["is_stored"])
    return _Fact(of, dropped=body["name"])


def _captures(facts: list[tuple[Order, _Fact]], is_void: Callable[[Order, _Fact], bool]) -> dict[CaptureId, Capture]:
    """The newest capture of each version and dataset, in the order of runs and epochs.

    Parameters
    ----------
    facts : list of (Order, _Fact)
        Oldest first.
    is_void : callable
        Whether a capture counts for nothing. The numbers of others do not change with it.
    """
    run_numbers: dict[str, dict[str, int]] = {}
    heads: dict[CaptureId, tuple[Order, Version]] = {}
    void: set[tuple[str, CaptureId]] = set()
    counting: list[tuple[Order, _Fact]] = []
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


def _by_lineage(captures: Iterable[Capture]) -> dict[str, list[tuple[Capture, str]]]:
    """Where the intermediates of each lineage are, oldest first."""
    found: dict[str, list[tuple[Capture, str]]] = {}
    for capture in captures:
        for name, intermediate in capture.intermediates.items():
            if intermediate.lineage:
                found.setdefault(intermediate.lineage, []).append((capture, name))
    return found


def _capture_id(version: Version, dataset: str) -> CaptureId:
    return version.model, version.run_id, version.epoch, dataset


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _intermediate_json(intermediate: Intermediate) -> dict[str, Any]:
    body = {**asdict(replace(intermediate, references=None)), "codec": dict(intermediate.codec)}
    # JSON has no infinity.
    return {**body, "summary_error": None if isinf(intermediate.summary_error) else intermediate.summary_error}


def _intermediate(body: dict[str, Any]) -> Intermediate:
    fields = {name: value for name, value in body.items() if name not in ("of", "is_stored", _SEAL_FIELD)}
    fields["types"] = tuple(
        ColumnType(**{**kind, "categories": None if kind["categories"] is None else tuple(kind["categories"])})
        for kind in fields["types"]
    )
    # Records of before there were summaries have no such field.
    error = fields.get("summary_error", 0.0)
    fields["summary_error"] = inf if error is None else error
    for name in ("shape", "columns", "aliases", "parents"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    return Intermediate(**fields)


def _references(body: dict[str, Any]) -> References:
    return References(
        tuple(segment_from(segment) for segment in body["segments"]),
        tuple(Run(**run) for run in body["runs"]),
        tuple(Dictionary(**dictionary) for dictionary in body["dictionaries"]),
    )
