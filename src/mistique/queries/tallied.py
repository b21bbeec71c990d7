"""Figures over all rows of an intermediate: those that were kept, or counted now and kept where that pays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import StoreError
from mistique.planner.choose import choose
from mistique.planner.execute import question_of
from mistique.planner.plan import Plan
from mistique.planner.planning import stop_if_planned
from mistique.planner.roads import summary_road
from mistique.planner.tallies import read_tally, tally_beside
from mistique.queries.portions import Portions
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False)
class Tallied:
    """Figures over all rows.

    Parameters
    ----------
    figures : ndarray of shape (n_figures, n_columns), float64
    max_abs_error : float
        Of the values that they are of.
    plan : Plan
    """

    figures: np.ndarray
    max_abs_error: float
    plan: Plan


def tallied(
    store: Store,
    capture: Capture,
    node: Intermediate,
    *,
    what: str,
    shape: tuple[int, int],
    count: Callable[[Portions], np.ndarray],
    columns: np.ndarray | None = None,
    exact: bool = False,
) -> Tallied:
    """What `count` makes of all rows, or made of them before.

    Parameters
    ----------
    store : Store
    capture : Capture
    node : Intermediate
    what : str
        What is counted, of which columns, in words: another question of the same says just the same.
    shape : tuple of int
        Of the figures, (n_figures, n_columns): what was kept in another is not believed.
    count : callable
        Takes portions of all rows, gives the figures.
    columns : ndarray of int64, optional
    exact : bool, default False
    """
    capture = store.catalog.current(capture)
    found = capture.tallies.get((node.name, what))
    tally = None if found is None or found[1].shape != shape else found[1]
    question = question_of(store, capture, node, columns=columns, exact=exact, tally=tally)
    if tally is not None:
        plan = choose(question, store.calibration)
        stop_if_planned(capture, node.name, lambda: plan)
        if plan.chosen.is_summary:
            with suppress(StoreError):  # it holds nothing that is not to be had besides
                figures, plan = read_tally(store, capture, question, plan)
                return Tallied(figures, tally.max_abs_error, plan)
    portions = Portions(store, capture, node, columns=columns, exact=exact)
    figures = count(portions)
    plan = portions.plan()
    plan = replace(plan, candidates=(*plan.candidates, *summary_road(question, store.calibration)))
    plan = tally_beside(store, capture, question, plan, what=what, figures=figures)
    return Tallied(figures, portions.max_abs_error, plan)
