"""Dropping what a check found damaged, and nothing else: the rest then opens and reads."""

from __future__ import annotations

import time
from collections import defaultdict

import tiledb

from mistique.storage.captures import Capture
from mistique.storage.catalog import Catalog
from mistique.storage.checking import Findings
from mistique.storage.digest_index import create_digests
from mistique.storage.fragments import remove_fragments, replace_schema
from mistique.storage.layout import Layout
from mistique.storage.move_records import move_record
from mistique.storage.options import StorageOptions, translated
from mistique.storage.records import RecordLog
from mistique.storage.remains import Remains


def repair(found: Findings, layout: Layout, ctx: tiledb.Ctx, options: StorageOptions) -> None:
    """Drop what is damaged.

    Records that can be read are written again before the fragment that holds them goes. An intermediate that cannot be
    read is dropped, as by `Store.drop`, and so is an index. A segment of which some unit is damaged is taken out of
    use: what is whole in it is read as before, and no later capture refers to it, so that what is captured again is
    stored again. A model that cannot be read is removed, as by a compaction.

    Notes
    -----
    Killed at any moment it leaves a store that a check finds damaged in no more places than before.
    """
    with translated(layout.uri, "repair"):
        found.catalog.repair()
        found.usage.repair()
        _mend_index(found, layout, ctx)
    catalog = Catalog(RecordLog(layout.catalog, ctx, options))
    lost: dict[int, tuple[Capture, list[str]]] = {}
    by_capture: dict[int, list[str]] = defaultdict(list)
    for capture, name in found.lost:
        by_capture[id(capture)].append(name)
        lost[id(capture)] = capture, by_capture[id(capture)]
    for capture, names in lost.values():
        catalog.drop(capture, *names)
    for capture, name in found.bad_indexes:
        catalog.drop_index(capture, name)
    if found.bad_segments:
        facts = {"made": (), "generation": 1, "forgotten": found.bad_segments, "unix_seconds": time.time()}
        catalog.say(move_record([], [], **facts))  # type: ignore[arg-type]
    if found.bad_models:
        order = catalog.announce(found.bad_models)
        catalog.remove(order, found.bad_models)
        remains = Remains(layout, ctx)
        for digest in found.bad_models:
            remains.remove(digest)


def _mend_index(found: Findings, layout: Layout, ctx: tiledb.Ctx) -> None:
    if tiledb.object_type(layout.digests, ctx=ctx) != "array":
        create_digests(layout.digests, ctx)
        return
    if found.index_schema is not None:
        replace_schema(layout.digests, found.index_schema, ctx)
    remove_fragments(layout.digests, found.bad_index, ctx)
