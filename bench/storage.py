"""How many bytes a store takes for what it captured, beside the files that people make by hand.

Parts: homes and flights (pipelines), placement (what each step saves of them, see bench/placement.py), vgg, lossless
and finetune (a network, see bench/network_storage.py).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import mistique
from bench import data
from bench.flights import flights_pipelines
from bench.harness import Report, Scratch, nbytes_of, run
from bench.network_storage import measure_finetuning, measure_lossless, measure_vgg
from bench.peers import HOW, columns_of, peers
from bench.pipelines import homes_pipelines
from bench.placement import measure_placement
from bench.template import stage_tables

_CHUNK_ROWS = 1024
_COUNTED = (1, 10, 25, 50)


def measure_homes(report: Report, scratch: Scratch) -> None:
    """Fifty pipelines, every intermediate kept exactly."""
    report.notes += [
        "raw: bytes of the values of every stage as captured, input, target and prediction included. What lies inside a"
        " stage (the branches of a ColumnTransformer) is stored too, but does not count.",
        "stored: every file of the store, models, catalog and indices included.",
        "files by hand: one for each intermediate; measured over the first setting of each pipeline, brought to all by"
        " their share of the raw bytes: " + "; ".join(f"{name}: {how}" for name, how in HOW.items()) + ".",
        f"distinct: raw bytes of the chunks of {_CHUNK_ROWS:,} rows of one column that differ from all others, counted"
        " here, not by the store. dedup = raw / distinct, compression = distinct / stored.",
        "the order of the curve: pipeline by pipeline, all settings of one before the next.",
    ]
    templates = homes_pipelines()[::4] if report.is_quick else homes_pipelines()
    X, y = data.homes(3_000 if report.is_quick else None)
    path = scratch.path("homes.mistique")
    chunks, curve, fitted = _Chunks(), [], []
    files, sampled = dict.fromkeys(peers(), 0), []
    with mistique.open(path) as store:
        for template in templates:
            for number, pipe in enumerate(list(template.pipelines())[: 2 if report.is_quick else None], start=1):
                _fit(store, f"homes/{template.name}", pipe, X, y)
                fitted.append(f"{template.name} {number}")
                if len(fitted) in _COUNTED:
                    curve.append({"pipelines": len(fitted), "raw": _raw(store), "stored": nbytes_of(path)})
                for name, table in stage_tables(pipe, X, y):
                    chunks.add(table)
                    if number == 1:
                        _check(store, f"homes/{template.name}@1/train/{name}", table)
                        for kind, nbytes in _file_nbytes(scratch, table).items():
                            files[kind] += nbytes
                if number == 1:
                    sampled.append(f"homes/{template.name}@1/train")
        raw_nbytes, sampled_nbytes = _raw(store), _raw(store, sampled)
    stored_nbytes = nbytes_of(path)
    what = f"{len(fitted)} pipelines, {len(X):,} homes"
    _shares(report, what, chunks, raw_nbytes, stored_nbytes, bar=110)
    scaled = {kind: nbytes * raw_nbytes / sampled_nbytes for kind, nbytes in files.items()}
    best = min(scaled, key=scaled.__getitem__)
    report.add(f"{what}: stored / {best}, the smallest file", stored_nbytes / scaled[best], bar=0.5)
    for kind, nbytes in scaled.items():
        report.add(f"{what}: raw / {kind} (over {len(sampled)} pipelines)", raw_nbytes / nbytes, is_high_better=True)
    report.facts |= {
        "pipelines": fitted,
        "curve": curve,
        "store": parts_of(path),
        "files": {"pipelines": sampled, "raw_nbytes": sampled_nbytes, "nbytes": files},
    }


def measure_flights(report: Report, scratch: Scratch) -> None:
    """Ten pipelines at scale, and what each way of saving saves."""
    report.notes += ["as in part homes; no files by hand. What each way of saving saves: part placement."]
    X, y = data.flights(5_000 if report.is_quick else None)
    templates = flights_pipelines()[::4] if report.is_quick else flights_pipelines()
    what = f"{len(templates)} pipelines, {len(X):,} flights"
    chunks = _Chunks()
    path = scratch.path("flights.mistique")
    with mistique.open(path) as store:
        for template in templates:
            (pipe,) = template.pipelines()
            _fit(store, f"flights/{template.name}", pipe, X, y)
            for name, table in stage_tables(pipe, X, y):
                chunks.add(table)
                _check(store, f"flights/{template.name}@1/train/{name}", table)
        raw_nbytes = _raw(store)
    report.facts["store"] = parts_of(path)
    _shares(report, what, chunks, raw_nbytes, nbytes_of(path), bar=None)


def parts_of(path: Path) -> dict[str, int]:
    """Bytes of each part of a store."""
    return {part.name: nbytes_of(part) for part in sorted(path.iterdir())}


class _Chunks:
    """Counts the raw bytes of tables and of the chunks that differ."""

    def __init__(self) -> None:
        self.raw_nbytes = 0
        self.distinct_nbytes = 0
        self._seen: set[bytes] = set()

    def add(self, table: Any) -> None:
        for column, series in zip(columns_of(table).values(), (table[c] for c in table), strict=True):
            for start in range(0, len(column), _CHUNK_ROWS):
                chunk = column[start : start + _CHUNK_ROWS]
                content = chunk.tobytes()
                # Text counts by its length, and a null is not an empty text.
                is_text = chunk.dtype.kind == "S"
                nbytes = int(np.char.str_len(chunk).sum()) if is_text else len(content)
                if is_text and (is_null := series.iloc[start : start + _CHUNK_ROWS].isna().to_numpy()).any():
                    content, nbytes = content + is_null.tobytes(), nbytes + len(chunk)
                self.raw_nbytes += nbytes
                digest = hashlib.blake2b(content, digest_size=16, key=chunk.dtype.str.encode()).digest()
                if digest not in self._seen:
                    self._seen.add(digest)
                    self.distinct_nbytes += nbytes


def _fit(store: mistique.store.Store, model: str, pipe: Any, X: Any, y: Any) -> None:
    # With more OpenMP threads than free cores, boosting waits for itself (22 s for 7 s).
    with threadpool_limits(1, user_api="openmp"):
        pipe.set_capture(store, model=model, codec="raw", on_error="raise").fit(X, y)


def _raw(store: mistique.store.Store, prefixes: list[str] | None = None) -> int:
    """Bytes of the values of all stages that were captured, or of some captures; insides of a stage do not count."""
    return sum(
        node.raw_nbytes
        for capture in store.catalog.captures()
        if prefixes is None or capture.prefix in prefixes
        for node in capture.intermediates.values()
        if "/" not in node.name
    )


def _check(store: mistique.store.Store, key: str, table: Any) -> None:
    """An intermediate is stored, and is bit for bit what the pipeline makes."""
    capture, node = store.catalog.find(key)
    if node.name not in capture.stored:
        raise AssertionError(f"{key}: expected it to be stored")
    answer = mistique.get(store, key, exact=True)
    if not key.endswith(("/prediction", "/target")):
        table.columns = table.columns.astype(str)
        if not answer.to_frame().equals(table):
            raise AssertionError(f"{key}: not what the pipeline makes")
    elif not np.array_equal(answer.values.reshape(-1), table.to_numpy().reshape(-1)):
        raise AssertionError(f"{key}: not what the pipeline makes")


def _file_nbytes(scratch: Scratch, table: Any) -> dict[str, int]:
    found = {}
    for kind, peer in peers().items():
        path = scratch.path(f"table.{kind}")
        peer.write_table(path, table)
        found[kind] = nbytes_of(path)
        Scratch.remove(path)
    return found


def _shares(
    report: Report, what: str, chunks: _Chunks, raw_nbytes: int, stored_nbytes: int, *, bar: float | None
) -> None:
    if abs(chunks.raw_nbytes / raw_nbytes - 1) > 0.02:
        found = f"the store counts {raw_nbytes:,} raw bytes, the tables have {chunks.raw_nbytes:,}"
        raise AssertionError(f"{what}: {found}")
    report.add(f"{what}: raw / stored", raw_nbytes / stored_nbytes, bar=bar, is_high_better=True)
    report.add(f"{what}: dedup", raw_nbytes / chunks.distinct_nbytes, is_high_better=True)
    report.add(f"{what}: compression", chunks.distinct_nbytes / stored_nbytes, is_high_better=True)
    report.facts["nbytes"] = {"raw": raw_nbytes, "distinct": chunks.distinct_nbytes, "stored": stored_nbytes}


PARTS = {
    "homes": measure_homes,
    "flights": measure_flights,
    "placement": measure_placement,
    "vgg": measure_vgg,
    "lossless": measure_lossless,
    "finetune": measure_finetuning,
}

if __name__ == "__main__":
    sys.exit(run("storage", __doc__, PARTS))
