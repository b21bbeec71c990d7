"""The cheaper road is chosen and says why; a road that would answer wrongly is never taken."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.errors import NoPlanError
from mistique.planner.calibration import Calibration
from mistique.planner.choose import choose
from mistique.planner.plan import Plan
from mistique.planner.predict import ancestors_that_run, around_amounts, run_amounts, run_cost, run_subject
from mistique.planner.question import Question, running_rows
from mistique.schema import ColumnType, Intermediate, Part, References, Run, Segment, Version
from mistique.storage.usage import Observation

N_ROWS, N_COLUMNS = 4096, 4
POWER = {"name": "power", "bits": 5}
RAW = {"name": "raw"}
NOT_STORED = None


def node(
    name: str, *, role: str = "stage", nbytes: int | None = 10**6, codec: dict = RAW, **facts: object
) -> Intermediate:
    """An intermediate of a table: stored in that many bytes, or not."""
    references = None
    if nbytes is not None:
        part = Part(0, 8, "")
        segment = Segment("0" * 32, 1, N_COLUMNS, part, part, nbytes)
        references = References((segment,), (Run(0, 0, 1, 0, N_COLUMNS, 0, 0, 0, 0, 1),))
    return Intermediate(
        name,
        role,
        N_ROWS,
        (N_COLUMNS,),
        (ColumnType("float64", "<f8"),),
        container="matrix",
        codec=codec,
        references=references,
        **facts,  # type: ignore[arg-type]
    )


def question(*nodes: Intermediate, target: str = "b", exact: bool = False, **version: object) -> Question:
    graph = {item.name: item for item in nodes}
    facts = {"artifact": "0" * 64, "load_seconds": 0.0, **version}
    return Question(
        f"lab/m@1/train/{target}",
        graph[target],
        graph,
        Version("lab/m", "r", None, "sklearn", **facts),  # type: ignore[arg-type]
        True,
        np.arange(N_ROWS),
        np.arange(N_COLUMNS),
        exact,
    )


def chain(
    *, nbytes: int | None = 10**6, per_row: float = 1e-6, codec: dict = RAW, middle: int | None = 10**6
) -> list[Intermediate]:
    return [
        node("input", role="input", nbytes=1000),
        node("a", nbytes=middle, parents=("input",), forward_seconds_per_row=1e-3),
        node("b", nbytes=nbytes, parents=("a",), forward_seconds_per_row=per_row, codec=codec),
    ]


def plan(asked: Question) -> Plan:
    return choose(asked, Calibration([], lambda _: None))


def test_reading_is_chosen_when_it_is_cheaper_and_says_so() -> None:
    chosen = plan(question(*chain(per_row=1.0)))
    assert chosen.chosen.road == "read"
    assert re.match(r"read, predicted .*: recompute.* would take .*, .* times as long", chosen.reason)


def test_recomputing_from_the_nearest_ancestor_is_chosen_when_that_is_cheapest() -> None:
    chosen = plan(question(*chain(nbytes=10**10, per_row=0.0)))
    assert chosen.chosen.road == "recompute from a"
    assert chosen.chosen.sources == ("a",)


def test_recomputing_from_the_input_is_chosen_when_the_ancestor_is_costly_to_read() -> None:
    chosen = plan(question(*chain(nbytes=10**12, per_row=0.0, middle=10**12)))
    assert (chosen.chosen.road, chosen.chosen.sources) == ("recompute", ("input",))


@given(nbytes=st.integers(1, 10**12), middle=st.integers(1, 10**12), per_row=st.floats(0, 1))
def test_no_possible_road_is_cheaper_than_the_chosen_one(nbytes: int, middle: int, per_row: float) -> None:
    chosen = plan(question(*chain(nbytes=nbytes, middle=middle, per_row=per_row)))
    assert len(chosen.candidates) == 3
    assert chosen.chosen.predicted_seconds == min(c.predicted_seconds for c in chosen.candidates if c.is_possible)


def test_an_exact_answer_is_not_read_from_a_lossy_codec_however_cheap() -> None:
    nodes = chain(nbytes=1, per_row=1.0, codec=POWER)
    assert plan(question(*nodes)).chosen.road == "read"
    exact = plan(question(*nodes, exact=True))
    assert exact.chosen.road != "read"
    assert "lossy codec power" in exact.candidates[0].reason


def test_an_exact_answer_is_not_recomputed_where_that_may_differ() -> None:
    *before, last = chain(nbytes=10**12, per_row=0.0)
    last = replace(last, recompute_difference=1e-7, recompute_note="another batch")
    assert plan(question(*before, last)).chosen.road.startswith("recompute")
    assert plan(question(*before, last, exact=True)).chosen.road == "read"


def test_a_lossy_ancestor_is_no_source() -> None:
    first, middle, last = chain(nbytes=NOT_STORED)
    middle = replace(middle, codec=POWER)
    assert [c.road for c in plan(question(first, middle, last)).candidates] == ["read", "recompute"]


@pytest.mark.parametrize(
    ("nodes", "version", "reasons"),
    [
        (
            chain(nbytes=NOT_STORED),
            {"artifact": None, "artifact_note": "it has a lambda"},
            "read: it is not stored; recompute: the model was not kept: it has a lambda",
        ),
        (
            [node("input", role="input", nbytes=NOT_STORED), node("b", nbytes=NOT_STORED, parents=("input",))],
            {},
            "read: it is not stored; recompute: the input is not stored",
        ),
        (
            [
                node("input", role="input"),
                node("b", nbytes=NOT_STORED, recompute_difference=None, recompute_note="it is random"),
            ],
            {},
            "read: it is not stored; recompute: it is random",
        ),
        (
            [node("input", role="input"), node("b", role="target", nbytes=NOT_STORED)],
            {},
            "recompute: it is the model's target, not computed by it",
        ),
    ],
)
def test_no_plan_says_why_not_read_and_why_not_recompute(nodes: list, version: dict, reasons: str) -> None:
    with pytest.raises(NoPlanError, match=re.escape(reasons)):
        plan(question(*nodes, **version))


def test_no_exact_plan_says_both_reasons() -> None:
    with pytest.raises(NoPlanError, match=r"lossy codec power; recompute: the model was not kept"):
        plan(question(*chain(codec=POWER), exact=True, artifact=None))


def test_only_the_stages_between_the_sources_and_the_target_run() -> None:
    graph = question(*chain()).graph
    assert set(ancestors_that_run(graph, "b", ["input"])) == {"a", "b"}
    assert ancestors_that_run(graph, "b", ["a"]) == ["b"]


@given(rows=st.lists(st.integers(0, N_ROWS - 1), min_size=1, max_size=20), batch=st.integers(1, 5000))
def test_whole_batches_of_the_capture_run_and_every_row_asked_is_among_them(rows: list[int], batch: int) -> None:
    asked = replace(question(*chain(), batch_rows=batch), rows=np.unique(rows))
    running = running_rows(asked, asked.rows)
    expected = {r for r in range(N_ROWS) if r // batch in {row // batch for row in rows}}
    assert set(running.tolist()) == expected
    assert (np.diff(running) > 0).all()


def test_a_plan_shows_every_road_and_marks_the_chosen_one() -> None:
    text = repr(plan(question(*chain(per_row=1.0))))
    marked = [line for line in text.splitlines() if line.startswith(">")]
    assert len(marked) == 1
    assert "read" in marked[0]
    assert "recompute from a" in text


POOL = {"op": "average_pool", "size": [2], "strides": [2], "padding": "valid"}


def derived(rule: dict, *, codec: dict = RAW, middle: int | None = 10**6, shape: tuple[int, ...] = (2, 2)) -> list:
    first, ancestor, last = chain(nbytes=NOT_STORED, middle=middle)
    ancestor = replace(ancestor, shape=(4, 2), container="array", codec=codec)
    return [first, ancestor, replace(last, shape=shape, container="array", derivation=rule)]


def test_deriving_needs_no_model_and_is_one_candidate() -> None:
    chosen = plan(question(*derived(POOL, codec=POWER), artifact=None))
    assert [c.road for c in chosen.candidates] == ["read", "derive from a", "recompute"]
    assert (chosen.chosen.road, chosen.chosen.sources) == ("derive from a", ("a",))
    assert chosen.chosen.reason.startswith("average_pool: a first guess; ")


def test_what_was_never_measured_is_said_to_be_guessed_and_what_was_is_not() -> None:
    nodes, facts = derived(POOL), {"is_imported": False, "model_is_loaded": False, "needs_labels": True}
    asked = replace(question(*nodes), **facts, sets_up=True, is_set_up=lambda _: False)
    calibration = Calibration([], lambda _: None)
    (deriving, running) = choose(asked, calibration).candidates[1:3]
    assert deriving.reason.startswith("average_pool: a first guess; no read measured yet: a first guess")
    assert running.reason.endswith("guessed: importing sklearn, loading, labels, tracing")
    version = asked.version
    seen = [("import", version.framework), ("load", version.artifact), ("labels", ""), ("setup", asked.model)]
    for kind, subject in [*seen, ("derive", "average_pool"), ("read", "raw table"), ("read", "raw layer")]:
        for _ in range(2):
            calibration.add(
                Observation(kind, subject, (1.0, *[1.0] * (9 * (kind == "read") + (kind == "derive"))), 0.0, 1.0)
            )
    (deriving, running) = choose(asked, calibration).candidates[1:3]
    assert "guess" not in deriving.reason
    assert "guessed" not in running.reason


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (derived({"op": "reshape"}, codec=POWER, shape=(8,)), "a is stored by the lossy codec power"),
        (derived(POOL), "an average is rounded in another order than the model's"),
        (derived({"op": "median"}), "b does not follow from a by the rule recorded"),
        (derived(POOL, shape=(3, 2)), "b does not follow from a by the rule recorded"),
        (derived(POOL, middle=NOT_STORED), "a, from which it follows, is not stored"),
        (derived(POOL)[2:], "what b follows from was not kept"),
    ],
)
def test_an_exact_answer_is_not_derived_where_it_would_not_be(nodes: list, reason: str) -> None:
    with pytest.raises(NoPlanError, match=re.escape(reason)):
        plan(question(*nodes, exact=True, artifact=None))


def test_exact_values_that_are_only_moved_are_an_exact_answer() -> None:
    chosen = plan(question(*derived({"op": "reshape"}, shape=(8,)), exact=True, artifact=None))
    assert chosen.chosen.road == "derive from a"


def test_rules_that_go_in_a_circle_are_no_road() -> None:
    nodes = derived({"op": "identity"}, middle=NOT_STORED, shape=(4, 2))
    nodes[1] = replace(nodes[1], parents=("b",), derivation={"op": "identity"})
    with pytest.raises(NoPlanError, match="b follows from itself"):
        plan(question(*nodes, artifact=None))


def test_what_is_stored_is_not_derived() -> None:
    nodes = derived({"op": "identity"}, shape=(4, 2))
    nodes[2] = replace(nodes[2], references=nodes[1].references)
    assert [c.road for c in plan(question(*nodes)).candidates] == ["read", "recompute", "recompute from a"]


@pytest.mark.parametrize("container", ["array", "matrix"])
def test_more_columns_of_a_layer_take_longer_to_run_and_of_a_table_do_not(container: str) -> None:
    given, a, b = chain(nbytes=NOT_STORED)
    asked = question(given, replace(a, forward_seconds_per_row=1e-9), replace(b, container=container))
    seen: list[Observation] = []
    calibration = Calibration([], seen.append)
    for columns in (np.arange(4), np.arange(1)) * 8:
        one, seconds = replace(asked, columns=columns), 1e-3 * (1 + len(columns))
        run, around = run_amounts(one, N_ROWS), around_amounts(one, ("input",), N_ROWS)
        calibration.add(Observation("run", run_subject(asked, ("input",)), run, 0.0, seconds))
        calibration.add(Observation("around", asked.version.framework, around, 0.0, seconds))
    every, one = (
        run_cost(asked, ("input",), calibration).cost.seconds(run_amounts(replace(asked, columns=columns), N_ROWS))
        for columns in (np.arange(4), np.arange(1))
    )
    if container == "array":
        assert (every, one) == pytest.approx((5e-3, 2e-3), rel=0.1)
    else:
        assert 2e-3 <= every == one <= 5e-3
