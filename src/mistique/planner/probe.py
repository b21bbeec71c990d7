"""The short calibration of a store that this machine has not read yet: before its first plan, two seconds at most."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import MistiqueError
from mistique.planner.byproduct import Beside
from mistique.planner.calibration import Calibration
from mistique.planner.index_layout import BOUNDS
from mistique.planner.measured import Took, read_indexed, read_stored
from mistique.planner.plan import INDEX
from mistique.planner.question import Question, held_rows, read_subject
from mistique.planner.reading import read
from mistique.planner.recompute import recompute
from mistique.planner.roads import inputs_of, recompute_from, why_not_recomputed
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

MAX_SECONDS = 2.0
# A larger read is tried while it is predicted to take less than this, a run of a few rows likewise.
_STEP_SECONDS = 0.3
_FEW_ROWS = 64


def calibrate(store: Store, capture: Capture, question: Question) -> None:
    """Measure what the roads of a question depend on and nobody has measured on this machine.

    Notes
    -----
    A codec that was never read here: four reads of what is stored by it, of growing size, after one that is not
    counted as it compiles and opens; of an index, of a few units. A model that neither ran nor was captured here: one
    batch, twice, if loading and running it is predicted to take no longer than what is left. The first of each is made
    twice because one measurement alone may be doubted. What a step is predicted to take
    is what was measured in the step before, so a slow disk ends it early; what stays unmeasured is said to be a guess.
    """
    calibration = store.calibration
    deadline = time.perf_counter() + MAX_SECONDS
    nodes = [question.target, *(question.graph[name] for name in inputs_of(question.graph))]
    for node in nodes:
        if node.references is not None:
            _probe_reads(store, node, calibration, deadline)
    if question.index is not None and question.index.form != BOUNDS:
        _probe_index(store, question)
    model = question.model
    is_unknown = not (calibration.n_runs(model) or calibration.is_known("captured", model))
    can_run = store.runnable.can_run(question.version) and not why_not_recomputed(question)
    # Once in a process: what is predicted to take too long would be predicted before each question.
    if is_unknown and can_run and store.is_cold(f"trying {model}"):
        _probe_run(store, capture, question, deadline)


def _probe_reads(store: Store, node: Intermediate, calibration: Calibration, deadline: float) -> None:
    subject = read_subject(node)
    rows, columns = held_rows(node), np.arange(node.n_columns)
    try:
        # The first read of a codec in a process loads what decodes it.
        if store.is_cold(subject):
            read(store.segments, node, rows[:1], columns[:1])
        # Once in a process: what is damaged would be tried before each question.
        if calibration.read_cost(subject).n_observations or not store.is_cold(f"trying {subject}"):
            return
        for share, grows in ((0.0, 1.0), (0.0, len(rows) * len(columns) / 100), (0.1, 10.0), (1.0, 1.0)):
            n_rows, n_columns = (max(round(len(of) * share), 1) for of in (rows, columns))
            started = time.perf_counter()
            if started > deadline:
                return
            read_stored(store, node, rows[:n_rows], columns[:n_columns], took=Took())
            seconds = time.perf_counter() - started
            left = deadline - time.perf_counter()
            if seconds * min(grows, 100.0) > min(_STEP_SECONDS, left):
                return
    except MistiqueError:
        return  # what is damaged is said when it is asked for


def _probe_index(store: Store, question: Question) -> None:
    # Once in a process: an index that is damaged would be tried before each question.
    if not store.is_cold(f"trying {INDEX}") or store.calibration.read_cost(INDEX).n_observations:
        return
    target = question.target
    try:
        for n_units in (1, 1, 3, 10):
            columns = np.arange(min(n_units * target.positions, target.n_columns))
            read_indexed(store, replace(question, rows=np.arange(target.n_rows), columns=columns), took=Took())
    except MistiqueError:
        return  # it is passed over when it is asked, too


def _probe_run(store: Store, capture: Capture, question: Question, deadline: float) -> None:
    batch = question.version.batch_rows or _FEW_ROWS
    rows = np.arange(min(batch, question.target.n_rows))
    sources = inputs_of(question.graph)
    predicted = recompute_from(question, sources, rows, store.calibration).predicted_seconds
    nothing = Beside(question.target, np.empty(0, np.int64), None)
    for _ in range(2):
        started = time.perf_counter()
        if predicted > min(1.0, deadline - started):
            return
        try:
            recompute(store, capture, question, sources, rows, index=None, took=Took(), byproduct=nothing)
        except MistiqueError:
            return
        predicted = time.perf_counter() - started
