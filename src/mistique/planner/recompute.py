"""Running a kept model again: for the rows needed, from what is stored, in portions that fit the memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mistique.ingest.columns import Described, describe, describe_array
from mistique.planner.measured import Took, read_stored
from mistique.planner.predict import (
    ancestors_that_run,
    around_amounts,
    run_amounts,
    run_subject,
    stage_amounts,
    stage_start,
)
from mistique.planner.question import Question, running_rows
from mistique.planner.recomputer import SETUP
from mistique.planner.values import Values, values_of
from mistique.storage.captures import Capture
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store

# What is held at once of sources, and of target: 64 MB of float32 each, or one batch of the capture if that is more.
_CELLS_AT_ONCE = 16 * 1024 * 1024
# Of the largest value, by bytes of a float.
_ROUNDING = {2: 1e-2, 4: 1e-5, 8: 1e-12}


class Byproduct(Protocol):
    """Takes what a run gave on its way to the answer."""

    rows: np.ndarray
    """Those that it wants, besides the ones asked for."""

    def take(self, rows: np.ndarray, output: Any, described: Described) -> None:
        """The next rows, whole: `output` as the model gave it."""


def portions(rows: np.ndarray, step: int, n_columns: int, *, block_rows: int = 1) -> Iterator[tuple[int, int]]:
    """Ranges of `rows` that are whole steps, of about so many cells that a portion is no load on memory.

    Where it holds a whole block of what is read, it ends with one: what lies across the end would be read twice.
    """
    steps_at_once = max(_CELLS_AT_ONCE // (step * max(n_columns, 1)), 1)
    steps_at_once -= steps_at_once % min(-(-block_rows // step), steps_at_once)
    first = 0
    while first < len(rows):
        end = (int(rows[first]) // step + steps_at_once) * step
        last = int(np.searchsorted(rows, end))
        yield first, last
        first = last


def recompute(
    store: Store,
    capture: Capture,
    question: Question,
    sources: tuple[str, ...],
    rows: np.ndarray,
    *,
    index: Any,
    took: Took,
    byproduct: Byproduct,
) -> tuple[Values, float]:
    """The columns asked of some rows, by the model, and how far they may be from what was captured.

    Parameters
    ----------
    store : Store
    capture : Capture
    question : Question
    sources : tuple of str
        Stored intermediates that cut the target off from the input.
    rows : ndarray of int64, sorted
    index : Index, optional
        Labels of all rows.
    took : Took
    byproduct : Byproduct

    Notes
    -----
    What was seen to differ at the capture; where fewer rows run together than did then, sums may be rounded in another
    order, which is allowed for. A wide layer runs in portions, and its sources are narrow: they are read for many
    portions at once, as chunks are decoded whole (four portions of a first convolution decoded each image four times).
    """
    target, version = question.target, capture.version
    model = store.runnable.get(version, took=took, calibration=store.calibration)
    # To find that there is nothing to add takes 8 ms of 20,000 rows.
    wanted = np.union1d(rows, byproduct.rows) if len(byproduct.rows) else rows
    running = running_rows(question, wanted)
    stages: dict[str, float] = {}
    setup_seconds = run_seconds = 0.0
    found: list[Values] = []
    # A table is stored as it was captured, all rows at once.
    takes_whole = target.is_table and len(byproduct.rows) > 0
    reads = [(0, len(running), [(0, len(running))])] if takes_whole else _portions_of(question, sources, running)
    # A pipeline that ran in portions may have added in another order than all at once.
    is_whole = len(running) == target.n_rows and (
        version.batch_rows > 0 or sum(len(ranges) for *_, ranges in reads) == 1
    )
    keeps = is_whole and store.memory.takes(target)
    columns = np.arange(target.n_columns) if keeps else question.columns
    for part, stored in _read_sources(store, question, sources, running, reads, took=took):
        started = time.perf_counter()
        labels = None if index is None else index[part]
        given = {name: values.native(labels) for name, values in stored.items()}
        run_seconds += time.perf_counter() - started
        output, seconds, passed_seconds = store.runnable.run(
            version, model, sources=given, target=target.name, intermediates=capture.intermediates
        )
        started = time.perf_counter()
        what = f"recomputed {target.name!r}"
        described = describe(output, what=what) if target.is_table else describe_array(output, what=what)
        values = values_of(described, target, columns)
        if not keeps and len(running) > len(rows):
            values = values.take(np.flatnonzero(np.isin(part, rows, assume_unique=True)))
        found.append(values)
        run_seconds += passed_seconds + time.perf_counter() - started
        byproduct.take(part, output, described)
        setup_seconds += seconds.get(SETUP, 0.0)
        for name, stage_seconds in seconds.items():
            stages[name] = stages.get(name, 0.0) + stage_seconds
    stages.pop(SETUP, None)
    started = time.perf_counter()
    values = found[0].joined(*found[1:])
    run_seconds += time.perf_counter() - started - setup_seconds
    amounts = stage_amounts(question, len(running))
    for name, stage_seconds in stages.items():
        if name in question.graph:
            predicted = sum(a * s for a, s in zip(amounts, stage_start(question, name), strict=True))
            subject = f"{question.model}\t{name}"
            store.calibration.add(Observation("stage", subject, amounts, predicted, stage_seconds))
    subject = run_subject(question, sources)
    store.calibration.add(Observation("run", subject, run_amounts(question, len(running)), 0.0, run_seconds))
    around = around_amounts(question, sources, len(running))
    convert_seconds = run_seconds - sum(stages.values())
    store.calibration.add(Observation("around", version.framework, around, 0.0, convert_seconds))
    if setup_seconds:
        n_stages = len(ancestors_that_run(question.graph, target.name, sources))
        store.calibration.add(Observation("setup", question.model, (1.0, float(n_stages)), 0.0, setup_seconds))
    store.runnable.note_set_up(version, target.name, sources, is_new=setup_seconds > 0)
    took.run_seconds += run_seconds
    took.setup_seconds += setup_seconds
    error = target.recompute_difference or 0.0
    if not version.batch_rows and len(running) < target.n_rows:
        error = max(error, _rounding(values))
    if keeps:
        values = store.memory.keep(capture, values, max_abs_error=error).part(rows, question.columns)
    return values, error


def _rounding(values: Values) -> float:
    """What adding in another order does to floats: by experience, of PCA and of linear models, with a margin."""
    parts = [values.parts] if isinstance(values.parts, np.ndarray) else [part.cells for part in values.parts]
    worst = 0.0
    for cells in parts:
        if cells.dtype.kind == "f":
            size = np.abs(cells[np.isfinite(cells)]).max(initial=0.0)
            worst = max(worst, float(size) * _ROUNDING[cells.itemsize])
    return worst


def _portions_of(
    question: Question, sources: tuple[str, ...], rows: np.ndarray
) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Ranges of rows whose sources are read at once, and those within each that run at once.

    Whole batches of the capture; all rows at once where every row may tell on every other.
    """
    batch, target = question.version.batch_rows, question.target
    # What a column of text or of nulls is taken for depends on which rows are seen.
    is_plain = not any(kind.is_nullable or kind.categories or kind.cell == "<U0" for kind in target.types)
    if not batch and (question.exact or not is_plain):
        return [(0, len(rows), [(0, len(rows))])]
    nodes, step = [question.graph[name] for name in sources], batch or 4096
    block_rows = max((node.block_rows for node in nodes), default=1)
    found = []
    for first, last in portions(rows, step, sum(node.n_columns for node in nodes), block_rows=block_rows):
        ranges = portions(rows[first:last], step, target.n_columns)
        found.append((first, last, [(first + low, first + high) for low, high in ranges]))
    return found


def _read_sources(
    store: Store,
    question: Question,
    sources: tuple[str, ...],
    rows: np.ndarray,
    reads: list[tuple[int, int, list[tuple[int, int]]]],
    *,
    took: Took,
) -> Iterator[tuple[np.ndarray, dict[str, Values]]]:
    """The rows of each portion, and what is stored of its sources."""
    for first, last, ranges in reads:
        stored = {}
        for name in sources:
            source = question.graph[name]
            stored[name], _ = read_stored(store, source, rows[first:last], np.arange(source.n_columns), took=took)
        for low, high in ranges:
            yield rows[low:high], {name: v.take(slice(low - first, high - first)) for name, v in stored.items()}
