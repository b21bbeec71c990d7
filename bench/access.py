"""Few or many rows by few or many columns: read against recomputed, and whether the planner took the faster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

import mistique
from bench.harness import Report, Road, Scratch, interleaved, run
from bench.models import captured, captured_homes, fashion, fresh_store, homes
from mistique.planner import execute
from mistique.planner.choose import choose
from mistique.planner.plan import Plan
from mistique.planner.question import Question
from mistique.store import Store

FEW_ROWS = 10
_A_TIE = 1.1


def measure(report: Report, scratch: Scratch) -> None:
    report.notes += [
        f"few rows: {FEW_ROWS}, spread evenly; few columns: one column of a stage, one unit of a layer.",
        "each road is run through mistique.get, the executor being handed that candidate instead of the cheapest;"
        " so both times hold the whole of get.",
        "the store is open, its page cache warm, and the model loaded.",
        "'first' is the planner's choice in the fresh store, 'chosen' its choice after every road was measured.",
        f"the planner is right when its road took less than {_A_TIE} times the fastest.",
    ]
    n_rounds = 1 if report.is_quick else 5
    shapes: list[dict[str, Any]] = []
    given = homes(4_000) if report.is_quick else homes()
    path, store = fresh_store(scratch)
    captured_homes(store, given)
    for stage in ("scale",) if report.is_quick else ("select", "scale"):
        asked = {"columns": "sqft_living"}
        shapes += _shapes(report, store, f"homes/forest@1/train/{stage}", asked, n_rounds=n_rounds)
    shapes += _shapes(report, store, "homes/forest@1/train/prediction", {}, n_rounds=n_rounds)
    store.close()
    Scratch.remove(path)
    network = fashion(512 if report.is_quick else 2_000)
    for codec in ("raw", "power"):
        path, store = fresh_store(scratch)
        version = captured(store, network, model="fashion", codec=codec)
        for layer in ("conv1", "dense"):
            shapes += _shapes(report, store, f"{version}/test/{layer}", {"unit": 12}, n_rounds=n_rounds)
        store.close()
        Scratch.remove(path)
    for which in ("first", "chosen"):
        n_right = sum(shape[f"{which}_is_right"] for shape in shapes)
        report.add(f"{which} road is the fastest, of {len(shapes)} shapes", n_right, unit="", is_high_better=True)
    report.add("time lost by the chosen road, worst shape", max(shape["regret"] for shape in shapes))
    report.facts["shapes"] = shapes


def _shapes(
    report: Report, store: Store, key: str, few_columns: dict[str, Any], *, n_rounds: int
) -> list[dict[str, Any]]:
    """All four shapes of one intermediate, the first two only where it has one column."""
    capture, node = store.catalog.find(key)
    labels = execute.row_labels(store, capture)
    positions = np.linspace(0, node.n_rows - 1, FEW_ROWS).astype(np.int64)
    few_rows = positions.tolist() if labels is None else [labels[i] for i in positions]
    questions: dict[str, dict[str, Any]] = {"few rows": {"rows": few_rows}, "many rows": {}}
    if few_columns:
        questions = {
            f"{rows} x {columns} columns": {**asked, **(few_columns if columns == "few" else {})}
            for rows, asked in questions.items()
            for columns in ("few", "many")
        }
    first = {shape: mistique.explain(store, key, **asked).chosen.road for shape, asked in questions.items()}
    timings = {shape: _roads(store, key, asked, n_rounds=n_rounds) for shape, asked in questions.items()}
    found = []
    for shape, asked in questions.items():
        plan = mistique.explain(store, key, **asked)
        seconds, chosen = timings[shape], plan.chosen.road
        fastest = min(seconds, key=seconds.__getitem__)
        recompute = min(s for road, s in seconds.items() if road != "read")
        is_right = {road: s < _A_TIE * seconds[fastest] for road, s in seconds.items()}
        name = key.partition("@")[0].partition("/")[0] + " " + key.rpartition("/")[2]
        codec = "" if name.startswith("homes") else f" {node.codec['name']}"
        took = f"took {chosen}" if is_right[chosen] else f"took {chosen}, wrongly"
        report.add(f"{name}{codec}, {shape}: recompute / read ({took})", recompute / seconds["read"])
        found.append(
            {
                "key": key,
                "codec": node.codec["name"],
                "shape": shape,
                "n_rows": plan.n_rows,
                "n_columns": plan.n_columns,
                "seconds": seconds,
                "predicted_seconds": {c.road: c.predicted_seconds for c in plan.candidates if c.is_possible},
                "first": first[shape],
                "chosen": chosen,
                "fastest": fastest,
                "first_is_right": is_right[first[shape]],
                "chosen_is_right": is_right[chosen],
                "regret": seconds[chosen] / seconds[fastest],
            }
        )
    return found


def _roads(store: Store, key: str, asked: dict[str, Any], *, n_rounds: int) -> dict[str, float]:
    """Median seconds of each road that is possible."""
    possible = [c.road for c in mistique.explain(store, key, **asked).candidates if c.is_possible]

    def ask_by(road: str) -> Any:
        with _only(road):
            return mistique.get(store, key, **asked)

    roads = {road: Road(lambda _, r=road: ask_by(r)) for road in possible}
    return interleaved(roads, n_rounds=n_rounds).medians()


@contextmanager
def _only(road: str) -> Iterator[None]:
    """Within it every question of the executor goes this road where it can: row labels, for one, are only read."""

    def choose_road(question: Question, calibration: Any, **options: Any) -> Plan:
        plan = choose(question, calibration, **options)
        forced = [c for c in plan.candidates if c.road == road and c.is_possible]
        return replace(plan, chosen=forced[0]) if forced else plan

    execute.choose = choose_road
    try:
        yield
    finally:
        execute.choose = choose


if __name__ == "__main__":
    sys.exit(run("access", __doc__, measure))
