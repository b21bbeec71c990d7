"""Plans of questions that are not run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mistique
from mistique.cli import app
from mistique.errors import QueryError
from mistique.store import Store
from tests.capturing import capturing


@pytest.fixture
def key(store: Store) -> str:
    values = np.random.default_rng(0).normal(size=(3_000, 40)).astype(np.float32)
    with capturing(store) as capture:
        capture.append("input", values, role="input")
        capture.add("target", np.arange(3_000) % 3, role="target")
        capture.append("dense", values)
        capture.append("last", values)
    return "lab/model@1/train/dense"


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (mistique.topk, {"unit": 3, "k": 5}),
        (mistique.topk, {"row": 7}),
        (mistique.knn, {"row": 7, "unit": [1, 2]}),
        (mistique.col_dist, {"unit": 3}),
        (mistique.dead_units, {"threshold": 0.5}),
        (mistique.class_means, {}),
        (mistique.cka, {"other": "lab/model@1/train/last"}),
    ],
)
def test_a_question_is_planned_as_its_answer_says_and_not_run(
    store: Store, key: str, query: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mistique.queries.portions.CELLS_AT_ONCE", 1)
    plan = mistique.explain(store, key, query=query, **options)
    assert plan.seconds is None
    assert plan.key == key
    answer = query(store, key, **options)
    assert (plan.n_rows, plan.n_columns) == (3_000, answer.plan.n_columns)
    assert plan.chosen.road == answer.plan.chosen.road == "read"


def test_what_was_counted_before_is_among_the_roads(store: Store, key: str) -> None:
    from tests.planner.test_tallies import keeps

    assert "summary" not in [c.road for c in mistique.explain(store, key, query=mistique.dead_units).candidates]
    mistique.dead_units(keeps(store), key)
    plan = mistique.explain(store, "lab/model@1/train/d*", query=mistique.dead_units)
    assert (plan.chosen.road, plan.seconds) == ("summary", None)
    assert "read" in [c.road for c in plan.candidates]


def test_options_of_a_query_need_the_query(store: Store, key: str) -> None:
    with pytest.raises(TypeError, match="threshold given without query="):
        mistique.explain(store, key, threshold=0.5)


def test_a_query_that_is_no_function_is_told(store: Store, key: str) -> None:
    with pytest.raises(QueryError, match=r"expected a function, .* got 'topk'"):
        mistique.explain(store, key, query="topk")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--query", "topk", "--unit", "3", "-k", "10"], "3000 of 3000 rows, 1 of 40 columns"),
        (["--query", "knn", "--row", "7", "--unit", "1,2"], "3000 of 3000 rows, 2 of 40 columns"),
        (["--query", "cka", "--other", "lab/model@1/train/last"], "3000 of 3000 rows, 40 of 40 columns"),
        (["--rows", "2990:3000"], "10 of 3000 rows, 40 of 40 columns"),
    ],
)
def test_the_command_plans_a_query(store: Store, key: str, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["explain", store.uri, key, *arguments])
    assert done.exit_code == 0, done.output
    assert f"{key}: {said}\n" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--query", "top"], "--query: expected one of get, topk, "),
        (["--query", "topk", "--by", "target"], "topk takes no --by; it takes "),
        (["--query", "drift"], "drift needs --other"),
        (["--rows", "0:3001"], "expected positions up to 3000, as there are 3000 rows, got 3001"),
    ],
)
def test_the_command_says_in_one_line_what_it_cannot_plan(
    store: Store, key: str, arguments: list[str], said: str
) -> None:
    done = CliRunner().invoke(app, ["explain", store.uri, key, *arguments])
    assert done.exit_code == 1
    assert said in done.output
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("ask", [mistique.get, mistique.explain])
@pytest.mark.parametrize("rows", [slice(0, 3001), slice(4000, None), slice(-3001, None), [3000]])
def test_rows_that_there_are_not_are_an_error(store: Store, key: str, ask: Any, rows: Any) -> None:
    with pytest.raises(QueryError, match=r"3000 rows|from 0 to 2999"):
        ask(store, key, rows=rows)
    assert ask(store, key, rows=slice(2999, 3000)) is not None
