"""Running a plan: the one file of the planner that touches storage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.codecs import codec_from_config
from mistique.codecs.power import float_dtype
from mistique.errors import UntrustedArtifactError
from mistique.ingest.columns import Column, describe, describe_array
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
from mistique.planner.values import Values, pandas_index, values_of
from mistique.schema import ROW_LABEL, Intermediate, Key
from mistique.storage.catalog import Capture
from mistique.storage.segments import SegmentReader
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
    nothing else answers, and then the error says so; with ``runs=False`` it is no road at all.
    """
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
            return execute(store, capture, intermediate, rows=rows, columns=columns, exact=exact, runs=False)
    done = replace(plan, seconds=time.perf_counter() - started, max_abs_error=max_abs_error)
    if rows is not None and not np.array_equal(rows, question.rows):
        values = values.take(np.searchsorted(question.rows, rows))
    if columns is not None and not np.array_equal(columns, question.columns):
        values = _reorder(values, columns)
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


def _reorder(values: Values, columns: np.ndarray) -> Values:
    order = np.searchsorted(values.columns, columns)
    if isinstance(values.parts, np.ndarray):
        return Values(values.intermediate, columns, values.parts[order])
    return Values(values.intermediate, columns, [values.parts[i] for i in order])


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
    out = np.empty((len(question.columns), len(rows)), kind.cell)
    worst = seconds = 0.0
    for low, high in _portions(rows, descent.ancestor.block_rows, len(needed[0])):
        read, error = _read(store, descent.ancestor, rows[low:high], needed[0])
        started = time.perf_counter()
        cells = np.asarray(read.parts)
        numbers = cells.view(float_dtype(kind.dtype)) if kind.is_float else cells
        derived, error = descent.derive(numbers, needed, error)
        out[:, low:high] = derived.view(kind.cell)
        worst = max(worst, error)
        seconds += time.perf_counter() - started
    subject = " ".join(str(step.rule["op"]) for step in descent.steps)
    predicted = derive_seconds(len(rows) * sum(map(len, needed[:-1])))
    store.calibration.add(Observation("derive", subject, 0, 0, predicted, seconds))
    return Values(target, question.columns, out), worst


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
    if intermediate.is_table:
        values, error = _read_table(store.segments, intermediate, rows, columns)
    else:
        values, error = _read_array(store.segments, intermediate, rows, columns)
    predicted = store.calibration.read_cost(str(intermediate.codec["name"])).seconds(nbytes, n_ranges=n_ranges)
    seconds = time.perf_counter() - started
    subject = str(intermediate.codec["name"])
    store.calibration.add(Observation("read", subject, nbytes, n_ranges, predicted, seconds))
    return values, error


def _read_table(
    segments: SegmentReader, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    cells: dict[int, np.ndarray] = {}
    worst = 0.0
    blocks, groups = chunks_of(intermediate, rows, columns)
    masks = {group: column for column, group in intermediate.mask_groups.items()}
    for group in groups.tolist():
        is_text = group not in masks and intermediate.type_of(group).cell == "<U0"
        dtype = np.uint8 if group in masks else object if is_text else np.dtype(intermediate.type_of(group).cell)
        cells[group] = np.empty(len(rows), dtype)
    for block, group, chunk, error in _decoded(segments, intermediate, blocks, groups):
        worst = max(worst, error)
        low, high = np.searchsorted(rows, [block * intermediate.block_rows, (block + 1) * intermediate.block_rows])
        cells[group][low:high] = chunk[0, rows[low:high] - block * intermediate.block_rows]
    parts = []
    for column in columns.tolist():
        mask = intermediate.mask_groups.get(column)
        valid = None if mask is None else cells[mask].astype(bool)
        parts.append(Column(cells[column], valid, intermediate.type_of(column)))
    return Values(intermediate, columns, parts), worst


def _read_array(
    segments: SegmentReader, intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray
) -> tuple[Values, float]:
    out = np.empty((len(columns), len(rows)), intermediate.types[0].cell)
    worst = 0.0
    blocks, groups = chunks_of(intermediate, rows, columns)
    width, height = intermediate.group_columns, intermediate.block_rows
    for block, group, chunk, error in _decoded(segments, intermediate, blocks, groups):
        worst = max(worst, error)
        top, bottom = np.searchsorted(columns, [group * width, (group + 1) * width])
        low, high = np.searchsorted(rows, [block * height, (block + 1) * height])
        wanted_columns, wanted_rows = columns[top:bottom] - group * width, rows[low:high] - block * height
        if len(wanted_columns) == len(chunk) and len(wanted_rows) == chunk.shape[1]:
            out[top:bottom, low:high] = chunk
        else:
            out[top:bottom, low:high] = chunk[np.ix_(wanted_columns, wanted_rows)]
    return Values(intermediate, columns, out), worst


def _decoded(
    segments: SegmentReader, intermediate: Intermediate, blocks: np.ndarray, groups: np.ndarray
) -> Iterator[tuple[int, int, np.ndarray, float]]:
    """Each chunk at these blocks and groups: block, group, values of shape (n_columns, n_rows), error bound."""
    references = intermediate.references
    assert references is not None
    for run in references.runs:
        segment = references.segments[run.segment]
        codec = codec_from_config(segment.codec)
        in_blocks = blocks[(blocks >= run.block) & (blocks < run.block + run.n_blocks)]
        in_groups = groups[(groups >= run.group) & (groups < run.group + run.n_groups)]
        for b, n_blocks in _ranges(in_blocks):
            for g, n_groups in _ranges(in_groups):
                cells, params = segments.read(
                    segment,
                    block=run.segment_block + b - run.block,
                    n_blocks=n_blocks,
                    group=run.segment_group + g - run.group,
                    n_groups=n_groups,
                )
                for i in range(n_blocks):
                    for j in range(n_groups):
                        chunk = cells[
                            j * segment.group_columns : (j + 1) * segment.group_columns,
                            i * segment.block_rows : (i + 1) * segment.block_rows,
                        ]
                        # A mask lies behind the values and is always exact.
                        group = g + j
                        is_mask = group >= intermediate.n_groups
                        kind = intermediate.type_of(group if intermediate.is_table and not is_mask else 0)
                        error = 0.0 if is_mask else codec.max_abs_error(params[i, j][None], kind)
                        yield b + i, group, codec.decode(chunk, params[i, j], kind), error


def _ranges(sorted_numbers: np.ndarray) -> list[tuple[int, int]]:
    """First number and length of each run of consecutive numbers."""
    if not len(sorted_numbers):
        return []
    cuts = np.flatnonzero(np.diff(sorted_numbers) > 1) + 1
    return [(int(part[0]), len(part)) for part in np.split(sorted_numbers, cuts)]
