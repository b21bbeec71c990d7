"""Tallies: counts and sums over all rows, kept from the question that went through them and given to the next."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import CaptureWarning, MistiqueError
from mistique.planner.cost import gamma
from mistique.planner.plan import SUMMARY, Plan, format_nbytes
from mistique.planner.question import Question
from mistique.schema import Tally
from mistique.storage.captures import Capture
from mistique.storage.record_bodies import MAX_FIGURES, packed_figures
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store

# Of the bytes that an intermediate takes, all of its tallies together.
MAX_TALLY_SHARE = 0.01
# Head and body of a record, about.
_RECORD_NBYTES = 768


def read_tally(store: Store, capture: Capture, question: Question, plan: Plan) -> tuple[np.ndarray, Plan]:
    """The figures that were kept, (n_figures, n_columns), float64, and the plan with what it took.

    Raises
    ------
    ChunkCorruptError
        They are damaged. Whatever reads or runs the model answers as well.
    """
    tally, started = question.tally, time.perf_counter()
    assert tally is not None
    figures = store.catalog.figures(capture, tally)
    seconds = time.perf_counter() - started
    amounts = 1.0, float(tally.encoded_nbytes)
    predicted = store.calibration.summary_cost().seconds(amounts)
    store.calibration.add(Observation("summary", "", amounts, predicted, seconds))
    took = {"read": seconds}
    done = replace(
        plan, seconds=seconds, max_abs_error=tally.max_abs_error, took=took, read_nbytes=tally.encoded_nbytes
    )
    return figures, done


def tally_beside(
    store: Store, capture: Capture, question: Question, plan: Plan, *, what: str, figures: np.ndarray
) -> Plan:
    """Keep what a question counted over all rows, if that pays; the plan says so.

    Notes
    -----
    The rule: the answer took as long as keeping it is predicted to take, so that the next one saves what this one
    spends; all tallies of an intermediate take at most a hundredth of its bytes in the store; and a budget of bytes has
    room, once what saves less a byte has gone. Nothing is counted for them that was not asked, so a capture is not
    slowed down by them.
    """
    writing, amounts = store.calibration.write_cost(SUMMARY), (1.0, float(figures.nbytes))
    is_small = 0 < figures.size <= MAX_FIGURES
    if not store.learns or not is_small or (plan.seconds or 0.0) < writing.seconds(amounts):
        return plan
    name, packed = question.target.name, packed_figures(figures)
    kept = store.catalog.current(capture).tallies.items()
    others = [tally.encoded_nbytes for of, (_, tally) in kept if of[0] == name and of[1] != what]
    nbytes = sum(found + _RECORD_NBYTES for found in (len(packed), *others))
    if nbytes > MAX_TALLY_SHARE * store.worth.expected_nbytes(capture, question.target):
        return plan
    saved = (plan.seconds or 0.0) - store.calibration.summary_cost().seconds((1, len(packed)))
    if not store.has_room(len(packed), gamma(saved, len(packed)), spared=f"{capture.prefix}/{name}"):
        return plan
    started, shape = time.perf_counter(), (figures.shape[0], figures.shape[1])
    try:
        store.catalog.add_tally(capture, Tally(name, what, shape, plan.max_abs_error or 0.0, len(packed)), packed)
    except MistiqueError as error:
        warnings.warn(f"{name} was answered but not kept in sum: {error}", CaptureWarning, stacklevel=6)
        return plan
    seconds = time.perf_counter() - started
    store.calibration.add(Observation("write", SUMMARY, amounts, writing.seconds(amounts), seconds))
    note = f"kept {what} of {name} ({format_nbytes(len(packed))})"
    return replace(plan, stored=f"{plan.stored}; {note}" if plan.stored else note)
