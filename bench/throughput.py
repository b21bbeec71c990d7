"""Write and read speed of the same arrays, against numpy.save / numpy.load and Parquet with zstd."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mistique
from bench.harness import Report, Road, Scratch, interleaved, nbytes_of, run
from bench.models import BATCH_ROWS, batches, fashion, fresh_store, homes, layer_outputs
from bench.storage import as_table


@dataclass(frozen=True)
class Format:
    """A way to keep an array: `write` makes what is at the path, `read` gives the array back."""

    write: Callable[[Path, Any], None]
    read: Callable[[Path], Any]


def measure(report: Report, scratch: Scratch) -> None:
    report.notes += [
        "fsync is forced nowhere; the page cache is warm for all: reads come from memory, writes end in it.",
        "mistique: a capture of this one array, in batches of a network's pass where it is a layer, committed; the"
        " store is made before. A read opens the store, finds the array by key and verifies every chunk.",
        "numpy: numpy.save of the whole array, numpy.load into memory; a frame as its matrix of float64.",
        "parquet: pyarrow with zstd; a frame has a column for each of its own, a layer is one column of lists.",
        "ratios are speed over the other's speed: 1 is as fast.",
    ]
    n_rounds = 1 if report.is_quick else 5
    _compare(report, scratch, "homes frame", _scaled_homes(report.is_quick), _frame_formats(), n_rounds=n_rounds)
    network = fashion(512 if report.is_quick else 5_000)
    layer = layer_outputs(network.net, network.x, layers=["conv2"])["conv2"]
    _compare(report, scratch, "CNN layer", layer, _layer_formats(), n_rounds=n_rounds)


def _scaled_homes(is_quick: bool) -> Any:
    """What the scaler makes of all homes: a frame of float64."""
    given = homes(4_000) if is_quick else homes()
    pipe = given.pipelines["ridge"]
    return pipe.fit(given.X, given.y)[:-1].transform(given.X)


def _compare(
    report: Report, scratch: Scratch, what: str, array: Any, formats: dict[str, Format], *, n_rounds: int
) -> None:
    nbytes = array.to_numpy().nbytes if hasattr(array, "to_numpy") else array.nbytes
    paths: dict[str, Path] = {}

    def start(name: str) -> Path:
        if name in paths:
            Scratch.remove(paths[name])
        if name.startswith("mistique"):
            paths[name], store = fresh_store(scratch)
            store.close()
        else:
            paths[name] = scratch.path("array")
        return paths[name]

    writes = {
        name: Road(lambda path, f=form: f.write(path, array), before=lambda n=name: start(n))
        for name, form in formats.items()
    }
    write_timings = interleaved(writes, n_rounds=n_rounds)
    reads = {name: Road(lambda _, n=name, f=form: f.read(paths[n])) for name, form in formats.items()}
    _check(what, array, {name: form.read(paths[name]) for name, form in formats.items()})
    read_timings = interleaved(reads, n_rounds=n_rounds)
    for verb, timings in (("write", write_timings), ("read", read_timings)):
        for name in (n for n in formats if n.startswith("mistique")):
            for other in ("numpy", "parquet"):
                title = f"{what}, {nbytes / 1e6:.0f} MB, {verb}: {name} / {other}"
                report.add(title, timings.ratios(other, name), is_high_better=True)
        report.facts[f"{what}: {verb}, MB/s"] = {
            name: round(nbytes / 1e6 / seconds, 1) for name, seconds in timings.medians().items()
        }
    report.facts[f"{what}: bytes"] = {"raw": nbytes, **{name: nbytes_of(path.parent) for name, path in paths.items()}}
    opening = Road(lambda _: mistique.open(paths["mistique raw"], mode="r").close())
    opened = interleaved({"open": opening}, n_rounds=n_rounds)
    report.facts[f"{what}: seconds to open the store"] = opened.median("open")
    for path in paths.values():
        Scratch.remove(path)


def _check(what: str, array: Any, found: dict[str, Any]) -> None:
    """Every format gives back what it was given; the power codec within its bound, a share of the largest value."""
    expected = np.asarray(array)
    for name, again in found.items():
        difference = float(np.abs(np.asarray(again) - expected).max())
        allowed = float(np.abs(expected).max()) / 31 * 1.001 if name.endswith("power") else 0.0
        if np.asarray(again).shape != expected.shape or difference > allowed:
            raise AssertionError(f"{what} by {name}: read back differs by {difference}, allowed {allowed}")


def _mistique(codec: str, *, is_frame: bool = False) -> Format:
    def write(path: Path, array: Any) -> None:
        with mistique.open(path) as store:
            taking = store.capture(model="m", dataset="d", framework="keras", codec=codec, batch_rows=BATCH_ROWS)
            with taking as capture:
                if is_frame:
                    capture.add("array", array)
                else:
                    for batch in batches(array):
                        capture.append("array", batch)

    def read(path: Path) -> Any:
        with mistique.open(path, mode="r") as store:
            found = mistique.get(store, "m@1/d/array")
            return found.to_frame() if is_frame else found.values

    return Format(write, read)


def _frame_formats() -> dict[str, Format]:
    import pandas as pd

    def load(path: Path) -> Any:
        return np.load(path.with_suffix(".npy"))

    return {
        "mistique raw": _mistique("raw", is_frame=True),
        "numpy": Format(lambda path, frame: np.save(path, frame.to_numpy()), load),
        "parquet": Format(lambda path, frame: frame.to_parquet(path, compression="zstd"), pd.read_parquet),
    }


def _layer_formats() -> dict[str, Format]:
    import pyarrow.parquet as pq

    def read_parquet(path: Path) -> np.ndarray:
        cells = pq.read_table(path).column("cells").combine_chunks()
        return cells.flatten().to_numpy(zero_copy_only=False).reshape(-1, 14, 14, 32)

    return {
        "mistique raw": _mistique("raw"),
        "mistique power": _mistique("power"),
        "numpy": Format(np.save, lambda path: np.load(path.with_suffix(".npy"))),
        "parquet": Format(lambda path, array: pq.write_table(as_table(array), path, compression="zstd"), read_parquet),
    }


if __name__ == "__main__":
    sys.exit(run("throughput", __doc__, measure))
