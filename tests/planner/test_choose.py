"""The choice of a road: the cheaper one, for a reason that is told, and never a lossy one when exact was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mistique.errors import NoPlanError
from mistique.planner.calibration import Calibration
from mistique.planner.choose import Question, ancestors_that_run, choose, recompute_rows
from mistique.schema import ColumnType, Intermediate, References, Run, Segment, Version

FLOAT32 = ColumnType("float32", "<f4")
N_ROWS = 4096


def node(name: str, *parents: str, nbytes: int | None = 10**6, seconds: float = 1e-6, **facts: Any) -> Intermediate:
    """A layer of 64 columns; stored in `nbytes`, or not at all."""
    codec = facts.pop("codec", {"name": "raw"})
    references = None
    if nbytes is not None:
        segment = Segment("0" * 32, "<f4", codec, N_ROWS, 64, 1024, 64, "0" * 32, nbytes)
        references = References((segment,), (Run(0, 0, 4, 0, 1, 0, 0),))
    role = facts.pop("role", "stage")
    return Intermediate(
        name, role, N_ROWS, (64,), (FLOAT32,), parents=parents, codec=codec, forward_seconds_per_row=seconds,
        references=references, **facts,
    )


def question(*nodes: Intermediate, target: str, **facts: Any) -> Question:
    """A question of all rows and columns."""
    graph = {item.name: item for item in nodes}
    version = Version("lab/model", "r", None, "keras", artifact="a" * 64, load_seconds=0.1, batch_rows=256)
    asked = Question(
        "lab/model@1/train/x", graph[target], graph, version, False, np.arange(N_ROWS), np.arange(64), False
    )
    return replace(asked, **facts)


def chosen(asked: Question) -> str:
    """The road that is chosen when nothing was measured."""
    return choose(asked, Calibration([], lambda _: None)).chosen.road


INPUT = node("input", role="input", nbytes=1000)


def test_a_small_intermediate_of_a_slow_model_is_read() -> None:
    assert chosen(question(INPUT, node("a", "input", nbytes=10**5, seconds=1e-3), target="a")) == "read"


def test_a_large_intermediate_of_a_fast_model_is_recomputed() -> None:
    assert chosen(question(INPUT, node("a", "input", nbytes=10**10, seconds=1e-8), target="a")) == "recompute"


def test_a_layer_is_recomputed_from_the_nearest_stored_ancestor_when_that_is_cheaper() -> None:
    slow = node("a", "input", nbytes=10**5, seconds=1e-2)
    assert chosen(question(INPUT, slow, node("b", "a", nbytes=None), target="b")) == "recompute from a"


def test_a_join_is_recomputed_from_the_ancestors_that_cut_it_off_from_the_input() -> None:
    a, b = node("a", "input", seconds=1e-2), node("b", "input", seconds=1e-2)
    between = node("c", "a", nbytes=None)
    road = chosen(question(INPUT, a, b, between, node("d", "c", "b", nbytes=None), target="d"))
    assert road == "recompute from b, a"


def test_a_quantized_ancestor_is_no_source() -> None:
    slow = node("a", "input", nbytes=10**3, seconds=1e-2, codec={"name": "power", "bits": 5})
    assert chosen(question(INPUT, slow, node("b", "a", nbytes=None), target="b")) == "recompute"


def test_exact_recomputes_what_is_stored_by_a_lossy_codec() -> None:
    lossy = node("a", "input", nbytes=10, seconds=1.0, codec={"name": "power", "bits": 5})
    assert chosen(question(INPUT, lossy, target="a")) == "read"
    assert chosen(question(INPUT, lossy, target="a", exact=True)) == "recompute"


def test_exact_does_not_recompute_what_may_come_out_otherwise() -> None:
    shaky = node("a", "input", nbytes=None, recompute_difference=1e-9, recompute_note="rounding")
    with pytest.raises(NoPlanError, match=r"not stored.*may differ by 1e-09: rounding"):
        choose(question(INPUT, shaky, target="a", exact=True), Calibration([], lambda _: None))


def test_what_has_chance_in_it_is_never_recomputed() -> None:
    random = node("a", "input", nbytes=None, recompute_difference=None, recompute_note="it draws from chance")
    with pytest.raises(NoPlanError, match="it draws from chance"):
        choose(question(INPUT, random, target="a"), Calibration([], lambda _: None))


def test_the_target_is_only_read() -> None:
    plan = choose(question(INPUT, node("target", role="target"), target="target"), Calibration([], lambda _: None))
    assert [c.is_possible for c in plan.candidates] == [True, False]
    assert "not computed by it" in plan.reason


def test_the_reason_names_what_the_other_road_would_take() -> None:
    plan = choose(question(INPUT, node("a", "input", seconds=1e-3), target="a"), Calibration([], lambda _: None))
    assert "recompute would take 4." in plan.reason
    assert "times as long" in plan.reason


def test_rows_are_recomputed_in_whole_batches_of_the_capture() -> None:
    asked = question(INPUT, node("a", "input"), target="a", rows=np.array([3, 300, 4095]))
    expected = [*range(512), *range(3840, 4096)]
    assert recompute_rows(asked).tolist() == expected


def test_only_the_stages_between_the_sources_and_the_target_run() -> None:
    graph = {n.name: n for n in (INPUT, node("a", "input"), node("b", "a"), node("c", "b"), node("d", "a"))}
    assert set(ancestors_that_run(graph, "c", ["a"])) == {"b", "c"}
