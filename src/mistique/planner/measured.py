"""Reads that are measured, and what the parts of an answer took."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from mistique.codecs import stored_form
from mistique.planner.calibration import Calibration
from mistique.planner.cost import READ_START, Cost
from mistique.planner.index_bounds import read_bounds
from mistique.planner.index_layout import BOUNDS, MAXIMA, IndexPlaces
from mistique.planner.index_read import index_work, read_index, read_maxima
from mistique.planner.plan import INDEX
from mistique.planner.question import Question, memory_amounts, memory_subject, read_subject
from mistique.planner.read_work import read_work
from mistique.planner.reading import read
from mistique.planner.values import Values
from mistique.schema import Intermediate
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store

_BOUNDS, _BELIEVED = f"{INDEX} {BOUNDS}", 3


@dataclass(slots=True)
class Took:
    """What the parts of an answer took, in seconds, and the encoded bytes that were read."""

    import_seconds: float = 0.0
    load_seconds: float = 0.0
    labels_seconds: float = 0.0
    setup_seconds: float = 0.0
    read_seconds: float = 0.0
    run_seconds: float = 0.0
    derive_seconds: float = 0.0
    write_seconds: float = 0.0
    memory_seconds: float = 0.0
    read_nbytes: int = 0

    def parts(self) -> dict[str, float]:
        """Those that took any time."""
        found = asdict(self)
        return {name.removesuffix("_seconds"): s for name, s in found.items() if s and name.endswith("_seconds")}


def read_stored(
    store: Store,
    intermediate: Intermediate,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    took: Took,
    by_column: bool = False,
) -> tuple[Values, float]:
    """Stored values, verified, and their error bound; what it took is learned."""
    (found,) = read_parts(store, intermediate, [(rows, columns)], took=took, by_column=by_column)
    return found


def read_parts(
    store: Store,
    intermediate: Intermediate,
    parts: list[tuple[np.ndarray, np.ndarray]],
    *,
    took: Took,
    by_column: bool = False,
) -> list[tuple[Values, float]]:
    """Several parts of one intermediate, each some rows and columns; what they took together is learned.

    But for the first of a codec in a process: it loads what decodes it.
    """
    started = time.perf_counter()  # to count what there is to read is a tenth of a small read
    table_of = store.segments.open_table
    works = [read_work(intermediate, *part, table_of=table_of, by_column=by_column) for part in parts]
    subject, amounts = read_subject(intermediate), tuple(map(sum, zip(*(work.amounts for work in works), strict=True)))
    predicted = store.calibration.read_cost(subject).seconds(amounts)
    found = [read(store.segments, intermediate, rows, columns, by_column=by_column) for rows, columns in parts]
    seconds = time.perf_counter() - started
    if not store.is_cold(subject):
        store.calibration.add(Observation("read", subject, amounts, predicted, seconds))
    took.read_seconds += seconds
    took.read_nbytes += sum(work.encoded_nbytes for work in works)
    return found


def read_indexed(store: Store, question: Question, *, took: Took) -> tuple[Values, float]:
    """The values asked, by the index of what they are asked of; what it took is learned, but for the first time."""
    index, target = question.index, question.target
    assert index is not None
    work = index_work(question, index)
    predicted = store.calibration.read_cost(INDEX).seconds(work.amounts)
    started = time.perf_counter()
    places = IndexPlaces.of(index, stored_form(target))
    road = read_maxima if index.form == MAXIMA else read_index
    values, error = road(store.segments, places, target, question.rows, question.columns)
    seconds = time.perf_counter() - started
    if not store.is_cold(INDEX):  # the first of a process loads what decodes them
        store.calibration.add(Observation("read", INDEX, work.amounts, predicted, seconds))
    took.read_seconds += seconds
    took.read_nbytes += work.encoded_nbytes
    return values, error


def remembered(store: Store, question: Question, *, took: Took) -> tuple[Values, float]:
    """The values asked, of what is kept in memory; what it took is learned."""
    kept, subject, amounts = question.kept, memory_subject(question.target), memory_amounts(question)
    assert kept is not None
    predicted = store.calibration.memory_cost(subject).seconds(amounts)
    started = time.perf_counter()
    values = kept.part(question.rows, question.columns)
    took.memory_seconds += time.perf_counter() - started
    store.calibration.add(Observation("memory", subject, amounts, predicted, took.memory_seconds))
    return values, kept.max_abs_error


def has_bounds(question: Question) -> bool:
    """Whether the target has an index of bounds, that answers what is asked."""
    index, target = question.index, question.target
    is_bounds = index is not None and index.form == BOUNDS and target.references is not None
    # A layer that is kept pooled has bounds of what is kept.
    return is_bounds and stored_form(target) is target and not (question.exact and target.summary_error)


def bounds_seconds(question: Question, calibration: Calibration) -> float:
    """What reading the bounds of the columns asked is predicted to take.

    What was measured once or twice is not believed yet: had the machine been busy, they would never be read again.
    """
    assert question.index is not None
    cost = calibration.read_cost(_BOUNDS)
    each = cost.seconds_each if cost.n_observations >= _BELIEVED else READ_START
    return Cost(each, cost.n_observations).seconds(index_work(question, question.index).amounts)


def read_bounds_of(
    store: Store, question: Question, columns: np.ndarray, *, took: Took
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of some columns, in the order given, in all rows; what it took is learned."""
    index, target = question.index, question.target
    assert index is not None
    predicted = bounds_seconds(question, store.calibration)
    started = time.perf_counter()
    found = read_bounds(store.segments, IndexPlaces.of(index, target), target, columns)
    seconds = time.perf_counter() - started
    work = index_work(question, index)
    if not store.is_cold(_BOUNDS):
        store.calibration.add(Observation("read", _BOUNDS, work.amounts, predicted, seconds))
    took.read_seconds += seconds
    took.read_nbytes += work.encoded_nbytes
    return found
