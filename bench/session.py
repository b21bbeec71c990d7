"""A session of questions, as a person digs, of a store that begins empty: what is lost by not knowing them beforehand.

Against always recomputing, storing everything first, and the best in hindsight. Parts: homes (five of its pipelines),
cnn, thresholds (several of gamma, over homes).
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

import mistique
from bench.harness import Report, Scratch, run
from bench.models import cifar
from mistique.planner.budget import in_use_nbytes
from mistique.planner.execute import execute
from mistique.planner.measured import Took
from mistique.store import Store

N_QUESTIONS = 100
# What the threshold of gamma is decided by (docs/adr/0019), in seconds a GB.
THRESHOLDS = (10.0, 100.0, 1000.0, 10_000.0, 500_000.0)

Capture = Callable[[Store, str], None]


@dataclass(frozen=True)
class Question:
    """Rows and columns of an intermediate."""

    key: str
    rows: tuple[int, ...] | None
    columns: tuple[int, ...] | None


def measure_homes(report: Report, scratch: Scratch) -> None:
    _measure_homes(report, scratch, n_templates=2 if report.is_quick else 5)


def measure_thresholds(report: Report, scratch: Scratch) -> None:
    _measure_homes(report, scratch, n_templates=2 if report.is_quick else 5, thresholds=THRESHOLDS)


def _measure_homes(
    report: Report, scratch: Scratch, *, n_templates: int, thresholds: Sequence[float] = (1000.0,)
) -> None:
    from bench.data import homes
    from bench.pipelines import homes_pipelines
    from mistique.sklearn import capture

    X, y = homes(6_000 if report.is_quick else None)
    fitted = {t.name: next(t.pipelines()).fit(X, y) for t in homes_pipelines()[:n_templates]}

    def take(store: Store, keep: str) -> None:
        for name, pipe in fitted.items():
            capture(pipe, X, y, store=store, dataset="train", model=f"homes/{name}", keep=keep)

    _measure(report, scratch, take, thresholds=thresholds)


def measure_cnn(report: Report, scratch: Scratch) -> None:
    from mistique.keras import capture

    given = cifar(500 if report.is_quick else 1_000)

    def take(store: Store, keep: str) -> None:
        capture(given.net, given.x, given.y, store=store, dataset="test", model="cnn", keep=keep)

    _measure(report, scratch, take)


def _measure(report: Report, scratch: Scratch, take: Capture, *, thresholds: Sequence[float] = (1000.0,)) -> None:
    n = 30 if report.is_quick else N_QUESTIONS
    started = perf_counter()
    everything = mistique.open(scratch.path("everything.mistique"), gamma_min=float("inf"), memory_nbytes=0)
    take(everything, "all")
    storing = perf_counter() - started
    nothing = scratch.path("nothing.mistique")
    with mistique.open(nothing) as store:
        take(store, "none")
        empty = in_use_nbytes(store)

    def opened(gamma_min: float, **options: Any) -> Store:
        path = scratch.path("session.mistique")
        shutil.copytree(nothing, path)
        return mistique.open(path, gamma_min=gamma_min, **options)

    questions = _dig(everything, n)
    seconds = {"store everything": _asked(everything, questions)}
    seconds["always recompute"] = _asked(opened(float("inf"), memory_nbytes=0), questions)
    store = opened(1000.0)
    ours, nbytes = _asked(store, questions), in_use_nbytes(store) - empty
    learned: dict[float, tuple[list[float], float]] = {}
    for threshold in thresholds:
        store = opened(threshold, memory_nbytes=0)
        learned[threshold] = _asked(store, questions), in_use_nbytes(store) - empty
    full = in_use_nbytes(everything) - empty
    best = _hindsight(questions, seconds["store everything"], seconds["always recompute"])
    no_memory, no_memory_nbytes = learned[1000.0]
    report.add(f"{n} questions over the best in hindsight", sum(ours) / best, bar=1.3)
    report.add("bytes over those of storing everything", nbytes / full, bar=0.25)
    report.add(f"{n} questions over the best in hindsight, without memory", sum(no_memory) / best)
    report.add("bytes over those of storing everything, without memory", no_memory_nbytes / full)
    report.add("always recomputing over ours", sum(seconds["always recompute"]) / sum(ours), is_high_better=True)
    total = storing + sum(seconds["store everything"])
    report.add("storing everything first over ours", total / sum(ours), is_high_better=True)
    report.facts |= {
        "seconds": {name: round(sum(found), 3) for name, found in seconds.items()},
        "seconds to capture everything": round(storing, 3),
        "best in hindsight, seconds": round(best, 3),
        "by threshold, without memory": {
            f"{threshold:g} s/GB": {"seconds": round(sum(found), 3), "bytes": int(n), "share": round(n / full, 4)}
            for threshold, (found, n) in learned.items()
        },
        "seconds of each question": {"ours": ours, **seconds},
        "questions of an intermediate": dict(Counter(question.key for question in questions).most_common(12)),
    }
    report.notes += [
        "seconds are those of the questions, what is stored beside an answer included; models are loaded before.",
        "best in hindsight: for each intermediate the cheaper of recomputing every question, and of recomputing the"
        " first and reading the others, with no byte or second spent on storing, and nothing kept in memory.",
        "ours keeps in memory what it recomputed whole (256 MiB); without memory, storing alone helps.",
    ]


def _dig(store: Store, n: int) -> list[Question]:
    """A person's questions: a look at one stage, again with other columns, a neighbour stage, a few rows, and on."""
    rng = np.random.default_rng(0)
    captures = store.catalog.captures()
    found: list[Question] = []
    capture = captures[0]
    names: list[str] = []
    at = 0
    while len(found) < n:
        move = rng.random()
        if not names or move < 0.08:  # another model
            capture = captures[rng.integers(len(captures))]
            names = [i.name for i in capture.intermediates.values() if i.role in ("stage", "prediction")]
            at = int(rng.integers(len(names)))
        elif move < 0.3:  # the stage before, or after
            at = int(np.clip(at + rng.choice([-1, 1]), 0, len(names) - 1))
        elif move < 0.5 and found:  # the same once more
            found.append(found[-1 - int(rng.integers(min(len(found), 5)))])
            continue
        node = capture.intermediates[names[at]]
        rows = None if rng.random() < 0.6 else tuple(np.sort(rng.choice(node.n_rows, 10, replace=False)).tolist())
        some = np.sort(rng.choice(node.n_columns, min(3, node.n_columns), replace=False))
        columns = None if rng.random() < 0.3 else tuple(some.tolist())
        found.append(Question(f"{capture.prefix}/{node.name}", rows, columns))
    return found


def _asked(store: Store, questions: list[Question]) -> list[float]:
    """Seconds of each question, in their order; models are loaded before."""
    for capture in store.catalog.captures():
        store.runnable.get(capture.version, took=Took(), calibration=store.calibration)
    taken = []
    for question in questions:
        capture, node = store.catalog.find(question.key)
        rows, columns = (None if of is None else np.array(of) for of in (question.rows, question.columns))
        started = perf_counter()
        execute(store, capture, node, rows=rows, columns=columns)
        taken.append(perf_counter() - started)
    return taken


def _hindsight(questions: list[Question], reading: list[float], recomputing: list[float]) -> float:
    by_key: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        by_key.setdefault(question.key, []).append(i)
    total = 0.0
    for of in by_key.values():
        always = sum(recomputing[i] for i in of)
        first, *rest = of
        total += min(always, recomputing[first] + sum(min(reading[i], recomputing[i]) for i in rest))
    return total


if __name__ == "__main__":
    parts: Mapping[str, Any] = {"homes": measure_homes, "cnn": measure_cnn, "thresholds": measure_thresholds}
    sys.exit(run("session", __doc__, parts))
