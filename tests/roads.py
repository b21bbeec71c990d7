"""Every road that claims to answer a question, really taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mistique.planner.choose import choose
from mistique.planner.execute import follow, question_of
from mistique.planner.plan import Plan
from mistique.store import Store


def by_every_road(
    store: Store, key: str, *, rows: np.ndarray | None = None, columns: np.ndarray | None = None, exact: bool = False
) -> Iterator[tuple[np.ndarray, Plan]]:
    """The values and the plan of each possible road, for sorted rows and columns by position."""
    capture, node = store.catalog.find(key)
    question = question_of(store, capture, node, rows=rows, columns=columns, exact=exact)
    plan = choose(question, store.calibration)
    for candidate in plan.candidates:
        if candidate.is_possible:
            values, done = follow(store, capture, question, replace(plan, chosen=candidate))
            yield values.to_numpy(), done
