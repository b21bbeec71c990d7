"""A store of 10,000 intermediates and 100,000 column chunks beside one of a hundredth of that; and a soak.

``--minutes 30`` runs the part ``soak`` for so long: captures, questions, drops and compactions in turn, all answers
held against what was sent, memory and open files watched.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import mistique
from bench import harness
from mistique.data import load_homes
from mistique.queries.listing import listing
from tests.capturing import capturing, put

_N_INTERMEDIATES, _N_STAGES, _N_COLUMNS = 10_000, 50, 10
_MAX_RATIO, _MAX_NBYTES = 1.5, 200 * 2**20


def _fill(path: Path, n_intermediates: int, homes: pd.DataFrame) -> None:
    """Versions of a pipeline of 50 stages over the homes, each with values of its own."""
    cells = homes.select_dtypes("number").iloc[:, :_N_COLUMNS].to_numpy(np.float64)
    n_stages = min(_N_STAGES, n_intermediates)
    with mistique.open(path) as store:
        for version in range(n_intermediates // n_stages):
            with capturing(store, model="homes/pipeline") as capture:
                for stage in range(n_stages):
                    capture.add(f"stage-{stage}", cells * (1 + stage / 8) + version)
        store.compact(grace_seconds=0)


def scale(report: harness.Report, scratch: harness.Scratch) -> None:
    """Times of the large store over those of the small."""
    n_large = _N_INTERMEDIATES // (20 if report.is_quick else 1)
    homes = load_homes().iloc[:200]
    paths = {"large": scratch.path("large"), "small": scratch.path("small")}
    for name, path in paths.items():
        _fill(path, n_large if name == "large" else n_large // 100, homes)
        report.facts[f"{name} bytes"] = harness.nbytes_of(path)
    stores = {name: mistique.open(path) for name, path in paths.items()}
    key = "homes/pipeline@1/train/stage-3"
    work = {
        "open": lambda name: mistique.open(paths[name], mode="r").close(),
        "ls": lambda name: repr(listing(stores[name])),
        "point read": lambda name: mistique.get(stores[name], key, rows=[7], columns=[2]),
        "plan": lambda name: mistique.explain(stores[name], key),
        "capture of one more": lambda name: put(stores[name], homes[["price"]] + random.random(), model="homes/more"),
        "open and a first point read": lambda name: mistique.get(
            mistique.open(paths[name], mode="r"), key, rows=[7], columns=[2]
        ),
    }
    for what, run in work.items():
        roads = {name: harness.Road(lambda _, name=name, run=run: run(name)) for name in paths}  # type: ignore[misc]
        timings = harness.interleaved(roads, n_rounds=5 if report.is_quick else 15)
        report.add(
            f"{what}, {n_large:,} intermediates over a hundredth", timings.ratios("large", "small"), bar=_MAX_RATIO
        )
        report.facts[what] = timings.medians()
    found = harness.in_subprocess("bench.scale", "memory", str(paths["large"]))
    report.add("memory of the open store", found["nbytes"] / 2**20, unit="MiB", bar=_MAX_NBYTES / 2**20)
    report.facts["memory"] = found


def _memory(path: str) -> None:
    """Print what opening, listing and reading a store adds to a process."""
    import json

    before = harness.peak_nbytes()
    with mistique.open(path, mode="r") as store:
        repr(listing(store))
        mistique.get(store, "homes/pipeline@1/train/stage-3", rows=[7])
        sys.stdout.write(json.dumps({"nbytes": harness.peak_nbytes() - before, "before": before}) + "\n")


def soak(report: harness.Report, scratch: harness.Scratch) -> None:
    """Everything in turn for a while; the last third over the first."""
    seconds = _MINUTES * 60 if _MINUTES else 20 if report.is_quick else 1800
    path, rng, sent = scratch.path("soak"), np.random.default_rng(0), {}
    samples: list[tuple[float, int]] = []
    n_wrong, n_rounds, ends = 0, 0, time.monotonic() + seconds
    with mistique.open(path) as store:
        while time.monotonic() < ends:
            values = rng.normal(size=(int(rng.integers(50, 3000)), int(rng.integers(1, 8))))
            sent[put(store, values, model=f"soak/{n_rounds % 7}")] = values
            for key in rng.choice(list(sent), 3):
                n_wrong += mistique.get(store, str(key)).values.tobytes() != sent[str(key)].tobytes()
            if len(sent) > 30:
                key = str(rng.choice(list(sent)))
                store.drop(key)
                del sent[key]
            if n_rounds % 25 == 24:
                store.compact(grace_seconds=0)
            n_rounds += 1
            samples.append((_resident_nbytes() / 2**20, len(os.listdir("/proc/self/fd"))))
        assert store.check().is_whole
    third = max(len(samples) // 3, 1)
    first, last = samples[third : 2 * third] or samples, samples[-third:]
    report.add("wrong answers", n_wrong, unit="", bar=0)
    for i, what in enumerate(("resident memory", "open files")):
        ratio = float(np.median([s[i] for s in last]) / np.median([s[i] for s in first]))
        report.add(f"{what}, the last third over the second", ratio, bar=1.15)
    report.facts |= {"rounds": n_rounds, "seconds": seconds, "first": samples[0], "last": samples[-1]}


def _resident_nbytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


_MINUTES = 0.0
if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        _memory(sys.argv[2])
        sys.exit()
    if "--minutes" in sys.argv:
        at = sys.argv.index("--minutes")
        _MINUTES = float(sys.argv[at + 1])
        sys.argv[at : at + 2] = ["soak"]
    sys.exit(harness.run("scale", __doc__, {"scale": scale, "soak": soak}))
