"""The catalog: what is captured becomes seen by its records. They are the commit point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from time import monotonic, sleep

from mistique.errors import CaptureLostError, StoreError
from mistique.schema import Index, Intermediate, References, Tally, Version
from mistique.storage.captures import Capture, captures_of
from mistique.storage.catalog_reader import CatalogReader
from mistique.storage.digests import seal
from mistique.storage.facts import (
    CAPTURE,
    INDEX,
    INTERMEDIATE,
    MADE_FROM,
    NO_INDEX,
    PIN,
    STORED,
    TALLY,
    CaptureId,
    capture_id_of,
)
from mistique.storage.move_records import removed_record, removing_record
from mistique.storage.outlines import outline, outline_body
from mistique.storage.record_bodies import (
    ADDED_TO,
    SEAL_FIELD,
    USES,
    index_body,
    intermediate_body,
    tally_body,
)
from mistique.storage.record_cells import Order, Record
from mistique.storage.record_fields import to_json
from mistique.storage.references import references_body
from mistique.storage.version_records import NUMBER, RunId, said_record
from mistique.storage.written_references import RECORD_SEAL

# How often a capture looks again whether what it uses was removed, 0.01 s apart, then twice as long each time: 10 s.
_TRIES = 10
# How long a capture waits, at least, for another writer that claimed its number to claim another; how often it looks.
_PATIENCE_SECONDS, _MAX_LOOKS = 0.2, 200


class Catalog(CatalogReader):
    """A catalog that is also written to: one record, or some at once, for each thing that is said."""

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
            else replace(node, references=self.moves.translate(node.references, by_own=True))
            for node in intermediates
        ]
        used = {segment.id for node in intermediates if node.references for segment in node.references.segments}
        uses = used | ({version.artifact} if version.artifact else set())
        self.moves.check(uses)
        found = {node.name: node for node in intermediates}
        body = outline_body(outline(found, [node.name for node in intermediates if node.is_stored]))
        head: dict[str, object] = {
            "version": asdict(version),
            "dataset": dataset,
            "uses": sorted(used),
            "outline": body,
        }
        capture_id = capture_id_of(version, dataset)
        is_new = capture_id[:2] not in self._numbers
        if is_new:
            head[NUMBER] = max((self._numbers[other] for other, _ in self._others(capture_id[:2])), default=0) + 1
        records = [_record(INTERMEDIATE, {"of": capture_id}, node) for node in intermediates]
        try:
            started = monotonic()
            order, *orders = self._log.append([Record(CAPTURE, to_json(head))], behind=records)
            append_seconds = monotonic() - started
            # What was just written need not be read back when the next capture refers to it.
            for of_node, node in zip(orders, intermediates, strict=True):
                if node.references is not None:
                    self._written.remember(of_node, node.references, is_own=bool(node.lineage))
            self.refresh()
            self._confirm(order, frozenset(uses), capture_id)
            if is_new:
                self._settle(capture_id, max(_PATIENCE_SECONDS, 8 * append_seconds))
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
        found = replace(intermediate, references=self.moves.translate(intermediate.references, by_own=True))
        assert found.references is not None
        uses = frozenset(segment.id for segment in found.references.segments)
        self.moves.check(uses)
        head = {"of": capture.id, ADDED_TO: (capture.order.counter, capture.order.writer), USES: sorted(uses)}
        order = self._log.append([_record(STORED, head, found)])[0]
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
        references = self.moves.translate(index.references, by_own=True)
        uses = frozenset(segment.id for segment in references.segments)
        self.moves.check(uses)
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
        self.refresh()
        self._confirm(order, uses, capture.id)

    def drop_index(self, capture: Capture, name: str) -> None:
        """Forget the index of an intermediate."""
        self.say(Record(NO_INDEX, to_json({"of": capture.id, "index_of": name, "name": ""})))

    def add_tally(self, capture: Capture, tally: Tally, figures: bytes) -> None:
        """Keep figures over all rows of an intermediate of a capture, packed."""
        head = capture.order.counter, capture.order.writer
        body = {"of": capture.id, ADDED_TO: head, TALLY: tally_body(tally), "name": ""}
        self.say(Record(TALLY, to_json(body), figures))

    def drop(self, capture: Capture, *names: str) -> None:
        """Forget where intermediates are stored; they can still be recomputed."""
        self.say(*(Record("drop", to_json({"of": capture.id, "name": name})) for name in names))

    def say(self, *records: Record) -> None:
        """Write something about what was captured before."""
        self._log.append(records)
        self.refresh()

    def announce(self, names: frozenset[str]) -> Order:
        """Write that these are to be removed, and see what others wrote before they could know."""
        order = self._log.append([removing_record(names)])[0]
        self.refresh()
        return order

    def remove(self, announced: Order, names: frozenset[str]) -> None:
        """Write that of what was announced, these are removed; records that use them and are not known yet are void."""
        seen: dict[str, int] = {}
        for order, uses in [*((order, fact.uses) for order, fact in self._facts.items()), *self.moves.users()]:
            if uses & names:
                seen[order.writer] = max(order.counter, seen.get(order.writer, 0))
        self._log.append([removed_record(announced, names, seen)])
        self.refresh()

    def in_use(self) -> tuple[list[References], frozenset[str]]:
        """What no compaction may take away: references as they were written, and artifacts.

        Captures that were replaced count as long as what replaced them may yet turn out void.
        """
        self.refresh()
        pending = self.moves.pending

        def may_be_void(order: Order, uses: frozenset[str]) -> bool:
            return self.moves.is_void(order, uses) or bool(pending & uses)

        unsettled = captures_of(dict(self._of_capture), self._numbers, self._saying, may_be_void, self._behind.of)
        captures = [*self._captures.values(), *unsettled.values()]
        self.read(captures)
        found: dict[Order, References] = {}
        for capture in captures:
            for name, references in self._written.of(capture).items():
                found[capture.orders[name]] = references
            for name, (order, _) in capture.indexes.items():
                found[order] = self._written.of_index(capture, name)
        return list(found.values()), frozenset(c.version.artifact for c in captures if c.version.artifact)

    def mentioned(self) -> frozenset[str]:
        """Every segment and artifact that some record names or named."""
        return self.moves.mentioned.union(*(fact.uses for fact in list(self._facts.values())))

    def compact(self) -> None:
        """Merge what the log consists of."""
        self._log.compact()

    def _others(self, run: RunId) -> list[tuple[RunId, int]]:
        """The other runs of the same model, and the number that each claims."""
        name = self._saying.name_of(run)
        claims = ((other, claimed) for other, (_, claimed) in self._claims.items())
        return [(other, claimed) for other, claimed in claims if other != run and self._saying.name_of(other) == name]

    def _settle(self, of: CaptureId, patience_seconds: float) -> None:
        """See that a new run alone claims its number, before anybody is told of it.

        Of two writers that claimed one number at once, at least one sees the other after its own record is written. Who
        has not got the number claims the first one, from that of its record on, that nobody claims. Who has it waits
        for that, and if it does not come does so itself: the other did not see it, and was told. What was told stays.
        """
        run, since = of[:2], monotonic()
        first = self._claims[run][1]
        for _ in range(_MAX_LOOKS):
            taken = {claimed or self._numbers[other] for other, claimed in self._others(run)}
            if self._numbers[run] == self._claims[run][1]:
                if self._numbers[run] not in taken:
                    return
                if monotonic() - since < patience_seconds:
                    sleep(patience_seconds / 20)
                    self.refresh()
                    continue
                patience_seconds *= 2
            another = next(number for number in count(first) if number not in taken)
            self.say(said_record(of[:3], NUMBER, value=str(another)))
            since = monotonic()

    def _confirm(self, order: Order, uses: frozenset[str], capture_id: CaptureId) -> None:
        """Nobody removed what a record uses while it was written."""
        for attempt in range(_TRIES + 1):
            if self.moves.is_void(order, uses) or attempt == _TRIES:
                raise CaptureLostError(model=capture_id[0], dataset=capture_id[3])
            if not uses & self.moves.pending:
                return
            sleep(0.01 * 2**attempt)
            self.refresh()


def _record(kind: str, head: Mapping[str, object], intermediate: Intermediate) -> Record:
    """The record of an intermediate, its references attached; sealed where its lineage is known."""
    body = {**head, "is_stored": intermediate.is_stored, **intermediate_body(intermediate)}
    attachment = to_json(references_body(intermediate.references)) if intermediate.references is not None else b""
    if intermediate.lineage:
        body[SEAL_FIELD] = seal(RECORD_SEAL, to_json(body), attachment)
    return Record(kind, to_json(body), attachment)
