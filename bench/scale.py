"""A store of 10,000 intermediates and 100,000 column chunks beside one of a hundredth of that; and a soak.

The stores are made once, in the folder of the data, and gone on with where that was interrupted; a run asks copies of
them. ``soak --minutes 30`` captures, asks, drops and compacts in turn for so long, all answers held against what was
sent, memory and open files watched.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import mistique
from bench import harness
from bench.data import data_folder
from mistique.data import load_homes
from mistique.errors import BudgetError, MistiqueError
from mistique.queries.disk_usage import disk_usage
from mistique.queries.listing import listing
from mistique.sklearn import Pipeline
from tests.capturing import capturing, put

_N_INTERMEDIATES, _N_STAGES, _N_COLUMNS, _N_ROWS, _N_KEPT = 10_000, 50, 10, 200, 30
_MAX_RATIO, _MAX_NBYTES = 1.5, 200 * 2**20
_KEY = "homes/pipeline@1/train/stage-3"


def _made(n_intermediates: int) -> Path:
    """The store of so many intermediates, merged as a compaction leaves it; made, or gone on with, if need be."""
    path = data_folder() / f"scale-{n_intermediates}.mistique"
    is_done = path.with_suffix(".done")
    try:
        if path.exists():
            with mistique.open(path) as store:
                if store.catalog.captures():
                    mistique.get(store, _KEY)
    except MistiqueError:  # it is of another format
        shutil.rmtree(path)
        is_done.unlink(missing_ok=True)
    if not is_done.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _fill(path, n_intermediates)
        is_done.touch()
    return path


def _fill(path: Path, n_intermediates: int) -> None:
    """Versions of a pipeline of 50 stages over the homes, each with values of its own."""
    homes = load_homes().iloc[:_N_ROWS].select_dtypes("number").iloc[:, :_N_COLUMNS].to_numpy(np.float64)
    with mistique.open(path) as store:
        for version in range(len(store.catalog.captures()), n_intermediates // _N_STAGES):
            with capturing(store, model="homes/pipeline") as capture:
                for stage in range(_N_STAGES):
                    capture.add(f"stage-{stage}", homes * (1 + stage / 8) + version)
        store.compact(grace_seconds=0)


def scale(report: harness.Report, scratch: harness.Scratch) -> None:
    """Times of the large store over those of the small."""
    n_large = _N_INTERMEDIATES // (10 if report.is_quick else 1)
    paths = {"large": scratch.path("large"), "small": scratch.path("small")}
    for name, path in paths.items():
        shutil.copytree(_made(n_large if name == "large" else n_large // 100 * (5 if report.is_quick else 1)), path)
        report.facts[f"{name} bytes"] = harness.nbytes_of(path)
    stores = {name: mistique.open(path) for name, path in paths.items()}
    prices = load_homes()[["price"]].iloc[:_N_ROWS]

    def opened(name: str, mode: str = "r") -> mistique.Store:
        return mistique.open(paths[name], mode=mode)

    def one_more(store: mistique.Store) -> str:
        return put(store, prices + random.random(), model="homes/more")

    work = {
        "open": lambda name: opened(name).close(),
        "open and a first point read": lambda name: mistique.get(opened(name), _KEY, rows=[7], columns=[2]),
        "point read": lambda name: mistique.get(stores[name], _KEY, rows=[7], columns=[2]),
        "plan": lambda name: mistique.explain(stores[name], _KEY),
        "capture of one more": lambda name: one_more(stores[name]),
        "open and capture one more": lambda name: one_more(opened(name, "a")),
        "ls, the command": lambda name: harness.in_subprocess("bench.scale", "ls", str(paths[name])),
        "ls, open and list": lambda name: repr(listing(opened(name))),
        "ls of an open store": lambda name: repr(listing(stores[name])),
    }
    # What is printed grows with the versions that there are; as a command, what counts is that a person does not wait.
    without_bar = ("ls, open and list", "ls of an open store")
    what_of = f"{n_large:,} intermediates over {'a twentieth' if report.is_quick else 'a hundredth'}"
    for what, run in work.items():
        roads = {name: harness.Road(lambda _, name=name, run=run: run(name)) for name in paths}  # type: ignore[misc]
        timings = harness.interleaved(roads, n_rounds=5 if report.is_quick else 15)
        bar = None if what in without_bar else _MAX_RATIO
        report.add(f"{what}, {what_of}", timings.ratios("large", "small"), bar=bar)
        report.facts[what] = timings.medians()
    found = harness.in_subprocess("bench.scale", "memory", str(paths["large"]))
    report.add("memory of the open store", found["nbytes"] / 2**20, unit="MiB", bar=_MAX_NBYTES / 2**20)
    report.facts["memory"] = found


def _memory(path: str) -> None:
    """Print what opening, listing and reading a store adds to a process, and what it adds to know all of it."""
    before = harness.peak_nbytes()
    with mistique.open(path, mode="r") as store:
        repr(listing(store))
        mistique.get(store, _KEY, rows=[7])
        found = {"nbytes": harness.peak_nbytes() - before, "before": before}
        store.catalog.read(store.catalog.captures())
        found["with all intermediates known"] = harness.peak_nbytes() - before
    sys.stdout.write(json.dumps(found) + "\n")


def _ls(path: str) -> None:
    """The command ``mistique ls``, and a line of JSON."""
    from mistique.cli import app

    app(["ls", path], standalone_mode=False)
    sys.stdout.write("true\n")


def soak(report: harness.Report, scratch: harness.Scratch) -> None:
    """Everything in turn for a while; the last third over the second."""
    seconds = _MINUTES * 60 if _MINUTES else 20 if report.is_quick else 1800
    path, rng, sent = scratch.path("soak"), np.random.default_rng(0), {}
    samples: list[tuple[float, int]] = []
    n_asked, n_wrong, n_evicted, n_rounds, ends = 0, 0, 0, 0, time.monotonic() + seconds
    with mistique.open(path) as store:
        while time.monotonic() < ends:
            values = rng.normal(size=(int(rng.integers(50, 3000)), int(rng.integers(1, 8))))
            sent |= _capture(store, values, number=n_rounds)
            for key in map(str, rng.choice(list(sent), 3)):
                n_wrong += mistique.get(store, key).values.tobytes() != sent[key].tobytes()
                highest = mistique.topk(store, key, unit=0, k=3).values
                n_wrong += np.sort(highest).tolist() != np.sort(sent[key][:, 0])[-3:].tolist()
                n_asked += 2
            while len(sent) > _N_KEPT:
                version = next(iter(sent)).partition("/train/")[0]
                store.delete(version)
                sent = {key: values for key, values in sent.items() if not key.startswith(f"{version}/")}
            if n_rounds % 10 == 9:
                n_evicted += _evict(store)
            if n_rounds % 25 == 24:
                store.compact(grace_seconds=0)
            n_rounds += 1
            samples.append((_resident_nbytes() / 2**20, len(os.listdir("/proc/self/fd"))))
        assert store.check().is_whole
    third = max(len(samples) // 3, 1)
    second, last = samples[third : 2 * third] or samples, samples[-third:]
    report.add(f"wrong of {n_asked:,} answers", n_wrong, unit="", bar=0)
    for i, what in enumerate(("resident memory", "open files")):
        ratio = float(np.median([s[i] for s in last]) / np.median([s[i] for s in second]))
        report.add(f"{what}, the last third over the second", ratio, bar=1.15)
    step = max(len(samples) // 20, 1)
    report.facts |= {
        "rounds": n_rounds,
        "evicted": n_evicted,
        "seconds": seconds,
        "resident MiB and open files": samples[::step],
    }


def _capture(store: mistique.Store, values: np.ndarray, *, number: int) -> dict[str, np.ndarray]:
    """A table, or every third time a pipeline with two stages that can be recomputed: what was sent, by key."""
    model = f"soak/{number % 7}"
    if number % 3:
        return {put(store, values, model=model): values}
    pipe = Pipeline([("scale", StandardScaler()), ("root", FunctionTransformer(np.cbrt)), ("ridge", Ridge())])
    pipe.set_capture(store, model=model).fit(values, values[:, 0])
    prefix = store.catalog.find(f"{model}@latest/train/scale")[0].prefix
    scaled = pipe[:1].transform(values)
    return {f"{prefix}/scale": scaled, f"{prefix}/root": np.cbrt(scaled)}


def _evict(store: mistique.Store) -> int:
    """Let go of a tenth of what is stored, of what can be recomputed; the number of intermediates."""
    try:
        return len(store.evict(max_nbytes=int(0.9 * disk_usage(store).stored_nbytes)))
    except BudgetError:  # what is left cannot be recomputed
        return 0


def _resident_nbytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


_MINUTES = 0.0
if __name__ == "__main__":
    for command, work in (("memory", _memory), ("ls", _ls)):
        if sys.argv[1:2] == [command]:
            work(sys.argv[2])
            sys.exit()
    if "--minutes" in sys.argv:
        at = sys.argv.index("--minutes")
        _MINUTES = float(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    sys.exit(harness.run("scale", __doc__, {"scale": scale, "soak": soak}))
