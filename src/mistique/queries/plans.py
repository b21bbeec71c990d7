"""One plan for an answer that took several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mistique.planner.plan import Plan


def joined_plan(plans: Sequence[Plan]) -> Plan:
    """The plan of the first of several questions, with the rows, the seconds and the error of all.

    Parameters
    ----------
    plans : sequence of Plan
        At least one.
    """
    return replace(
        plans[0],
        n_rows=sum(plan.n_rows for plan in plans),
        seconds=sum(plan.seconds or 0.0 for plan in plans),
        max_abs_error=max(plan.max_abs_error or 0.0 for plan in plans),
        reason=plans[0].reason if len(plans) == 1 else f"{plans[0].reason}; {len(plans)} questions in all",
    )
