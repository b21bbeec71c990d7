"""What is kept of questions that go through all rows: what it saves and takes; and what extremes of chunks would do."""

from __future__ import annotations

import shutil
from statistics import median
from typing import Any

import numpy as np

import mistique
from bench.harness import Report, Road, Scratch, interleaved
from bench.models import cifar
from mistique.planner.plan import SUMMARY
from mistique.planner.tallies import MAX_TALLY_SHARE
from mistique.queries.disk_usage import disk_usage
from mistique.storage.record_bodies import packed_figures
from mistique.store import Store

K = 10


def measure_summaries(report: Report, scratch: Scratch) -> None:
    from mistique.keras import capture

    given = cifar(500 if report.is_quick else 2_000)
    path = scratch.path("cnn.mistique")
    with mistique.open(path) as store:
        capture(given.net, given.x, given.y, store=store, model="cnn", dataset="test")
    apart = scratch.path("cnn.mistique")
    shutil.copytree(path, apart)  # what is kept in one answers in it
    scanning = mistique.open(apart, gamma_min=float("inf"), memory_nbytes=0)
    keeping = mistique.open(path, memory_nbytes=0)
    asks = {"dead_units": mistique.dead_units, "class_means": mistique.class_means}
    nodes = scanning.catalog.captures()[0].intermediates.values()
    keys = [f"cnn@1/test/{node.name}" for node in nodes if node.role == "stage" and node.n_rows * node.n_columns > 1e6]
    facts = {}
    for name, ask in asks.items():
        ratios = []
        for key in keys:
            kept = [ask(keeping, key) for _ in range(3)][-1].plan.chosen.road == SUMMARY
            if not kept:  # its bytes, or its seconds, are too few
                facts[f"{name} {key}"] = "not kept"
                continue
            stores = {"scan": scanning, "kept": keeping}
            roads = {road: Road(lambda _, a=ask, s=store, k=key: a(s, k)) for road, store in stores.items()}
            found = interleaved(roads, n_rounds=1 if report.is_quick else 3)
            ratios.append(found.median("scan") / found.median("kept"))
            facts[f"{name} {key}"] = {"x": round(ratios[-1], 1), **found.medians()}
        if ratios:
            report.add(f"{name}, going through all rows over what was kept: median layer", ratios, is_high_better=True)
    used = disk_usage(keeping)
    share = max(one.tally_nbytes / one.stored_nbytes for one in used.used if one.stored_nbytes)
    report.add("bytes of what was kept over those of its layer, most", share, bar=MAX_TALLY_SHARE)
    report.facts["by question and layer"] = facts
    report.facts["extremes of chunks"] = {key: _extremes(scanning, key) for key in keys}
    report.notes.append(
        f"extremes of chunks: of the row blocks of each unit, the share whose maximum is below the {K}th of all rows,"
        f" so that topk(k={K}) need not read them; and what the least and the largest of each would take of the layer."
    )


def _extremes(store: Store, key: str) -> dict[str, Any]:
    _, node = store.catalog.find(key)
    values = np.asarray(mistique.get(store, key).values, np.float32).reshape(node.n_rows, -1, node.n_units)
    highest, lowest = values.max(axis=1), values.min(axis=1)
    starts = np.arange(0, node.n_rows, node.block_rows)
    ends = np.stack([np.maximum.reduceat(highest, starts), np.minimum.reduceat(lowest, starts)])
    limit = np.partition(highest, -K, axis=0)[-K]
    nbytes = len(packed_figures(ends.reshape(2, -1).astype(np.float32).view(np.float64)))
    return {
        "row blocks": len(starts),
        "ruled out, share": round(float(median((ends[0] < limit).mean(axis=0).tolist())), 3),
        # What follows from another layer is not stored.
        "bytes over those of the layer": round(nbytes / node.stored_nbytes, 5) if node.stored_nbytes else None,
    }
