"""Running a plan: reads, derivations and runs of a model, measured; what pays is stored on the way."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.codecs import stored_form
from mistique.codecs.floats import float_dtype
from mistique.errors import ChunkCorruptError, ModelMismatchError, StoreError, UntrustedArtifactError
from mistique.kernels.distinct import distinct
from mistique.kernels.transpose import turn, turn_units
from mistique.planner.byproduct import rows_to_store, stored_beside
from mistique.planner.choose import can_be_answered_without_running, choose, is_choice
from mistique.planner.claims import check_claims
from mistique.planner.cost import LABELS_START
from mistique.planner.descent import Descent, descent_to
from mistique.planner.index_byproduct import index_beside
from mistique.planner.measured import Took, read_indexed, read_stored, remembered
from mistique.planner.plan import Plan
from mistique.planner.planning import stop_if_planned
from mistique.planner.probe import calibrate
from mistique.planner.question import Question, are_held, is_held
from mistique.planner.recompute import portions, recompute
from mistique.planner.values import Values, array_places, pandas_index
from mistique.schema import ROW_LABEL, Intermediate, Key, Tally
from mistique.storage.captures import Capture
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store
    from mistique.store.rooms import Rooms

_STAGES = ("stage", "prediction")


def question_of(
    store: Rooms,
    capture: Capture,
    intermediate: Intermediate,
    *,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    exact: bool = False,
    of_largest: bool = False,
    tally: Tally | None = None,
    by_column: bool = False,
) -> Question:
    """A question of rows and columns (by position; None: all) of an intermediate."""
    stages, version, models = store.graph(capture), capture.version, store.runnable
    graph = stages.nodes
    check_claims(graph[intermediate.name], graph)
    # What is to be stored the next time it is recomputed must be recomputed once.
    waits = intermediate.name in stages.capture.pinned and graph[intermediate.name].references is None
    return Question(
        key=str(Key(version.model, capture.number, capture.dataset, intermediate.name)),
        target=graph[intermediate.name],
        graph=graph,
        version=version,
        model_is_loaded=models.is_loaded(version),
        rows=np.arange(intermediate.n_rows) if rows is None else distinct(rows),
        columns=np.arange(intermediate.n_columns) if columns is None else distinct(columns),
        exact=exact,
        is_imported=models.is_imported(version),
        table_of=store.segments.open_table,
        is_set_up=lambda sources: models.is_set_up(version, intermediate.name, sources),
        sets_up=models.sets_up(version),
        cuts=stages.cuts,
        works=stages.works,
        counted=stages.counted,
        index=stages.indexes.get(intermediate.name),
        of_largest=of_largest,
        kept=None if waits else store.memory.get(capture, intermediate.name),
        needs_labels=ROW_LABEL in stages.capture.stored and stages.capture.orders[ROW_LABEL] not in store.labels,
        tally=tally,
        by_column=by_column,
    )


def execute(
    store: Store,
    capture: Capture,
    intermediate: Intermediate,
    *,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    exact: bool = False,
    runs: bool = True,
    of_largest: bool = False,
    by_column: bool = False,
    like: Plan | None = None,
) -> tuple[Values, Plan]:
    """The values asked, by the cheapest road, and the plan with what it took.

    Rows and columns come back in the order in which they were asked. A model that must not or cannot be loaded is run
    only where nothing else answers, and then the error says so; with ``runs=False`` it is no road at all. What a
    compaction has moved in the middle of it is read from where it lies now. With ``of_largest`` the columns are those
    of whole units, and the largest of its positions may stand for each: shape (n_rows, n_units). With
    ``by_column`` the cells of each column of a layer may lie together in memory, which takes less time; the shape is
    the same. A plan that this is `like`, of other rows of the same question, is followed again while it holds.
    """
    asked = {"rows": rows, "columns": columns, "exact": exact, "of_largest": of_largest, "by_column": by_column}
    while True:
        n_moves = store.catalog.moves.n_records
        try:
            return _execute(store, capture, intermediate, asked, runs=runs, like=like)
        except StoreError:
            store.catalog.refresh()
            if store.catalog.moves.n_records == n_moves:
                raise


def _execute(
    store: Store,
    capture: Capture,
    intermediate: Intermediate,
    asked: dict[str, Any],
    *,
    runs: bool,
    like: Plan | None = None,
) -> tuple[Values, Plan]:
    """As `execute`, once; `asked` is what `question_of` takes."""
    question = question_of(store, capture, intermediate, **asked)
    if like is not None and _holds(like, question):
        plan = like
    else:
        if is_choice(question):
            calibrate(store, capture, question)
        plan = choose(question, store.calibration, runs=runs)
    stop_if_planned(capture, intermediate.name, lambda: plan)
    try:
        values, done = follow(store, capture, question, plan)
    except ChunkCorruptError:
        # An index holds nothing that is not stored besides.
        if not plan.chosen.is_index:
            raise
        question = replace(question, index=None)
        values, done = follow(store, capture, question, choose(question, store.calibration, runs=runs))
    except (UntrustedArtifactError, ModelMismatchError):
        if not can_be_answered_without_running(plan):
            raise
        return _execute(store, capture, intermediate, asked, runs=False)
    if note := index_beside(store, capture, question, done):
        done = replace(done, stored=note)
    rows, columns = asked["rows"], asked["columns"]
    if rows is not None and not np.array_equal(rows, question.rows):
        values = values.take(np.searchsorted(question.rows, rows))
    if columns is not None and not np.array_equal(columns, question.columns) and not done.chosen.is_index_of_largest:
        values = values.reorder(columns)
    return values, done


def _holds(plan: Plan, question: Question) -> bool:
    """Whether a read of as many rows took less than any other road would: then one more is not worth planning anew."""
    is_same = (plan.n_rows, plan.n_columns) == (len(question.rows), len(question.columns))
    if not is_same or plan.chosen.road != "read" or question.kept is not None:
        return False
    if not are_held(question.target, question.rows):
        return False
    others = [c.predicted_seconds for c in plan.candidates if c.is_possible and c is not plan.chosen]
    return (plan.seconds or 0.0) <= min(others, default=float("inf"))


def follow(store: Store, capture: Capture, question: Question, plan: Plan) -> tuple[Values, Plan]:
    """The values by the road that was chosen, and the plan with what it took."""
    chosen, target = plan.chosen, question.target
    started, took = time.perf_counter(), Took()
    stored = ""
    if chosen.runs_model:
        held = is_held(target, question.rows) if chosen.reads_target else np.zeros(len(question.rows), bool)
        missing = question.rows[~held]
        wanted = rows_to_store(store, capture, question, chosen, missing)
        with stored_beside(store, capture, target, wanted) as byproduct:
            index = _labels_to_run(store, capture, question, took)
            values, max_abs_error = recompute(
                store, capture, question, chosen.sources, missing, index=index, took=took, byproduct=byproduct
            )
        stored, took.write_seconds = byproduct.note, byproduct.seconds
        if held.any():
            read_values, error = read_stored(store, target, question.rows[held], question.columns, took=took)
            order = np.argsort(np.concatenate([question.rows[held], missing]))
            values, max_abs_error = read_values.joined(values).take(order), max(max_abs_error, error)
    elif chosen.is_memory:
        values, max_abs_error = remembered(store, question, took=took)
    elif chosen.is_index:
        values, max_abs_error = read_indexed(store, question, took=took)
    elif chosen.reads_target:
        values, max_abs_error = read_stored(
            store, target, question.rows, question.columns, took=took, by_column=question.by_column
        )
    else:
        values, max_abs_error = _derive(store, question, took)
    seconds = time.perf_counter() - started
    done = replace(
        plan,
        seconds=seconds,
        max_abs_error=max_abs_error,
        took=took.parts(),
        read_nbytes=took.read_nbytes,
        stored=stored,
    )
    if target.role in _STAGES:
        store.worth.ask(capture, question, done)
    return values, done


def _labels_to_run(store: Store, capture: Capture, question: Question, took: Took) -> Any:
    """The labels of all rows; what it takes to read them for the first time is learned."""
    started = time.perf_counter()
    index = row_labels(store, capture)
    if question.needs_labels:
        took.labels_seconds = time.perf_counter() - started
        amounts = 1.0, float(question.target.n_rows)
        predicted = store.calibration.cost("labels", "", LABELS_START).seconds(amounts)
        store.calibration.add(Observation("labels", "", amounts, predicted, took.labels_seconds))
    return index


def row_labels(store: Store, capture: Capture) -> Any:
    """The labels of all rows: a pandas index, or None where rows are merely numbered, or their labels were dropped."""
    node = capture.intermediates.get(ROW_LABEL)
    if node is None or ROW_LABEL not in capture.stored:
        return None
    cached = store.labels.get(capture.orders[ROW_LABEL])
    if cached is None:
        values, _ = execute(store, capture, node)
        cached = pandas_index(values)
        store.labels.keep(capture.orders[ROW_LABEL], cached)
    return cached


def _derive(store: Store, question: Question, took: Took) -> tuple[Values, float]:
    """By rules from the nearest stored ancestor, some row blocks at a time; what the rules took is learned."""
    target, rows = question.target, question.rows
    started, read_before = time.perf_counter(), took.read_seconds
    descent = descent_to(question.graph, target)
    assert isinstance(descent, Descent)
    needed = descent.columns(question.columns)
    kind = target.types[0]
    bits = np.dtype(f"u{np.dtype(kind.cell).itemsize}")
    shape, _ = array_places(target, question.columns)
    n_rows, n_columns = len(rows), len(question.columns)
    out = np.empty((n_columns, n_rows) if question.by_column else (n_rows, *shape), kind.cell)
    worst = 0.0
    for low, high in portions(rows, stored_form(descent.ancestor).block_rows, len(needed[0])):
        # Rules work on columns, as they are stored: what is larger than the answer is not turned at all.
        values, error = read_stored(store, descent.ancestor, rows[low:high], needed[0], took=took, by_column=True)
        cells = values.by_column()
        numbers = cells.view(float_dtype(kind.dtype)) if kind.is_float else cells
        derived, error = descent.derive(numbers, needed, error)
        columns = np.ascontiguousarray(derived).view(bits)
        if question.by_column:
            out.view(bits)[:, low:high] = columns
        elif len(shape) == 2:
            turn_units(columns, 0, out[low:high].view(bits))
        else:
            turn(columns, 0, out[low:high].view(bits))
        worst = max(worst, error)
    # All but the reading, that of the way down too: of one row it is more than following it.
    seconds = time.perf_counter() - started - (took.read_seconds - read_before)
    subject = " ".join(str(step.rule["op"]) for step in descent.steps)
    amounts = 1.0, float(len(rows) * sum(map(len, needed[:-1])))
    predicted = store.calibration.derive_cost(subject).seconds(amounts)
    if not store.is_cold(f"derive {subject}"):  # the first of a process loads what does it
        store.calibration.add(Observation("derive", subject, amounts, predicted, seconds))
    took.derive_seconds += seconds
    if question.by_column:
        return Values.of_columns(target, question.columns, out), worst
    return Values(target, question.columns, out), worst
