"""Whether the planner takes the fastest road, knows what it will take, and plans quickly; and what its choice saves.

Parts: homes, cnn, vgg (random questions, every road really run), catalog (the time of planning), paper (speed-ups by
query type, beside those of the paper), summaries (what is kept of questions that go through all rows).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import mistique
from bench.harness import Report, Scratch, run
from bench.models import cifar
from bench.resident import FreedMemory, held_files, hold_code
from bench.speedups import measure_paper
from bench.summaries import measure_summaries
from mistique.planner.calibration import Calibration
from mistique.planner.choose import choose
from mistique.planner.execute import follow, question_of
from mistique.planner.measured import Took
from mistique.store import Store

N_QUESTIONS, N_WARM_UP = 100, 20
# A part ends in some minutes whatever its questions take: of a large network each runs a few times for seconds.
LIMIT_SECONDS = 240.0
FEW, MANY = 10, 1000
# A first convolution of 1,000 images takes some copies of 131 MB; of VGG16's 128 images, of 34 MB a layer.
_FREED_NBYTES = 2 * 1024**3


@dataclass(frozen=True)
class Asked:
    """What came of one question."""

    key: str
    n_rows: int
    n_columns: int
    took: Mapping[str, float]
    chosen: str
    plan_seconds: float
    predicted_seconds: float
    seconds: float
    by_road: dict[str, float]

    @property
    def regret(self) -> float:
        """Time of the chosen road over the fastest one's."""
        return self.by_road[self.chosen] / min(self.by_road.values())

    @property
    def miss(self) -> float:
        """The factor by which the prediction was off."""
        return max(self.predicted_seconds / self.seconds, self.seconds / self.predicted_seconds)


def measure_homes(report: Report, scratch: Scratch) -> None:
    from bench.data import homes
    from bench.pipelines import homes_pipelines

    n_rows, n_templates = (4_000, 2) if report.is_quick else (None, 10)
    X, y = homes(n_rows)
    store = mistique.open(scratch.path("homes.mistique"), gamma_min=float("inf"), memory_nbytes=0)
    for template in homes_pipelines()[:n_templates]:
        pipe = next(template.pipelines())
        pipe.set_capture(store, model=f"homes/{template.name}", on_error="raise").fit(X, y)
    _random_questions(report, store)


def measure_cnn(report: Report, scratch: Scratch) -> None:
    from mistique.keras import capture

    given = cifar(500 if report.is_quick else 1_000)
    store = mistique.open(scratch.path("cnn.mistique"), gamma_min=float("inf"), memory_nbytes=0)
    for codec in ("raw", "auto"):
        capture(given.net, given.x, given.y, store=store, model=f"cnn/{codec}", dataset="test", codec=codec)
    _random_questions(report, store)


def measure_vgg(report: Report, scratch: Scratch) -> None:
    from bench import data
    from mistique.keras import capture

    images, classes = data.cifar("test", 32 if report.is_quick else 128)
    net, x = data.vgg16(), data.vgg16_input(images)
    store = mistique.open(scratch.path("vgg.mistique"), gamma_min=float("inf"), memory_nbytes=0)
    for codec in ("auto",) if report.is_quick else ("raw", "auto"):
        options = {"codec": codec, "batch_size": 16}
        capture(net, x, classes, store=store, model=f"vgg/{codec}", dataset="test", **options)
    _random_questions(report, store)


def _random_questions(report: Report, store: Store) -> None:
    """Questions of all shapes; half of the intermediates are dropped first, so that every road comes up."""
    rng = np.random.default_rng(0)
    _drop_half(store, rng)
    gc.collect()
    gc.freeze()  # what the frameworks hold is not looked through in the middle of a question of 3 ms
    n = 16 if report.is_quick else N_QUESTIONS + N_WARM_UP
    n_warm_up = 6 if report.is_quick else N_WARM_UP
    asked: list[Asked] = []
    freed = FreedMemory(_FREED_NBYTES)
    started = perf_counter()
    with held_files(Path(store.uri)) as stored_nbytes:
        while len(asked) < n and (len(asked) <= n_warm_up or perf_counter() - started < LIMIT_SECONDS):
            if len(asked) in (0, n_warm_up):  # what is only imported for some questions, too
                code_nbytes = hold_code()
            gc.collect()
            freed.hold()
            asked.append(_asked(store, rng))
    counted = asked[n_warm_up:]
    regrets, misses = [one.regret for one in counted], [one.miss for one in counted]
    report.add("chosen road over the fastest: median", float(np.median(regrets)), bar=1.02)
    report.add("chosen road over the fastest: 95th percentile", float(np.percentile(regrets, 95)), bar=1.3)
    report.add("chosen road over the fastest: worst", max(regrets), bar=3.0)
    share = float(np.mean(np.array(misses) <= 1.5))
    report.add("predictions within a factor of 1.5, share", share, unit="", bar=0.9, is_high_better=True)
    report.add("planning a question", [1e3 * one.plan_seconds for one in counted], unit="ms", bar=2.0)
    report.facts["questions"] = [
        {
            "key": one.key,
            "rows": one.n_rows,
            "columns": one.n_columns,
            "chosen": one.chosen,
            "predicted": one.predicted_seconds,
            "took": one.seconds,
            "parts": one.took,
            "roads": one.by_road,
        }
        for one in asked
    ]
    report.notes += [
        "every road is run twice, in turns, and its faster run counts; only the first of the chosen road is learned.",
        "half of the stages and layers are dropped before the first question.",
        f"{len(counted)} questions are counted, after {n_warm_up}: no more than fit {LIMIT_SECONDS:g} s.",
        "garbage is collected between questions.",
        f"held in memory: the {stored_nbytes / 1e6:.0f} MB of the store and {code_nbytes / 1e6:.0f} MB of code, which"
        " the kernel of a shared machine drops when nobody used them for a minute.",
        f"{freed.nbytes / 1e6:.0f} MB are allocated and freed before, and stay with the process, as a page that it"
        " grows by is waited for on a virtual machine.",
        "nothing is kept in memory by mistique, which would answer the second time that a road is run.",
    ]


