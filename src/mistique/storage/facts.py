"""Records to facts: what each record of a catalog says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mistique.errors import ChunkCorruptError
from mistique.schema import Index, Intermediate, Tally, Version
from mistique.storage.move_records import MOVED, REMOVED, REMOVING
from mistique.storage.outlines import Outline, outline_of
from mistique.storage.record_bodies import ADDED_TO, USES, index_of, intermediate_of, tally_of
from mistique.storage.record_cells import Order, Record
from mistique.storage.record_fields import BODY_ERRORS, expect, names_of, order_of
from mistique.storage.version_records import NUMBER, RENAMED, SAID, Said, said_of

CaptureId = tuple[str, str, int | None, str]  # model, run, epoch, dataset
# A capture, one of its intermediates, one that was stored after its capture, and that one is to stay stored.
CAPTURE, INTERMEDIATE, STORED, PIN = "capture", "intermediate", "stored", "pin"
# That an intermediate has an index, made from what one record says is stored; and that it has none any more.
INDEX, NO_INDEX, MADE_FROM = "index", "no index", "made_from"
# That figures over all rows of an intermediate were kept.
TALLY = "tally"


@dataclass(slots=True, eq=False)
class Fact:
    """A record, parsed: a version, one of its intermediates, what became of one later, what was said, or `Moves`'.

    Nobody changes one; that Python holds it to that would take as long as to parse the record.
    """

    of: CaptureId
    version: Version | None = None
    # That its run takes, if it is the first capture of it; 0: none, of records that are older than such numbers.
    number: int = 0
    outline: Outline | None = None
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
    tally: Tally | None = None
    said: Said | None = None

    @property
    def leaves_stored(self) -> bool:
        """It changes nothing of what is stored: a pin, an index, or a tally."""
        is_beside = self.index is not None or self.tally is not None
        return bool(self.pinned or self.unpinned or is_beside or self.no_index)

    @property
    def is_later(self) -> bool:
        """It says something of a capture that was there before."""
        return bool(self.dropped or self.added_to is not None or self.pinned or self.unpinned or self.no_index)


@contextmanager
def record_errors(order: Order, record: Record) -> Iterator[None]:
    """What a record says makes no sense: one error that says which."""
    try:
        yield
    except BODY_ERRORS as error:
        where = f"record {order.counter} of the catalog"
        raise ChunkCorruptError(where=where, expected=f"a {record.kind}", got=str(error)) from error


def fact_of(record: Record) -> Fact:
    """What a record says."""
    if record.kind in (MOVED, REMOVING, REMOVED):
        return Fact(("", "", None, ""))
    if record.kind in (SAID, RENAMED):
        return Fact(("", "", None, ""), said=said_of(record))
    body = json.loads(record.body)
    if record.kind == CAPTURE:
        version = Version(**body["version"])
        expect(str, version.model, version.run_id, version.framework, version.artifact_note, body["dataset"])
        expect(str, *((version.artifact,) if version.artifact is not None else ()))
        expect(int, version.artifact_nbytes, version.batch_rows, 0 if version.epoch is None else version.epoch)
        uses = names_of(body.get(USES, [])) | ({version.artifact} if version.artifact else set())
        number = body.get(NUMBER, 0)
        expect(int, number)
        if number < 0:
            raise ValueError(f"number {number}")
        of = capture_id_of(version, body["dataset"])
        return Fact(of, version, number, outline_of(body.get("outline")), uses=uses)
    model, run_id, epoch, dataset = body["of"]
    expect(str, model, run_id, dataset)
    expect(int, 0 if epoch is None else epoch)
    of = model, run_id, epoch, dataset
    if record.kind == INTERMEDIATE:
        expect(bool, body["is_stored"])
        return Fact(of, intermediate=intermediate_of(body), is_stored=body["is_stored"])
    if record.kind == STORED:
        added_to, uses = order_of(body[ADDED_TO]), names_of(body[USES])
        return Fact(of, intermediate=intermediate_of(body), is_stored=True, uses=uses, added_to=added_to)
    if record.kind == PIN:
        expect(str, body["name"])
        return Fact(of, **{"pinned" if body["is_pinned"] else "unpinned": body["name"]})
    if record.kind == INDEX:
        index, added_to, made_from = index_of(body[INDEX]), order_of(body[ADDED_TO]), order_of(body[MADE_FROM])
        return Fact(of, uses=names_of(body[USES]), added_to=added_to, index=index, made_from=made_from)
    if record.kind == NO_INDEX:
        expect(str, body["index_of"])
        return Fact(of, no_index=body["index_of"])
    if record.kind == TALLY:
        return Fact(of, added_to=order_of(body[ADDED_TO]), tally=tally_of(body[TALLY]))
    expect(str, body["name"])
    return Fact(of, dropped=body["name"])


def capture_id_of(version: Version, dataset: str) -> CaptureId:
    """What tells a capture from others."""
    return version.model, version.run_id, version.epoch, dataset
