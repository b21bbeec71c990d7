"""A look through all of a store: records, references, moves, segments, models, the index. Nothing of it is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, MistiqueError, StoreError
from mistique.schema import References, Segment
from mistique.storage.artifacts import Artifacts
from mistique.storage.captures import Capture
from mistique.storage.catalog import Catalog
from mistique.storage.damage import Damage, Health
from mistique.storage.digest_index import DigestIndex, create_digests
from mistique.storage.facts import CAPTURE, fact_of
from mistique.storage.fragments import alone, fresh_schema, has_schema, list_commits
from mistique.storage.layout import Layout
from mistique.storage.log_inspection import InspectedLog
from mistique.storage.move_records import MOVED, REMOVED, REMOVING, MovedParts, move_from
from mistique.storage.moves import Moves
from mistique.storage.options import translated
from mistique.storage.outlines import outline, outline_body
from mistique.storage.record_bodies import figures_of
from mistique.storage.record_cells import Order, Record
from mistique.storage.record_fields import BODY_ERRORS, to_json
from mistique.storage.records import RecordLog
from mistique.storage.segments import SegmentReader
from mistique.storage.unit_inspection import InspectedSegment, inspect_segment, misfits
from mistique.storage.usage import observations_of

_TRIES = 5


@dataclass(frozen=True, eq=False)
class Findings:
    """What is damaged, as a repair needs it.

    Parameters
    ----------
    health : Health
    catalog, usage : InspectedLog
    lost : tuple of (Capture, str)
        Intermediates that cannot be read.
    bad_segments, bad_models : frozenset of str
    bad_index : tuple of str
        Commits of the index of digests.
    index_schema : bytes, optional
        What its schema should be, where that is damaged.
    bad_indexes : tuple of (Capture, str)
        Layers whose index cannot be read.
    """

    health: Health
    catalog: InspectedLog
    usage: InspectedLog
    lost: tuple[tuple[Capture, str], ...]
    bad_segments: frozenset[str]
    bad_models: frozenset[str]
    bad_index: tuple[str, ...]
    index_schema: bytes | None
    bad_indexes: tuple[tuple[Capture, str], ...] = ()


def look_through(layout: Layout, ctx: tiledb.Ctx) -> Findings:
    """What is damaged in a store; where others compact it meanwhile, it is looked at again."""
    for _ in range(_TRIES):
        before = _commits(layout, ctx)
        with translated(layout.uri, "check"):
            found = Checker(layout, ctx).run()
        if found.health.is_whole or _commits(layout, ctx) == before:
            break
    return found


def look_twice(layout: Layout, ctx: tiledb.Ctx) -> Findings:
    """What two looks find damaged alike: what a network or a disk gives back the next time was never lost.

    Raises
    ------
    StoreError
        Each look finds something else.
    """
    found = look_through(layout, ctx)
    for _ in range(_TRIES):
        if found.health.is_whole:
            return found
        before, found = found, look_through(layout, ctx)
        if _places(before) == _places(found):
            return found
    raise StoreError(f"cannot repair {layout.uri}: each look finds other damage; try when it can be read steadily")


def _places(found: Findings) -> tuple[object, ...]:
    return [(damage.kind, damage.where) for damage in found.health.damages], found.health.lost


def _commits(layout: Layout, ctx: tiledb.Ctx) -> frozenset[str]:
    try:
        return list_commits(layout.catalog, ctx)
    except StoreError:
        return frozenset()


class Checker:
    """Looks through a store.

    Parameters
    ----------
    layout : Layout
    ctx : tiledb.Ctx

    Notes
    -----
    Each payload is read, held against its digest and decoded once, however many intermediates share it; each
    intermediate is then held against what its chunks were found to be. Held by ``tests/storage/test_check.py``.
    """

    def __init__(self, layout: Layout, ctx: tiledb.Ctx) -> None:
        self._layout, self._ctx = layout, ctx
        self._damages: list[Damage] = []
        self._segments: dict[Segment, InspectedSegment] = {}
        self._bad_indexes: list[tuple[Capture, str]] = []

    def run(self) -> Findings:
        """Look once."""
        log = InspectedLog(self._layout.catalog, self._ctx, "records", _why_no_fact, mended_capture)
        usage = InspectedLog(self._layout.usage, self._ctx, "usage", _why_no_usage)
        self._damages += [*log.damages, *usage.damages]
        catalog = Catalog(cast(RecordLog, log))
        lost, n_whole = self._intermediates(catalog)
        bad_models, lost_models, n_models = self._models(catalog)
        bad_index, index_schema = self._index()
        health = Health(
            self._layout.uri,
            tuple(self._damages),
            tuple(f"{capture.prefix}/{name}" for capture, name in lost),
            tuple(lost_models),
            n_whole,
            n_models,
            sum(found.n_bytes for found in self._segments.values()),
        )
        # One of which the digests alone are damaged is read as ever, but nobody should begin to use it.
        bad_segments = frozenset(segment.id for segment, found in self._segments.items() if found.damages)
        return Findings(
            health,
            log,
            usage,
            tuple(lost),
            bad_segments,
            bad_models,
            bad_index,
            index_schema,
            tuple(self._bad_indexes),
        )

    def _intermediates(self, catalog: Catalog) -> tuple[list[tuple[Capture, str]], int]:
        found: dict[tuple[int, str], References] = {}
        captures = catalog.captures()
        lost: list[tuple[Capture, str]] = []
        for number, capture in enumerate(captures):
            for name in sorted(capture.stored):
                try:
                    found[number, name] = catalog.references_of(capture, name)
                except MistiqueError as error:
                    self._say("references", f"{capture.prefix}/{name}", str(error))
                    lost.append((capture, name))
        self._inspect({segment for references in found.values() for segment in references.segments}, catalog.moves)
        n_whole = 0
        for (number, name), references in found.items():
            capture = captures[number]
            try:
                why = misfits(capture.intermediates[name], references, self._segments)
            except MistiqueError as error:
                why = str(error)
            if why:
                if not any(self._segments[segment].damages for segment in references.segments):
                    self._say("references", f"{capture.prefix}/{name}", why)
                lost.append((capture, name))
            else:
                n_whole += 1
        self._indexes(catalog)
        return lost, n_whole

    def _indexes(self, catalog: Catalog) -> None:
        """Payloads of indexes against their digests. Nothing is lost with one: what it answers, others answer."""
        reader = SegmentReader(self._layout, self._ctx)
        try:
            for capture in catalog.captures():
                for name in sorted(capture.indexes):
                    try:
                        index = catalog.index(capture, name)
                        for segment in index.references.segments if index and index.references else ():
                            for _ in reader.payloads(segment, np.arange(reader.table(segment).n_units)):
                                pass
                    except MistiqueError as error:
                        self._say("index", f"{capture.prefix}/{name}", str(error))
                        self._bad_indexes.append((capture, name))
        finally:
            reader.close()

    def _inspect(self, segments: set[Segment], moves: Moves) -> None:
        reader = SegmentReader(self._layout, self._ctx)
        try:
            for segment in sorted(segments, key=lambda segment: segment.id):
                inspected = inspect_segment(reader, segment, digests=not moves.is_gone(segment.id))
                self._segments[segment] = inspected
                self._damages += inspected.damages
        finally:
            reader.close()

    def _models(self, catalog: Catalog) -> tuple[frozenset[str], list[str], int]:
        artifacts = Artifacts(self._layout, self._ctx)
        versions: dict[str, list[str]] = {}
        for capture in catalog.captures():
            if capture.version.artifact:
                named = f"{capture.version.model}@{capture.number}"
                versions.setdefault(capture.version.artifact, []).append(named)
        bad: set[str] = set()
        for digest in sorted(versions.keys() - catalog.moves.removed):
            try:
                artifacts.get(digest)
            except MistiqueError as error:
                self._say("model", f"artifact {digest}", str(error))
                bad.add(digest)
        lost = sorted({name for digest in bad for name in versions[digest]})
        return frozenset(bad), lost, len(versions.keys() - catalog.moves.removed - bad)

    def _index(self) -> tuple[tuple[str, ...], bytes | None]:
        uri = self._layout.digests
        if tiledb.object_type(uri, ctx=self._ctx) != "array":
            self._say("digests", uri, "there is no such array")
            return (), None
        schema = None
        if not has_schema(uri, self._ctx):
            schema = fresh_schema(create_digests, self._ctx)
            self._say("digests", "schema", "it cannot be read")
        try:
            if schema is not None:
                raise ChunkCorruptError(where=uri, expected="a schema", got="none that can be read")
            DigestIndex(uri, self._ctx).entries()
        except MistiqueError:
            bad = [commit for commit in sorted(list_commits(uri, self._ctx)) if self._is_bad(uri, commit, schema)]
            return tuple(bad), schema
        return (), schema

    def _is_bad(self, uri: str, commit: str, schema: bytes | None) -> bool:
        try:
            with alone(uri, commit, self._ctx, schema=schema) as copy:
                DigestIndex(copy, self._ctx).entries()
        except MistiqueError as error:
            self._say("digests", f"fragment {commit}", str(error))
            return True
        return False

    def _say(self, kind: str, where: str, what: str) -> None:
        self._damages.append(Damage(kind, where, what))


def _why_no_fact(order: Order, record: Record) -> str:
    """What is wrong with a record of the catalog that can be read."""
    try:
        fact = fact_of(record)
        if record.kind == MOVED:
            MovedParts(record.attachment, move_from(order, record)).check()
        elif fact.tally is not None:
            figures_of(fact.tally, record.attachment)
        elif record.kind in (REMOVING, REMOVED):
            Moves(lambda _: b"").add(order, record)
    except BODY_ERRORS as error:
        return f"expected a {record.kind}, got {error}"
    return ""


def mended_capture(record: Record, behind: Sequence[Record]) -> Record:
    """A capture whose outline is of the intermediates that are left of it."""
    if record.kind != CAPTURE:
        return record
    facts = [fact_of(one) for one in behind]
    nodes = {fact.intermediate.name: fact.intermediate for fact in facts if fact.intermediate is not None}
    stored = [fact.intermediate.name for fact in facts if fact.intermediate is not None and fact.is_stored]
    body = {**json.loads(record.body), "outline": outline_body(outline(nodes, stored))}
    return Record(record.kind, to_json(body), record.attachment)


def _why_no_usage(order: Order, record: Record) -> str:
    try:
        observations_of(json.loads(record.body))
    except BODY_ERRORS as error:
        return f"expected observations, got {error} in record {order.counter}"
    return ""
