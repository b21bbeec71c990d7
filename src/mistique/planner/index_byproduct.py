"""An index as a by-product of questions: made once they took as long as making it does."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import CaptureWarning, IndexTooLargeError, MistiqueError
from mistique.planner.index_layout import float32_nbytes, keeps_maxima
from mistique.planner.plan import INDEX, Plan, format_nbytes
from mistique.planner.predict import read_seconds
from mistique.planner.question import Question, steps_of
from mistique.schema import Index, Intermediate
from mistique.storage.captures import Capture
from mistique.storage.record_cells import Order
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store

DEFAULT_INDEX_SHARE = 0.2
# Smaller layers are read in some milliseconds.
_MIN_FLOAT32_NBYTES = 16 * 1024 * 1024
# A question that asks more of the units reads most chunks for what it needs.
_MAX_UNITS_SHARE = 0.1


class ColumnReads:
    """What questions of a few units of layers took in this session, by the record of the layer."""

    def __init__(self) -> None:
        self.seconds: dict[Order, float] = defaultdict(float)
        self.given_up: set[Order] = set()


def why_not_indexed(node: Intermediate) -> str:
    """Why an intermediate, with its references, can have no index; empty: it can."""
    if node.is_table:
        return "its columns lie each by itself already: reading one touches no other"
    if node.references is None:
        return "it is not stored"
    if not node.references.is_whole:
        return "only some of its rows are stored"
    if not node.n_rows or not node.n_columns:
        return "it is empty"
    return ""


def index_beside(store: Store, capture: Capture, question: Question, plan: Plan) -> str:
    """Index the target of a question that was answered by reading, if that pays; what was done, in words.

    Notes
    -----
    The rule: once the questions of this session that read whole columns of few units of a layer took together as long
    as reading all of it and writing the index is predicted to take. So no more is ever spent on an index than was lost
    by not having it. A layer of less than 16 MiB as float32 is left alone, and so is one whose index would take more
    than the store's `index_share`, or find no room in its budget.
    """
    target = question.target
    if question.index is not None or plan.chosen.road != "read" or not _asks_few_units(question):
        return ""
    order = capture.orders[target.name]
    if order in store.column_reads.given_up or not store.makes_indexes or why_not_indexed(target):
        return ""
    store.column_reads.seconds[order] += plan.seconds or 0.0
    if store.column_reads.seconds[order] < _building_seconds(store, question):
        return ""
    if not store.has_room(store.index_share * float32_nbytes(target), 0.0, question.key):
        return ""
    try:
        index = build_index(store, capture, target, max_share=store.index_share)
    except IndexTooLargeError:
        store.column_reads.given_up.add(order)
        return ""
    except MistiqueError as error:
        store.column_reads.given_up.add(order)
        warnings.warn(f"{target.name} was answered but not indexed beside: {error}", CaptureWarning, stacklevel=6)
        return ""
    return f"indexed {target.name} ({format_nbytes(index.encoded_nbytes)})"


def index_captured(store: Store, capture: Capture) -> None:
    """Index the layers of a capture that was just made, within the same limits; a failure is a warning."""
    if not store.makes_indexes:
        return
    graph = store.graph(capture)
    for name in capture.stored:
        node = graph.nodes[name]
        if why_not_indexed(node) or name in graph.indexes or float32_nbytes(node) < _MIN_FLOAT32_NBYTES:
            continue
        if not store.has_room(store.index_share * float32_nbytes(node), 0.0, f"{capture.prefix}/{name}"):
            continue
        try:
            build_index(store, capture, node, max_share=store.index_share)
        except IndexTooLargeError:
            store.column_reads.given_up.add(capture.orders[name])
        except MistiqueError as error:
            warnings.warn(f"{name} was captured but not indexed: {error}", CaptureWarning, stacklevel=5)


def build_index(store: Store, capture: Capture, node: Intermediate, *, max_share: float) -> Index:
    """Build it and make it seen; what it took is learned."""
    started = time.perf_counter()
    amounts = 1.0, float(float32_nbytes(node))
    predicted = store.calibration.write_cost(INDEX).seconds(amounts)
    index = store.make_index(capture, node, max_share=max_share)
    seconds = time.perf_counter() - started
    store.calibration.add(Observation("write", INDEX, amounts, predicted, seconds))
    return index


def _asks_few_units(question: Question) -> bool:
    target = question.target
    if target.is_table or float32_nbytes(target) < _MIN_FLOAT32_NBYTES or len(question.rows) < target.n_rows:
        return False
    if keeps_maxima(target) and not question.of_largest:
        return False
    n_units = len(steps_of(question.columns, target.positions))
    return n_units <= max(_MAX_UNITS_SHARE * target.n_units, 1)


def _building_seconds(store: Store, question: Question) -> float:
    target = question.target
    writing = store.calibration.write_cost(INDEX)
    seconds = writing.seconds((1.0, float(float32_nbytes(target))))
    if writing.n_observations:  # which have the reading in them
        return seconds
    whole = np.arange(target.n_columns)
    return seconds + read_seconds(question, target, question.rows, whole, store.calibration)[0]
