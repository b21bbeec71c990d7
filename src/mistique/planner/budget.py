"""Holding a budget of bytes: what saves least a byte goes first, never what is pinned or the last road to an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.codecs import codec_from_config
from mistique.errors import BudgetError, NoPlanError
from mistique.planner.choose import choose
from mistique.planner.cost import gamma
from mistique.planner.execute import question_of
from mistique.planner.holdings import Holding, Holdings
from mistique.planner.predict import ancestors_that_run
from mistique.planner.roads import inputs_of
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store.rooms import Rooms

_STAGES = ("stage", "prediction")


@dataclass(frozen=True, slots=True)
class _Rank:
    gamma: float
    # What one question for all of it would save a byte: decides between those that nobody asked for.
    expected: float

    @property
    def order(self) -> tuple[float, float]:
        return self.gamma, self.expected


def in_use_nbytes(store: Rooms) -> float:
    """Bytes of all chunks that some stored intermediate refers to, of indexes, kept models and tallies."""
    return Holdings(list(_holdings(store))).nbytes() + _fixed_nbytes(store) + _index_nbytes(store)


def evict(store: Rooms, max_nbytes: float, *, below_gamma: float = float("inf"), spared: str = "") -> list[str]:
    """Make the store take no more than so many bytes; the keys of what is no longer stored.

    Parameters
    ----------
    store : Store
    max_nbytes : float
        Indexes go first; their keys are not among those given back.
    below_gamma : float
        What saves as much a byte, or more, stays.
    spared : str
        The key of one that stays.

    Raises
    ------
    BudgetError
        What is left may not go; nothing was evicted. It says of each why.
    """
    holdings = Holdings(list(_holdings(store)))
    fixed = _fixed_nbytes(store)
    total = holdings.nbytes() + fixed
    if total + _index_nbytes(store) <= max_nbytes:
        return []
    # Whatever an index answers is answered without it, so indexes go before anything else.
    if total <= max_nbytes:
        _drop_indexes(store, until_nbytes=max_nbytes - total)
        return []
    reasons: dict[str, str] = {}
    gone: list[int] = []
    waiting = set(holdings.left())
    for number in list(waiting):
        why_not = _why_not_evicted(store, holdings.holdings[number], spared)
        if why_not:
            reasons[holdings.holdings[number].key] = why_not
            waiting.discard(number)
    while total > max_nbytes and waiting:
        ranks = {number: _rank(store, holdings, number) for number in waiting}
        number = min(waiting, key=lambda n: (*ranks[n].order, holdings.holdings[n].key))
        waiting.discard(number)
        holding = holdings.holdings[number]
        if ranks[number].gamma >= below_gamma:
            reasons[holding.key] = f"saves {ranks[number].gamma:.3g} s/GB"
            continue
        if not holdings.nbytes_freed_by(number):
            continue  # others refer to all of it: keeping it costs nothing
        holdings.remove(number)
        gone.append(number)
        total = holdings.nbytes() + fixed
    if total > max_nbytes:
        raise BudgetError(uri=store.uri, max_nbytes=int(max_nbytes), nbytes=int(total), reasons=reasons)
    _drop_indexes(store, until_nbytes=max_nbytes - total)
    for number in gone:
        store.catalog.drop(holdings.holdings[number].capture, holdings.holdings[number].name)
    return [holdings.holdings[number].key for number in gone]


def _holdings(store: Rooms) -> Iterator[Holding]:
    captures = store.catalog.captures()
    store.catalog.read(captures)
    for capture in captures:
        for name, references in store.catalog.references(capture).items():
            yield Holding(capture, name, references)


def _fixed_nbytes(store: Rooms) -> int:
    """Of what does not go: kept models, and tallies, which lie in records, and no record is ever taken away.

    Tallies take at most a hundredth of what they were counted of, and none is kept that finds no room.
    """
    captures = store.catalog.captures()
    kept = {capture.version.artifact for capture in captures}
    models = sum(store.runnable.nbytes(digest) for digest in kept if digest)
    return models + sum(tally.encoded_nbytes for capture in captures for _, tally in capture.tallies.values())


def _index_nbytes(store: Rooms) -> int:
    return sum(capture.contents.index_nbytes for capture in store.catalog.captures())


def _drop_indexes(store: Rooms, *, until_nbytes: float) -> None:
    """The largest first, until all that are left take no more than so many bytes."""
    made = [(index, capture) for capture in store.catalog.captures() for _, index in capture.indexes.values()]
    total = sum(index.encoded_nbytes for index, _ in made)
    for index, capture in sorted(made, key=lambda one: -one[0].encoded_nbytes):
        if total <= until_nbytes:
            return
        store.catalog.drop_index(capture, index.name)
        total -= index.encoded_nbytes


def _rank(store: Rooms, holdings: Holdings, number: int) -> _Rank:
    holding = holdings.holdings[number]
    graph = store.graph(holding.capture).nodes
    node = graph[holding.name]
    nbytes = holdings.nbytes_freed_by(number)
    running = ancestors_that_run(graph, node.name, inputs_of(graph))
    seconds = node.n_rows * sum(graph[name].pass_seconds_per_row for name in running)
    saved = store.worth.demand(holding.capture, node.name).saved_seconds
    return _Rank(gamma(saved, nbytes), gamma(seconds, nbytes))


def _why_not_evicted(store: Rooms, holding: Holding, spared: str) -> str:
    """Why a stored intermediate has to stay; empty: it may go."""
    capture, name = holding.capture, holding.name
    if holding.key == spared:
        return "is about to be stored"
    if name in capture.pinned:
        return "is pinned"
    graph = store.graph(capture).nodes
    if not store.runnable.can_run(capture.version) and graph[name].derivation is None:
        return "cannot be recomputed here: the model is not this user's, or was not kept"
    without = {**graph, name: replace(graph[name], references=None)}
    for node in (without[name], *_that_follow(without, name)):
        try:
            _answerable(store, capture, without, node, graph[node.name])
        except NoPlanError as error:
            return f"is the last road to {node.name}: {error.why}"
    return ""


def _that_follow(graph: Mapping[str, Intermediate], name: str) -> Iterator[Intermediate]:
    """What is not stored because it follows from another by a rule, and that from it, and so on."""
    for node in graph.values():
        if node.references is None and node.derivation is not None and node.parents == (name,):
            yield node
            yield from _that_follow(graph, node.name)


def _answerable(
    store: Rooms, capture: Capture, graph: Mapping[str, Intermediate], node: Intermediate, before: Intermediate
) -> None:
    """Raise `NoPlanError` where nothing would answer any more what can be answered now, as exactly as now."""
    question = question_of(store, capture, node, rows=np.arange(min(node.n_rows, 1)))
    is_exact = before.references is not None and not codec_from_config(before.codec).is_lossy
    exact = is_exact and before.summary_error == 0
    choose(replace(question, graph=graph, target=node, exact=exact, cuts={}, works={}, counted={}), store.calibration)
