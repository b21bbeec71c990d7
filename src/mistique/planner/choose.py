"""The cheapest of the roads to an answer."""

from __future__ import annotations

from mistique.errors import NoPlanError
from mistique.planner.calibration import Calibration
from mistique.planner.plan import Candidate, Plan, format_seconds
from mistique.planner.question import Question
from mistique.planner.roads import (
    derive_road,
    index_road,
    memory_road,
    mixed_road,
    read_road,
    recompute_roads,
    summary_road,
    why_not_recomputed,
)

_SURE = 1.5
_NOT_TRUSTED = Candidate("recompute", (), False, "the model is not this user's, and no trust was given to run it")


def choose(question: Question, calibration: Calibration, *, runs: bool = True) -> Plan:
    """The cheapest plan; with ``runs=False``, of those that do not run the model.

    Raises
    ------
    NoPlanError
        Saying why not read and why not recompute.
    """
    candidates = (
        *read_road(question, calibration),
        *index_road(question, calibration),
        *memory_road(question, calibration),
        *summary_road(question, calibration),
        *derive_road(question, calibration),
        *(mixed_road(question, calibration) if runs else []),
        *(recompute_roads(question, calibration) if runs else [_NOT_TRUSTED]),
    )
    possible = sorted((c for c in candidates if c.is_possible), key=lambda c: c.predicted_seconds)
    if not possible:
        raise NoPlanError(key=question.key, reasons=[f"{c.road}: {c.reason}" for c in candidates])
    chosen = possible[0]
    if len(possible) > 1:
        times = possible[1].predicted_seconds / max(chosen.predicted_seconds, 1e-9)
        reason = (
            f"{chosen.road}, predicted {format_seconds(chosen.predicted_seconds)}: "
            f"{possible[1].road} would take {format_seconds(possible[1].predicted_seconds)}"
            + (f", {times:.3g} times as long" if times > _SURE else "")
        )
    else:
        others = "; ".join(f"cannot {c.road}, {c.reason}" for c in candidates if not c.is_possible)
        reason = f"{chosen.road}, predicted {format_seconds(chosen.predicted_seconds)}; {others}"
    target = question.target
    return Plan(
        key=question.key,
        n_rows=len(question.rows),
        n_columns=len(question.columns),
        of_rows=target.n_rows,
        of_columns=target.n_columns,
        candidates=candidates,
        chosen=chosen,
        reason=reason,
    )


def is_choice(question: Question) -> bool:
    """More than one road may be possible: what is neither stored nor can be recomputed is no matter of cost."""
    is_stored = question.target.references is not None
    return is_stored and (question.index is not None or not why_not_recomputed(question))


def can_be_answered_without_running(plan: Plan) -> bool:
    """Some road of it, chosen or not, leaves the model alone."""
    return any(c.is_possible and not c.runs_model for c in plan.candidates)
