"""An intermediate some row blocks at a time, so that a wide layer is no load on memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.planner.execute import execute
from mistique.planner.plan import Plan
from mistique.schema import Intermediate
from mistique.storage.facts import Capture

if TYPE_CHECKING:
    from mistique.store import Store

# 64 MB of float32.
_CELLS_AT_ONCE = 16 * 1024 * 1024


def portions(
    store: Store, capture: Capture, node: Intermediate, *, exact: bool = False
) -> Iterator[tuple[slice, np.ndarray, Plan]]:
    """Row after row of an intermediate: their positions, values of shape (n_rows, *shape), and how they were found."""
    step = max(_CELLS_AT_ONCE // (node.block_rows * max(node.n_columns, 1)), 1) * node.block_rows
    for start in range(0, node.n_rows, step):
        stop = min(start + step, node.n_rows)
        rows = None if stop - start == node.n_rows else np.arange(start, stop)
        values, plan = execute(store, capture, node, rows=rows, exact=exact)
        yield slice(start, stop), values.to_numpy(), plan


def joined_plan(plans: list[Plan]) -> Plan:
    """The plan of the first of several parts of one question, with the rows and the seconds of all."""
    return replace(
        plans[0],
        n_rows=sum(plan.n_rows for plan in plans),
        seconds=sum(plan.seconds or 0.0 for plan in plans),
        max_abs_error=max(plan.max_abs_error or 0.0 for plan in plans),
    )
