"""How many bytes a store takes for what it captured, beside .npy, compressed .npz and Parquet with zstd."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mistique
from bench.harness import Report, Scratch, nbytes_of, run
from bench.models import STAGES, captured_fashion, captured_homes, fashion, fresh_store, homes, layer_outputs
from mistique.queries.listing import listing


def measure(report: Report, scratch: Scratch) -> None:
    report.notes += [
        "raw: bytes of all values as they were captured, row labels included, once for each intermediate.",
        "segments: what the listing counts as stored, all values; directory: every file of the store, with models,"
        " catalog and indices.",
        "npy, npz, parquet: one file for each intermediate, nothing shared between them; tables column by column,"
        " row labels in a file of their own for each pipeline.",
        "parquet: pyarrow's defaults with zstd; 'split': byte-stream-split instead of dictionaries (layers only).",
        "ratios are raw bytes over stored bytes: higher is smaller.",
    ]
    _homes(report, scratch)
    _fashion(report, scratch)


def _homes(report: Report, scratch: Scratch) -> None:
    given = homes(4_000) if report.is_quick else homes()
    path, store = fresh_store(scratch)
    captured_homes(store, given)
    raw_nbytes = _store_figures(report, f"three pipelines, {len(given.X):,} homes", path, store)
    tables = {}
    for name in given.pipelines:
        tables[f"{name}-labels"] = given.X.index.to_frame(index=False)
        for stage in STAGES:
            frame = mistique.get(store, f"homes/{name}@1/train/{stage}").to_frame()
            tables[f"{name}-{stage}"] = frame.reset_index(drop=True)
    files: dict[str, int] = {"npy": 0, "npz": 0, "parquet": 0}
    for name, table in tables.items():
        columns = {f"{i}": _without_objects(table[column].to_numpy()) for i, column in enumerate(table)}
        paths = {kind: scratch.path(f"{name}.{kind}") for kind in files}
        with open(paths["npy"], "wb") as file:
            for column in columns.values():
                np.save(file, column)
        np.savez_compressed(paths["npz"], **columns)
        table.to_parquet(paths["parquet"], compression="zstd")
        _count(files, paths)
    _file_figures(report, "three pipelines", raw_nbytes, files)


def _fashion(report: Report, scratch: Scratch) -> None:
    import pyarrow.parquet as pq

    given = fashion(512 if report.is_quick else 5_000)
    raw_nbytes = 0
    for codec in ("raw", "power"):
        path, store = fresh_store(scratch)
        captured_fashion(store, given, codec=codec)
        raw_nbytes = _store_figures(report, f"CNN by {codec}, {len(given.x):,} images", path, store)
        store.close()
        Scratch.remove(path)
    files = {"npy": 0, "npz": 0, "parquet": 0, "parquet split": 0}
    arrays = {**layer_outputs(given.net, given.x), "input": given.x, "target": given.y[:, None]}
    for name, array in arrays.items():
        paths = {kind: scratch.path(f"{name}.{kind.replace(' ', '-')}") for kind in files}
        np.save(paths["npy"].with_suffix(".npy"), array)
        np.savez_compressed(paths["npz"], array)
        table = as_table(array)
        pq.write_table(table, paths["parquet"], compression="zstd")
        is_float = array.dtype.kind == "f"
        pq.write_table(
            table, paths["parquet split"], compression="zstd", use_dictionary=False, use_byte_stream_split=is_float
        )
        _count(files, paths)
    _file_figures(report, "CNN", raw_nbytes, files)


def _without_objects(column: np.ndarray) -> np.ndarray:
    """Text as NumPy's own, in bytes: nothing is pickled."""
    return np.char.encode(column.astype("U")) if column.dtype.kind == "O" else column


def as_table(array: np.ndarray) -> Any:
    """A layer's output as an Arrow table: one column, a list of fixed length for each row."""
    import pyarrow as pa

    width = int(np.prod(array.shape[1:]))
    return pa.table({"cells": pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), width)})


def _store_figures(report: Report, what: str, path: Path, store: mistique.store.Store) -> int:
    listed = listing(store)
    directory = {part.name: nbytes_of(part) for part in sorted(path.iterdir())}
    report.add(f"{what}: raw / segments", listed.raw_nbytes / listed.stored_nbytes, is_high_better=True)
    report.add(f"{what}: raw / directory", listed.raw_nbytes / sum(directory.values()), is_high_better=True)
    report.facts[what] = {
        "raw_nbytes": listed.raw_nbytes,
        "segments_nbytes": listed.stored_nbytes,
        "directory_nbytes": sum(directory.values()),
        "directory": directory,
        "captures": {
            f"{capture.version}/{capture.dataset}": {"raw": capture.raw_nbytes, "stored": capture.stored_nbytes}
            for capture in listed.captures
        },
        "intermediates": {
            f"{capture.prefix}/{node.name}": {"raw": node.raw_nbytes, "stored": node.stored_nbytes}
            for capture in store.catalog.captures()
            for node in capture.intermediates.values()
        },
    }
    return listed.raw_nbytes


def _count(files: dict[str, int], paths: Mapping[str, Path]) -> None:
    for kind, path in paths.items():
        files[kind] += nbytes_of(path)
        Scratch.remove(path)


def _file_figures(report: Report, what: str, raw_nbytes: int, files: Mapping[str, int]) -> None:
    for kind, nbytes in files.items():
        report.add(f"{what}: raw / {kind}", raw_nbytes / nbytes, is_high_better=True)
    report.facts[f"{what}: files"] = dict(files)


if __name__ == "__main__":
    sys.exit(run("storage", __doc__, measure))
