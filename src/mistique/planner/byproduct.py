"""What an answer stores beside it: an intermediate that was recomputed, once that pays."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.codecs import codec_from_config, stored_form
from mistique.errors import CaptureWarning, MistiqueError
from mistique.ingest.capture import Capture as Taking
from mistique.ingest.columns import Described
from mistique.planner.cost import gamma
from mistique.planner.plan import Candidate, format_nbytes
from mistique.planner.predict import read_seconds_if_stored, ready_seconds
from mistique.planner.question import Question, is_held, whole_steps
from mistique.planner.roads import recompute_from
from mistique.schema import Intermediate
from mistique.storage.captures import Capture
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store import Store

# A table is run and stored whole, as it was at its capture: a larger one is no load to take on beside an answer.
_MAX_TABLE_NBYTES = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What to run besides the rows asked for, and whether to store it.

    Parameters
    ----------
    rows : ndarray of int64
        Whole row blocks, or none.
    are_stored : bool
        Otherwise they are for the memory alone.
    """

    rows: np.ndarray
    are_stored: bool = True


_NONE = Wanted(np.empty(0, np.int64))


def rows_to_store(store: Store, capture: Capture, question: Question, chosen: Candidate, missing: np.ndarray) -> Wanted:
    """The rows that are worth storing, or keeping in memory, now that the model runs for some of them.

    Notes
    -----
    Two conditions. Gamma, of all questions so far and this one, is not below the store's threshold; none of them counts
    for more than this one would lose again. And what was lost to recomputing so far is not below what storing costs:
    rows that nobody asked for but that a block needs, encoding, writing. So no more is ever spent on storing than was
    lost by not having stored.

    What was run whole stays in memory, and costs no byte of the store. So where there is room for it, one whole run
    does not count as lost: it is stored when it has to be run again, in another session, or as memory could not hold
    it. And all rows of a table are run for the memory as soon as what was lost by running some of them pays for that.
    """
    target, calibration = question.target, store.calibration
    if not store.learns or target.role not in ("stage", "prediction") or not len(missing):
        return _NONE
    if target.is_table and target.raw_nbytes > _MAX_TABLE_NBYTES:
        return _NONE
    if question.version.batch_rows and not target.is_table:
        rows = whole_steps(missing, stored_form(target).block_rows, target.n_rows)
        rows = rows[~is_held(target, rows)]
    else:  # a step may tell one row by the others, so only all of them are what was captured
        rows = np.arange(target.n_rows)
    whole_nbytes = store.worth.expected_nbytes(capture, target)
    nbytes = whole_nbytes * len(rows) / max(target.n_rows, 1)
    getting_ready = ready_seconds(question, chosen.sources, calibration)
    demand = store.worth.demand(capture, target.name)
    loses = chosen.predicted_seconds - getting_ready - read_seconds_if_stored(question, calibration)
    running = recompute_from(question, chosen.sources, rows, calibration).predicted_seconds
    more = max(running - chosen.predicted_seconds, 0.0)
    lost = demand.saved_seconds + loses
    is_all = len(rows) == target.n_rows
    stays = is_all and (target.is_table or len(missing) == target.n_rows) and store.memory.takes(target)
    lost_for_good = lost - (running - getting_ready if stays else 0.0)
    # What lies before it may have been stored since those questions, which makes recomputing cheap.
    found = gamma(min(lost_for_good, (demand.n_queries + 1) * loses), nbytes)
    raw_nbytes = target.raw_nbytes * len(rows) / max(target.n_rows, 1)
    writing = calibration.write_cost(str(target.codec["name"])).seconds((1, raw_nbytes))
    pays = found >= store.gamma_min and lost_for_good >= more + writing
    if (pays or target.name in capture.pinned) and store.has_room(nbytes, found, question.key):
        return Wanted(rows)
    return Wanted(rows, are_stored=False) if stays and lost >= more else _NONE


class Beside:
    """Takes what a run gives and stores it. Whatever goes wrong, the answer is given.

    Parameters
    ----------
    target : Intermediate
    rows : ndarray of int64
        Those to be run besides, whole row blocks.
    taking : mistique.ingest.capture.Capture, optional
        None: nothing is stored.
    """

    def __init__(self, target: Intermediate, rows: np.ndarray, taking: Taking | None) -> None:
        self.rows, self.seconds, self.note = rows, 0.0, ""
        self._target, self._taking = target, taking
        self._nbytes = 0

    def take(self, rows: np.ndarray, output: Any, described: Described) -> None:
        """The next rows, whole."""
        if self._taking is None:
            return
        started = time.perf_counter()
        target = self._target
        try:
            if described.types != target.types or described.shape != target.shape:
                raise MistiqueError(f"it came out as {described.types[0].dtype} of shape {described.shape}")
            self._nbytes += described.raw_nbytes
            codec = codec_from_config(target.codec)
            if target.is_table:
                self._taking.add(target.name, output, role=target.role, codec=codec)
            else:
                wanted = np.isin(rows, self.rows, assume_unique=True)
                values = np.asarray(output)
                kept = values if wanted.all() else values[wanted]
                self._taking.append(target.name, kept, role=target.role, codec=codec)
        except MistiqueError as error:
            self._fail(error)
        self.seconds += time.perf_counter() - started

    def finish(self, store: Store) -> None:
        """Make it seen."""
        if self._taking is None:
            return
        started = time.perf_counter()
        try:
            self._taking.commit()
        except MistiqueError as error:
            self._fail(error)
            return
        self.seconds += time.perf_counter() - started
        self.note = f"stored {len(self.rows)} rows of {self._target.name} ({format_nbytes(self._nbytes)} of values)"
        amounts = 1.0, float(self._nbytes)
        codec = str(self._target.codec["name"])
        predicted = store.calibration.write_cost(codec).seconds(amounts)
        store.calibration.add(Observation("write", codec, amounts, predicted, self.seconds))

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._taking is not None:
            self._taking.abort()
            self._taking = None

    def _fail(self, error: MistiqueError) -> None:
        self.abort()
        text = f"{self._target.name} was answered but not stored beside: {error}"
        warnings.warn(text, CaptureWarning, stacklevel=7)


@contextmanager
def stored_beside(store: Store, capture: Capture, target: Intermediate, wanted: Wanted) -> Iterator[Beside]:
    """Something that takes what a run gives, and stores what is to be at the end of a block that raises nothing."""
    rows = wanted.rows
    taking = store.taking(capture, target, rows) if len(rows) and wanted.are_stored else None
    beside = Beside(target, rows, taking)
    try:
        yield beside
    except BaseException:
        beside.abort()
        raise
    beside.finish(store)
