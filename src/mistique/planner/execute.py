"""Running a plan: the one file of the planner that touches storage."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.ingest.columns import describe, describe_array
from mistique.planner.choose import Question, ancestors_that_run, choose, chunks_of, read_work, recompute_rows
from mistique.planner.plan import Candidate, Plan
from mistique.planner.reading import read
from mistique.planner.values import Values, pandas_index, values_of
from mistique.schema import ROW_LABEL, Intermediate, Key
from mistique.storage.catalog import Capture
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store


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
) -> tuple[Values, Plan]:
    """The values asked, by the cheapest road, and the plan with what it took.

    Rows and columns come back in the order in which they were asked.
    """
    question = question_of(store, capture, intermediate, rows=rows, columns=columns, exact=exact)
    plan = choose(question, store.calibration)
    started = time.perf_counter()
    if plan.chosen.road == "read":
        values, max_abs_error = _read(store, question.target, question.rows, question.columns)
    else:
        values = _recompute(store, capture, question, plan.chosen)
        max_abs_error = question.target.recompute_difference or 0.0
    done = replace(plan, seconds=time.perf_counter() - started, max_abs_error=max_abs_error)
    if rows is not None and not np.array_equal(rows, question.rows):
        values = values.take(np.searchsorted(question.rows, rows))
    if columns is not None and not np.array_equal(columns, question.columns):
        values = values.reorder(columns)
    return values, done


def row_labels(store: Store, capture: Capture) -> Any:
    """The labels of all rows: a pandas index, or None where rows are merely numbered."""
    node = capture.intermediates.get(ROW_LABEL)
    if node is None:
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
