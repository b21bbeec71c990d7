"""The cheapest cut of a stage graph: what to read and what to run, so that a target can be computed.

The graph is none of chains alone: branches join, layers are shared. As Helix does (Xin et al., PVLDB 12(4), 2018,
doi:10.14778/3297753.3297763), the choice is a minimum cut: a stage that is computed needs its parents, a value that is
needed is computed or read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import isinf

# Seconds that nobody waits: what cannot be read costs so much.
_NEVER = 1e6


def cheapest_cut(
    target: str,
    *,
    parents: Callable[[str], Sequence[str]],
    run_seconds: Callable[[str], float],
    read_seconds: Callable[[str], float],
) -> tuple[float, tuple[str, ...]] | None:
    """The sources that the target is computed from in the least time, and that time.

    Parameters
    ----------
    target : str
        To be computed, not read.
    parents : callable
        What a stage is computed from; none, of an input.
    run_seconds, read_seconds : callable
        Of a stage; infinite: it cannot be run, or read.

    Returns
    -------
    seconds : float
    sources : tuple of str
        To be read, nearest first. None instead of both: nothing that can be read leads to the target.

    Examples
    --------
    >>> parents = {"sum": ("left", "right"), "left": ("stem",), "right": ("stem",), "stem": ("input",), "input": ()}
    >>> reads = {"stem": 2.0, "left": 1.5, "input": 1.0}
    >>> cheapest_cut(
    ...     "sum",
    ...     parents=lambda name: parents[name],
    ...     run_seconds=lambda name: 3.0 if name == "stem" else 0.25,
    ...     read_seconds=lambda name: reads.get(name, float("inf")),
    ... )
    (2.75, ('stem',))
    """
    order, of = _ancestors(target, parents)
    runs = {name: run_seconds(name) if of[name] or name == target else float("inf") for name in order}
    reads = {name: read_seconds(name) if name != target else float("inf") for name in order}
    is_chain = all(len(found) <= 1 for found in of.values())
    sources = _along(order, runs, reads) if is_chain else _across(order, of, runs, reads)
    if sources is None:
        return None
    running = _running(target, of, set(sources))
    if any(isinf(runs[name]) for name in running) or any(isinf(reads[name]) for name in sources):
        return None
    return sum(runs[name] for name in running) + sum(reads[name] for name in sources), sources


def _ancestors(target: str, parents: Callable[[str], Sequence[str]]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The target and all before it, nearest first, and their parents."""
    found: dict[str, tuple[str, ...]] = {}
    waiting = deque([target])
    while waiting:
        name = waiting.popleft()
        if name not in found:
            found[name] = tuple(parents(name))
            waiting.extend(found[name])
    return list(found), found


def _running(target: str, of: dict[str, tuple[str, ...]], sources: set[str]) -> list[str]:
    running: dict[str, None] = {}
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name not in running and name not in sources:
            running[name] = None
            waiting.extend(of[name])
    return list(running)


def _along(order: list[str], runs: dict[str, float], reads: dict[str, float]) -> tuple[str, ...] | None:
    """Of a chain: the one source of the least sum."""
    best, found, run = float("inf"), None, runs[order[0]]
    for name in order[1:]:
        if run + reads[name] < best:
            best, found = run + reads[name], name
        run += runs[name]
    return None if found is None else (found,)


def _across(
    order: list[str], of: dict[str, tuple[str, ...]], runs: dict[str, float], reads: dict[str, float]
) -> tuple[str, ...] | None:
    """Of any graph: a minimum cut.

    Two nodes a stage: it is at hand (which costs its read), and it is computed (which costs its run and saves its
    read). Computed implies at hand, of itself and of all its parents.
    """
    at_hand = {name: 2 * i for i, name in enumerate(order)}
    flow = _Flow(2 * len(order) + 2)
    start, end = 2 * len(order), 2 * len(order) + 1
    for name in order:
        here = at_hand[name]
        computed = here + 1
        read, run = min(reads[name], _NEVER), min(runs[name], 2 * _NEVER)
        flow.add(here, end, read)
        if run >= read:
            flow.add(computed, end, run - read)
        else:
            flow.add(start, computed, read - run)
        flow.add(computed, here, float("inf"))
        for parent in of[name]:
            flow.add(computed, at_hand[parent], float("inf"))
    flow.add(start, at_hand[order[0]], float("inf"))
    is_chosen = flow.side_of(start, end)
    return tuple(name for name in order if is_chosen[at_hand[name]] and not is_chosen[at_hand[name] + 1])


class _Flow:
    """A network, and the side of its start after a maximum flow (Dinic)."""

    def __init__(self, n_nodes: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(n_nodes)]
        self._to: list[int] = []
        self._left: list[float] = []

    def add(self, origin: int, to: int, capacity: float) -> None:
        """An edge."""
        if capacity <= 0:
            return
        self._edges[origin].append(len(self._to))
        self._edges[to].append(len(self._to) + 1)
        self._to += [to, origin]
        self._left += [capacity, 0.0]

    def side_of(self, start: int, end: int) -> list[bool]:
        """Which nodes can still be reached from the start when no more can flow."""
        while True:
            levels = self._levels(start)
            if levels[end] < 0:
                return [level >= 0 for level in levels]
            next_edge = [0] * len(self._edges)
            while self._push(start, end, levels, next_edge):
                pass

    def _levels(self, start: int) -> list[int]:
        levels = [-1] * len(self._edges)
        levels[start] = 0
        waiting = deque([start])
        while waiting:
            node = waiting.popleft()
            for edge in self._edges[node]:
                to = self._to[edge]
                if levels[to] < 0 and self._left[edge] > 1e-12:
                    levels[to] = levels[node] + 1
                    waiting.append(to)
        return levels

    def _push(self, start: int, end: int, levels: list[int], next_edge: list[int]) -> bool:
        """One path with something left on it: send that along."""
        path: list[int] = []
        node = start
        while node != end:
            while next_edge[node] < len(self._edges[node]):
                edge = self._edges[node][next_edge[node]]
                if self._left[edge] > 1e-12 and levels[self._to[edge]] == levels[node] + 1:
                    break
                next_edge[node] += 1
            else:
                if not path:
                    return False
                node = self._to[path.pop() ^ 1]
                next_edge[node] += 1
                continue
            path.append(edge)
            node = self._to[edge]
        amount = min(self._left[edge] for edge in path)
        for edge in path:
            self._left[edge] -= amount
            self._left[edge ^ 1] += amount
        return True