def _drop_half(store: Store, rng: np.random.Generator) -> None:
    for capture in store.catalog.captures():
        nodes = capture.intermediates.values()
        stages = [node for node in nodes if node.role == "stage" and node.name in capture.stored]
        for node in rng.permutation(len(stages))[: len(stages) // 2]:
            store.drop(f"{capture.prefix}/{stages[node].name}")


def _asked(store: Store, rng: np.random.Generator) -> Asked:
    captures = store.catalog.captures()
    capture = captures[rng.integers(len(captures))]
    nodes = [node for node in capture.intermediates.values() if node.role in ("stage", "prediction")]
    node = nodes[rng.integers(len(nodes))]
    rows = [None, _some(rng, node.n_rows, FEW), np.arange(min(MANY, node.n_rows)), _some(rng, node.n_rows, 1)]
    columns = [None, _some(rng, node.n_columns, 1), _some(rng, node.n_columns, FEW)]
    asked = {"rows": rows[rng.integers(4)], "columns": columns[rng.integers(3)]}
    store.runnable.get(capture.version, took=Took(), calibration=store.calibration)  # loaded once, whatever is asked
    started = perf_counter()
    question = question_of(store, capture, node, **asked)
    plan = choose(question, store.calibration)
    plan_seconds = perf_counter() - started
    _, done = follow(store, capture, question, plan)
    roads = [candidate for candidate in plan.candidates if candidate.is_possible]
    times: dict[str, list[float]] = {road.road: [] for road in roads}
    times[plan.chosen.road].append(done.seconds or 0.0)
    with not_learning(store):
        for turn in range(3):
            for road in roads if turn % 2 else reversed(roads):
                # What a road spends once in a process, tracing a graph, no other question pays again.
                _, again = follow(store, capture, question, replace(plan, chosen=road))
                if turn:
                    times[road.road].append(again.seconds or 0.0)
    by_road = {road: min(seconds) for road, seconds in times.items()}
    return Asked(
        question.key,
        len(question.rows),
        len(question.columns),
        dict(done.took or {}),
        plan.chosen.road,
        plan_seconds,
        plan.chosen.predicted_seconds,
        done.seconds or 0.0,
        by_road,
    )


def _some(rng: np.random.Generator, n: int, wanted: int) -> np.ndarray:
    return np.sort(rng.choice(n, min(wanted, n), replace=False))


@contextmanager
def not_learning(store: Store) -> Iterator[None]:
    """Within it, what is run teaches the planner nothing."""
    calibration: Calibration = store.calibration
    calibration.add = lambda observation: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        del calibration.add


def measure_catalog(report: Report, scratch: Scratch) -> None:
    """Planning in a catalog of 100 and of 10,000 intermediates."""
    per_capture = 50
    seconds = {}
    for n in (100, 1_000 if report.is_quick else 10_000):
        store = mistique.open(scratch.path("catalog.mistique"))
        rng = np.random.default_rng(0)
        for i in range(n // per_capture):
            with store.capture(model=f"lab/{i % 50}", dataset="train", framework="sklearn") as taken:
                for j in range(per_capture):
                    parents = (f"stage{j - 1}",) if j else ()
                    role = "stage" if j else "input"
                    taken.add(f"stage{j}", rng.random((10, 3)), role=role, parents=parents)
        store.compact()  # as it is after a while: listing many fragments is the cost of opening a log, not of planning
        seconds[n] = _planning_seconds(store, [f"lab/{i % 2}@latest/train/stage{9 * i}" for i in range(1, 6)] * 20)
        report.add(f"planning a question, {n:,} intermediates", 1e3 * seconds[n], unit="ms", bar=2.0)
    first, last = seconds.values()
    report.add("planning in the large catalog over the small one", last / first, bar=1.5)


def _planning_seconds(store: Store, keys: Sequence[str]) -> float:
    """Median seconds from a key to a plan."""
    taken = []
    for key in keys:
        started = perf_counter()
        capture, node = store.catalog.find(key)
        choose(question_of(store, capture, node), store.calibration)
        taken.append(perf_counter() - started)
    return median(taken)


if __name__ == "__main__":
    parts: dict[str, Any] = {
        "homes": measure_homes,
        "cnn": measure_cnn,
        "vgg": measure_vgg,
        "catalog": measure_catalog,
        "paper": measure_paper,
        "summaries": measure_summaries,
    }
    sys.exit(run("planner", __doc__, parts))
