"""The catalog: what was captured, as nouns. Its records are the commit point."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from threading import RLock
from time import sleep

from mistique.errors import CaptureLostError, ChunkCorruptError, IntermediateNotFoundError, StoreError
from mistique.schema import LATEST, Index, Intermediate, Key, References, Version
from mistique.storage.digests import is_sealed, seal
from mistique.storage.facts import (
    ADDED_TO,
    INDEX,
    MADE_FROM,
    NO_INDEX,
    PIN,
    SEAL_FIELD,
    STORED,
    USES,
    Capture,
    CaptureId,
    Fact,
    by_lineage,
    capture_id_of,
    captures_of,
    fact_of,
    index_body,
    intermediate_body,
    references_of,
    saying_of,
    to_json,
)
from mistique.storage.move_records import MOVED, REMOVED, REMOVING, removed_record, removing_record
from mistique.storage.moves import Moves
from mistique.storage.record_cells import Order, Record
from mistique.storage.records import RecordLog
from mistique.storage.references import references_body
from mistique.storage.version_records import RunId

_SEAL = "record"
# How often a capture looks again whether what it uses was removed, 0.01 s apart, then twice as long each time: 10 s.
_TRIES = 10


class Catalog:
    """Versions, datasets and intermediates of a store, kept in memory without their references."""

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._facts: dict[Order, Fact] = {}
        self._captures: dict[CaptureId, Capture] = {}
        self._of_model: dict[str, list[Capture]] = {}
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
                        self._facts[order] = fact_of(record)
                        if record.kind in (MOVED, REMOVING, REMOVED):
                            self._moves.add(order, record)
                            self._translated.clear()
                    except (KeyError, TypeError, ValueError) as error:
                        where = f"record {order.counter} of the catalog"
                        raise ChunkCorruptError(where=where, expected=f"a {record.kind}", got=str(error)) from error
            self._captures = captures_of(
                self._sorted_facts(), lambda order, fact: self._moves.is_void(order, fact.uses)
            )
            self._of_lineage = by_lineage(self._captures.values())
            self._of_model = defaultdict(list)
            for capture in self._captures.values():
                self._of_model[capture.version.model].append(capture)
            self._is_loaded = True

    def captures(self) -> list[Capture]:
        """Every capture, oldest run first."""
        self.refresh()
        return list(self._captures.values())

    def current(self, capture: Capture) -> Capture:
        """A capture with what was stored, dropped or pinned of it since it was found; as it is if it was replaced."""
        found = self._captures.get(capture.id)
        return found if found is not None and found.order == capture.order else capture

    def commit(self, version: Version, dataset: str, intermediates: Sequence[Intermediate]) -> Capture:
        """Make a capture seen, whole and at once.

        Raises
        ------
        StoreError
            A compaction removed what it uses; nothing was written.
        CaptureLostError
            The same while it was written, or the write failed and may have been done all the same: what lies in the
            store is not seen, or it is seen and right. So what it refers to must stay.
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
        records = [Record("capture", to_json(head))]
        capture_id = capture_id_of(version, dataset)
        records += [_record("intermediate", {"of": capture_id}, node) for node in intermediates]
        try:
            order, *orders = self._log.append(records)
            # What was just written need not be read back when the next capture refers to it.
            for of_node, node in zip(orders, intermediates, strict=True):
                if node.references is not None:
                    self._references[of_node] = node.references
                    self._sealed[of_node] = bool(node.lineage)
            self._is_loaded = False
            self.refresh()
            self._confirm(order, frozenset(uses), capture_id)
        except CaptureLostError:
            raise
        except StoreError as error:
            raise CaptureLostError(model=version.model, dataset=dataset, why=str(error)) from error
        return self._captures[capture_id]

    def add(self, capture: Capture, intermediate: Intermediate) -> None:
        """Make seen that an intermediate of a capture is stored now, whole or some blocks of it.

        Raises
        ------
        StoreError
            A compaction removed what it uses, or somebody replaced the capture: nothing came of it.
        """
        self.refresh()
        assert intermediate.references is not None
        found = replace(intermediate, references=self._moves.translate(intermediate.references, by_own=True))
        assert found.references is not None
        uses = frozenset(segment.id for segment in found.references.segments)
        self._moves.check(uses)
        head = {"of": capture.id, ADDED_TO: (capture.order.counter, capture.order.writer), USES: sorted(uses)}
        order = self._log.append([_record(STORED, head, found)])[0]
        self._is_loaded = False
        self.refresh()
        self._confirm(order, uses, capture.id)

    def pin(self, capture: Capture, name: str, *, is_pinned: bool) -> None:
        """Write that an intermediate is to stay stored, or no longer."""
        self.say(Record(PIN, to_json({"of": capture.id, "name": name, "is_pinned": is_pinned})))

    def add_index(self, capture: Capture, index: Index) -> None:
        """Make seen that an intermediate of a capture, as it is stored now, has an index.

        Raises
        ------
        StoreError
            A compaction removed what it uses, or somebody replaced the capture: nothing came of it.
        """
        self.refresh()
        assert index.references is not None
        references = self._moves.translate(index.references, by_own=True)
        uses = frozenset(segment.id for segment in references.segments)
        self._moves.check(uses)
        head, made_from = capture.order, capture.orders[index.name]
        body = {
            "of": capture.id,
            ADDED_TO: (head.counter, head.writer),
            MADE_FROM: (made_from.counter, made_from.writer),
            USES: sorted(uses),
            INDEX: index_body(index),
            # What reads a record of a kind that it does not know takes it for a drop, of the intermediate named here.
            "name": "",
        }
        order = self._log.append([Record(INDEX, to_json(body), to_json(references_body(references)))])[0]
        self._is_loaded = False
        self.refresh()
        self._confirm(order, uses, capture.id)

    def drop_index(self, capture: Capture, name: str) -> None:
        """Forget the index of an intermediate."""
        self.say(Record(NO_INDEX, to_json({"of": capture.id, "index_of": name, "name": ""})))

    def index(self, capture: Capture, name: str) -> Index | None:
        """The index of an intermediate, with its references; None: it has none.

        Raises
        ------
        StoreError
            Its record is damaged.
        """
        with self._lock:
            found = capture.indexes.get(name)
            if found is None:
                return None
            order, index = found
            if order not in self._translated:
                self._translated[order] = self._moves.translate(self._raw_index(capture, name))
            return replace(index, references=self._translated[order])

    def sound_indexes(self, capture: Capture) -> dict[str, Index]:
        """The indexes of a capture, with their references, but for those whose record is damaged: others answer."""
        found = {}
        for name in capture.indexes:
            with suppress(StoreError):
                index = self.index(capture, name)
                if index is not None:
                    found[name] = index
        return found

    def drop(self, capture: Capture, *names: str) -> None:
        """Forget where intermediates are stored; they can still be recomputed."""
        self.say(*(Record("drop", to_json({"of": capture.id, "name": name})) for name in names))

    def say(self, *records: Record) -> None:
        """Write something about what was captured before."""
        self._log.append(records)
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
        of_version = self._of_version(key)
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
                is_gone = any(self._moves.is_gone(segment.id) for segment in references.segments)
                if references.is_whole and not is_gone:
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

    def references_of(self, capture: Capture, name: str) -> References:
        """Where the chunks of one stored intermediate lie, whatever is wrong with the others of its capture."""
        with self._lock:
            return self._moves.translate(self._raw_references(capture, [name])[name])

    def in_use(self) -> tuple[list[References], frozenset[str]]:
        """What no compaction may take away: references as they were written, and artifacts.

        Captures that were replaced count as long as what replaced them may yet turn out void.
        """
        self.refresh()
        pending = self._moves.pending
        unsettled = captures_of(
            self._sorted_facts(),
            lambda order, fact: self._moves.is_void(order, fact.uses) or bool(pending & fact.uses),
        )
        captures = [*self._captures.values(), *unsettled.values()]
        found: dict[Order, References] = {}
        for capture in captures:
            for name, references in self._raw_references(capture).items():
                found[capture.orders[name]] = references
            for name, (order, _) in capture.indexes.items():
                found[order] = self._raw_index(capture, name)
        return list(found.values()), frozenset(c.version.artifact for c in captures if c.version.artifact)

    def mentioned(self) -> frozenset[str]:
        """Every segment and artifact that some record names or named."""
        return self._moves.mentioned.union(*(fact.uses for fact in self._facts.values()))

    def find_versions(self, text: str) -> list[Capture]:
        """The captures of the version that a text names, ``homes/ridge@2``; of ``latest``, of the newest alone.

        Raises
        ------
        InvalidKeyError, IntermediateNotFoundError
        """
        found = self._of_version(Key.parse(f"{text}/-/-"))
        return [capture for capture in found if capture.number == found[-1].number]

    def runs_of(self, model: str) -> list[RunId]:
        """Every run that was captured as a model of that name, those that are deleted included."""
        self.refresh()
        facts = self._sorted_facts()
        saying = saying_of(facts)
        runs = {fact.of[:2]: None for _, fact in facts if fact.version is not None}
        return [run for run in runs if saying.name_of(run) == model]

    def _of_version(self, key: Key) -> list[Capture]:
        """The captures of a version, or of a run of them, by number, ``latest`` or tag."""
        self.refresh()
        of_model = self._of_model.get(key.model)
        if not of_model:
            raise IntermediateNotFoundError(what="model", name=key.model, known=self._of_model)
        found = [c for c in of_model if key.version in (LATEST, c.number, c.number.partition(".")[0])]
        found = found or [c for c in of_model if key.version in c.about.tags]
        if not found:
            known = [f"{key.model}@{c.number}" for c in of_model]
            raise IntermediateNotFoundError(what="version", name=f"{key.model}@{key.version}", known=known)
        return found

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

    def _sorted_facts(self) -> list[tuple[Order, Fact]]:
        return sorted(self._facts.items(), key=lambda item: item[0])

    def _raw_references(self, capture: Capture, names: Iterable[str] | None = None) -> dict[str, References]:
        names = capture.stored if names is None else names
        missing = [name for name in names if capture.orders[name] not in self._references]
        contents = self._log.attachments([capture.orders[name] for name in missing]) if missing else []
        for name, content in zip(missing, contents, strict=True):
            try:
                self._references[capture.orders[name]] = references_of(json.loads(content))
                self._sealed[capture.orders[name]] = self._is_sealed(capture.orders[name], content)
            except (KeyError, TypeError, ValueError) as error:
                where = f"references of {capture.prefix}/{name}"
                raise ChunkCorruptError(where=where, expected="runs of chunks", got=str(error)) from error
        return {name: self._references[capture.orders[name]] for name in names}

    def _raw_index(self, capture: Capture, name: str) -> References:
        """References of an index as they were written."""
        order, _ = capture.indexes[name]
        if order not in self._references:
            try:
                self._references[order] = references_of(json.loads(self._log.attachments([order])[0]))
            except (KeyError, TypeError, ValueError) as error:
                where = f"references of the index of {capture.prefix}/{name}"
                raise ChunkCorruptError(where=where, expected="runs of chunks", got=str(error)) from error
        return self._references[order]

    def _is_sealed(self, order: Order, attachment: bytes) -> bool:
        """Whether this user's key sealed that record, with that attachment, as they were written."""
        body = json.loads(self._log.record(order).body)
        found = body.pop(SEAL_FIELD, None)
        return found is not None and is_sealed(found, _SEAL, to_json(body), attachment)


def _record(kind: str, head: Mapping[str, object], intermediate: Intermediate) -> Record:
    """The record of an intermediate, its references attached; sealed where its lineage is known."""
    body = {**head, "is_stored": intermediate.is_stored, **intermediate_body(intermediate)}
    attachment = to_json(references_body(intermediate.references)) if intermediate.references is not None else b""
    if intermediate.lineage:
        body[SEAL_FIELD] = seal(_SEAL, to_json(body), attachment)
    return Record(kind, to_json(body), attachment)
