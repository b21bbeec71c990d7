"""How many requests each kind of question makes to an object store, and how long it takes where each takes 30 ms more.

An S3 server on loopback (moto) stands in for the object store, a proxy before it counts the requests and delays them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import mistique
from bench import harness
from mistique.data import load_homes
from mistique.queries.listing import listing
from mistique.schema import ROW_BLOCK_ROWS
from tests.capturing import put, put_layer
from tests.integration.loopback import BUCKET, Proxy, config_for, s3_server

_DELAY_SECONDS = 0.03
# Requests, at most; a fresh store holds three captures, each a few fragments of TileDB.
_BARS = {
    "open": 12,
    "open and ls": 80,
    "open and a first point read": 120,
    "a point read of an open store": 40,
    "a second one of the same layer": 4,
    "a whole layer": 16,
    "topk of a unit": 6,  # and one for each row block: what lies between is three times as much
    "capture of a table": 240,
    "capture of a layer": 200,
    "compact": 1_300,
    "gc": 120,
    "check": 100,
}


def measure(report: harness.Report, scratch: harness.Scratch) -> None:
    """Fill a store, then ask."""
    n_rows = 1500 if report.is_quick else 20_000
    homes = load_homes().iloc[:n_rows]
    layer = np.random.default_rng(0).normal(size=(len(homes), 256)).astype(np.float32)
    table = homes[["sqft_living", "grade", "lat", "price"]]
    uri = f"s3://{BUCKET}/bench.mistique"
    with s3_server() as server, Proxy(server, delay_seconds=_DELAY_SECONDS) as proxy:
        config = {**config_for(proxy.address), "vfs.s3.request_timeout_ms": "30000"}
        with mistique.open(uri, config=config_for(server)) as store:
            table_key, layer_key = put(store, table, model="homes/a"), put_layer(store, layer, model="homes/net")
            put(store, table * 2, model="homes/b")

        def ask(what: str, work: Callable[[], Any]) -> Any:
            proxy.requests()
            started = time.perf_counter()
            result = work()
            seconds, requests = time.perf_counter() - started, proxy.requests()
            n_requests = sum(requests.values())
            n_blocks = -(-len(homes) // ROW_BLOCK_ROWS) if what == "topk of a unit" else 0
            report.add(f"requests: {what}", n_requests, unit="", bar=_BARS[what] + n_blocks)
            report.facts[what] = {"requests": requests, "seconds": round(seconds, 3)}
            if n_requests:
                report.add(f"seconds for each request in turn: {what}", seconds / n_requests / _DELAY_SECONDS)
            return result

        def open_store(mode: str = "r") -> mistique.Store:
            return mistique.open(uri, mode=mode, config=config)

        ask("open", lambda: open_store().close())
        ask("open and ls", lambda: repr(listing(open_store())))
        store = ask("open and a first point read", lambda: _first(open_store("a"), table_key))
        ask("a point read of an open store", lambda: mistique.get(store, layer_key, rows=[7], columns=[9]))
        ask("a second one of the same layer", lambda: mistique.get(store, layer_key, rows=[99], columns=[200]))
        ask("a whole layer", lambda: mistique.get(store, layer_key))
        ask("topk of a unit", lambda: mistique.topk(store, layer_key, unit=12, k=10))
        ask("capture of a table", lambda: put(store, table * 3, model="homes/c"))
        ask("capture of a layer", lambda: put_layer(store, layer * 2, model="homes/net"))
        ask("compact", lambda: store.compact(grace_seconds=0))
        ask("gc", lambda: store.gc(grace_seconds=0))
        assert ask("check", store.check).is_whole
    report.notes.append("Seconds are over the number of requests and 30 ms: below 1 where requests go side by side.")


def _first(store: mistique.Store, key: str) -> mistique.Store:
    mistique.get(store, key, rows=[3])
    return store


if __name__ == "__main__":
    sys.exit(harness.run("object_store", __doc__, measure))
