"""The cut of a stage graph is the cheapest there is, branches and shared stages included."""

from __future__ import annotations

from itertools import combinations
from math import inf, isinf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.planner.cut import cheapest_cut

Graph = dict[str, tuple[str, ...]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, dict[str, float], dict[str, float]]:
    """Up to eight stages, each computed from one to three before it; some cannot be run, some not be read."""
    n = draw(st.integers(2, 8))
    seconds = st.floats(0.01, 2) | st.just(inf)
    parents: Graph = {"0": ()}
    for i in range(1, n):
        parents[str(i)] = tuple(map(str, draw(st.sets(st.integers(0, i - 1), min_size=1, max_size=3))))
    return parents, {name: draw(seconds) for name in parents}, {name: draw(seconds) for name in parents}


def by_trying_all(target: str, parents: Graph, runs: dict[str, float], reads: dict[str, float]) -> float:
    """The oracle: the least over all sets of stages that could be read."""
    best = inf
    others = [name for name in parents if name != target]
    for sources in (set(some) for k in range(len(others) + 1) for some in combinations(others, k)):
        running, used, waiting = set(), set(), [target]
        while waiting:
            name = waiting.pop()
            if name in sources:
                used.add(name)
            elif name not in running:
                running.add(name)
                waiting += parents[name]
        cannot = any(not parents[name] for name in running)
        total = inf if cannot else sum(runs[name] for name in running) + sum(reads[name] for name in used)
        best = min(best, total)
    return best


def cut(target: str, parents: Graph, runs: dict[str, float], reads: dict[str, float]) -> tuple | None:
    return cheapest_cut(
        target, parents=parents.__getitem__, run_seconds=runs.__getitem__, read_seconds=reads.__getitem__
    )


@given(graphs())
def test_no_other_cut_is_cheaper(given_graph: tuple[Graph, dict[str, float], dict[str, float]]) -> None:
    parents, runs, reads = given_graph
    target = list(parents)[-1]
    expected = by_trying_all(target, parents, runs, reads)
    found = cut(target, parents, runs, reads)
    if isinf(expected):
        assert found is None
    else:
        assert found is not None
        assert found[0] == pytest.approx(expected, abs=1e-6)


def test_what_two_branches_share_runs_once() -> None:
    parents: Graph = {"sum": ("a", "b"), "a": ("stem",), "b": ("stem",), "stem": ("input",), "input": ()}
    runs = dict.fromkeys(parents, 1.0)
    reads = {**dict.fromkeys(parents, inf), "input": 1.0, "a": 2.5}
    # Reading "a" would not spare the stem, which "b" needs.
    assert cut("sum", parents, runs, reads) == (5.0, ("input",))
    assert cut("sum", parents, runs, {**reads, "b": 0.4, "a": 1.0}) == (2.4, ("a", "b"))


def test_a_deep_network_is_cut_too() -> None:
    parents: Graph = {"0": ()}
    for block in range(60):
        last = list(parents)[-1]
        parents[f"{block}/a"] = (last,)
        parents[f"{block}/add"] = (f"{block}/a", last)
    reads = dict.fromkeys(parents, 100.0)
    reads["50/add"] = 1.0
    found = cut("59/add", parents, dict.fromkeys(parents, 1.0), reads)
    assert found == (1.0 + 18, ("50/add",))
