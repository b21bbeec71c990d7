"""Running a plan: the one file of the planner that touches storage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.codecs import stored_form
from mistique.codecs.floats import float_dtype
from mistique.errors import StoreError, UntrustedArtifactError
from mistique.ingest.columns import describe, describe_array
from mistique.kernels.transpose import turn
from mistique.planner.choose import (
    Question,
    ancestors_that_run,
    can_be_answered_without_running,
    choose,
    chunks_of,
    read_work,
    recompute_rows,
)
from mistique.planner.cost import derive_seconds
from mistique.planner.descent import Descent, descent_to
from mistique.planner.plan import Candidate, Plan
from mistique.planner.reading import read
from mistique.planner.values import Values, array_places, pandas_index, values_of
from mistique.schema import ROW_LABEL, Intermediate, Key
from mistique.storage.facts import Capture
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store

# Of an ancestor that is read whole to derive from it: 64 MB of float32.
_CELLS_AT_ONCE = 16 * 1024 * 1024


def question_of(
    store: Store,
    capture: Capture,
    intermediate: Intermediate,
    *,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    exact: bool = False,
) -> Question:
    """A question of rows and columns (by position; None: all) of an intermediate."""
    references = store.catalog.references(capture)
    graph = {name: replace(node, references=references.get(name)) for name, node in capture.intermediates.items()}
    return Question(
        key=str(Key(capture.version.model, capture.number, capture.dataset, intermediate.name)),
        target=graph[intermediate.name],
        graph=graph,
        version=capture.version,
        model_is_loaded=store.is_loaded(capture.version),
        rows=np.arange(intermediate.n_rows) if rows is None else np.unique(rows),
        columns=np.arange(intermediate.n_columns) if columns is None else np.unique(columns),
        exact=exact,
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
) -> tuple[Values, Plan]:
    """The values asked, by the cheapest road, and the plan with what it took.

    Rows and columns come back in the order in which they were asked. A model that must not be loaded is run only where
    nothing else answers, and then the error says so; with ``runs=False`` it is no road at all. What a compaction has
    moved in the middle of it is read from where it lies now.
    """
    while True:
        n_moves = store.catalog.moves.n_records
        try:
            return _execute(store, capture, intermediate, rows=rows, columns=columns, exact=exact, runs=runs)
        except StoreError:
            store.catalog.refresh()
            if store.catalog.moves.n_records == n_moves:
                raise


def _execute(
    store: Store,
    capture: Capture,
    intermediate: Intermediate,
    *,
    rows: np.ndarray | None,
    columns: np.ndarray | None,
    exact: bool,
    runs: bool,
) -> tuple[Values, Plan]:
    question = question_of(store, capture, intermediate, rows=rows, columns=columns, exact=exact)
    plan = choose(question, store.calibration, runs=runs)
    started = time.perf_counter()
    if plan.chosen.road == "read":
        values, max_abs_error = _read(store, question.target, question.rows, question.columns)
    elif plan.chosen.road.startswith("derive"):
        values, max_abs_error = _derive(store, question)
    else:
        try:
            values = _recompute(store, capture, question, plan.chosen)
            max_abs_error = question.target.recompute_difference or 0.0
        except UntrustedArtifactError:
            if not can_be_answered_without_running(plan):
                raise
            return _execute(store, capture, intermediate, rows=rows, columns=columns, exact=exact, runs=False)
    done = replace(plan, seconds=time.perf_counter() - started, max_abs_error=max_abs_error)
    if rows is not None and not np.array_equal(rows, question.rows):
        values = values.take(np.searchsorted(question.rows, rows))
    if columns is not None and not np.array_equal(columns, question.columns):
        values = values.reorder(columns)
    return values, done


def row_labels(store: Store, capture: Capture) -> Any:
    """The labels of all rows: a pandas index, or None where rows are merely numbered, or their labels were dropped."""
    node = capture.intermediates.get(ROW_LABEL)
    if node is None or ROW_LABEL not in capture.stored:
        return None
    cached = store.labels.get(capture.orders[ROW_LABEL])
    if cached is None:
        values, _ = execute(store, capture, node)
        cached = pandas_index(values)
        store.labels[capture.orders[ROW_LABEL]] = cached
    return cached


def _recompute(store: Store, capture: Capture, question: Question, chosen: Candidate) -> Values:
    target = question.target
    recomputer, model = store.model(capture.version)
    rows = recompute_rows(question)
    index = row_labels(store, capture)
    sources = {}
    for name in chosen.sources:
        source = question.graph[name]
        values, _ = _read(store, source, rows, np.arange(source.n_columns))
        sources[name] = values.native(None if index is None else index[rows])
    output, seconds = recomputer.run(
        model,
        sources=sources,
        target=target.name,
        intermediates=capture.intermediates,
        batch_rows=capture.version.batch_rows,
        environment=capture.version.environment,
    )
    running = ancestors_that_run(question.graph, target.name, chosen.sources)
    predicted = len(rows) * sum(question.graph[name].forward_seconds_per_row for name in running)
    subject = f"{capture.version.model} {capture.version.run_id}"
    store.calibration.add(Observation("recompute", subject, 0, 0, predicted, sum(seconds.values())))
    what = f"recomputed {target.name!r}"
    described = describe(output, what=what) if target.is_table else describe_array(output, what=what)
    values = values_of(described, target, question.columns)
    return values if len(rows) == len(question.rows) else values.take(np.searchsorted(rows, question.rows))


def _derive(store: Store, question: Question) -> tuple[Values, float]:
    """By rules from the nearest stored ancestor, some row blocks at a time; what the rules took is learned."""
    target, rows = question.target, question.rows
    descent = descent_to(question.graph, target)
    assert isinstance(descent, Descent)
    needed = descent.columns(question.columns)
    kind = target.types[0]
    bits = np.dtype(f"u{np.dtype(kind.cell).itemsize}")
    _, sources = array_places(descent.ancestor, needed[0])
    shape, places = array_places(target, question.columns)
    out = np.empty((len(rows), len(places)), kind.cell)
    worst = seconds = 0.0
    for low, high in _portions(rows, stored_form(descent.ancestor).block_rows, len(needed[0])):
        values, error = _read(store, descent.ancestor, rows[low:high], needed[0])
        started = time.perf_counter()
        columns = np.empty((len(sources), high - low), kind.cell)
        turn(np.ascontiguousarray(values.parts).reshape(high - low, -1).view(bits), 0, columns.view(bits))
        cells = columns[sources]
        numbers = cells.view(float_dtype(kind.dtype)) if kind.is_float else cells
        derived, error = descent.derive(numbers, needed, error)
        columns = np.empty((len(places), high - low), kind.cell)
        columns[places] = derived.view(kind.cell)
        turn(columns.view(bits), 0, out[low:high].view(bits))
        worst = max(worst, error)
        seconds += time.perf_counter() - started
    subject = " ".join(str(step.rule["op"]) for step in descent.steps)
    predicted = derive_seconds(len(rows) * sum(map(len, needed[:-1])))
    store.calibration.add(Observation("derive", subject, 0, 0, predicted, seconds))
    return Values(target, question.columns, out.reshape(len(rows), *shape)), worst


def _portions(rows: np.ndarray, block_rows: int, n_columns: int) -> Iterator[tuple[int, int]]:
    """Ranges of `rows` that are whole row blocks, of about so many cells that a portion is no load on memory."""
    blocks_at_once = max(_CELLS_AT_ONCE // (block_rows * max(n_columns, 1)), 1)
    first = 0
    while first < len(rows):
        end = (int(rows[first]) // block_rows + blocks_at_once) * block_rows
        last = int(np.searchsorted(rows, end))
        yield first, last
        first = last


def _read(store: Store, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray) -> tuple[Values, float]:
    """Stored values, verified, and their error bound; what it took is learned."""
    references = intermediate.references
    assert references is not None
    started = time.perf_counter()
    blocks, groups = chunks_of(intermediate, rows, columns)
    nbytes, n_ranges = read_work(references, blocks, groups)
    values, error = read(store.segments, intermediate, rows, columns)
    predicted = store.calibration.read_cost(str(intermediate.codec["name"])).seconds(nbytes, n_ranges=n_ranges)
    seconds = time.perf_counter() - started
    subject = str(intermediate.codec["name"])
    store.calibration.add(Observation("read", subject, nbytes, n_ranges, predicted, seconds))
    return values, error
