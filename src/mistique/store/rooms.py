"""What a store consists of: its rooms, opened together, and closed when the process forks or ends."""

from __future__ import annotations

import atexit
import os
import weakref
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from mistique.dedup.exact import ExactDedup
from mistique.dedup.placement import Placement
from mistique.errors import StoreClosedError, StoreReadOnlyError
from mistique.planner.calibration import Calibration
from mistique.planner.claims import check_stored
from mistique.planner.index_byproduct import DEFAULT_INDEX_SHARE, ColumnReads
from mistique.planner.memory import Memory, Recent
from mistique.planner.models import Models
from mistique.planner.question import StageGraph
from mistique.planner.recomputer import Trust
from mistique.planner.worth import DEFAULT_GAMMA_MIN, Worth
from mistique.storage.artifacts import Artifacts
from mistique.storage.backend import backend_of
from mistique.storage.captures import Capture as Committed
from mistique.storage.catalog import Catalog
from mistique.storage.contexts import generation, renewed
from mistique.storage.digest_index import DigestIndex, Place
from mistique.storage.facts import CaptureId
from mistique.storage.layout import open_layout
from mistique.storage.options import StorageOptions
from mistique.storage.record_cells import Order
from mistique.storage.records import RecordLog
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.segments import SegmentReader
from mistique.storage.usage import Observation, UsageLog

# Of what was recomputed and stays in memory.
DEFAULT_MEMORY_NBYTES = 256 * 1024 * 1024
# Captures whose stages, and whose row labels, stay at hand; graphs of the rows of a layer, each as large as the layer.
_KEPT_GRAPHS, _KEPT_LABELS, _KEPT_ROW_GRAPHS = 256, 64, 8


class Rooms:
    """The part of a `Store` that everything else of it is built on. Parameters as in `mistique.open`."""

    _all: ClassVar[weakref.WeakSet[Rooms]] = weakref.WeakSet()

    def __init__(
        self,
        uri: str,
        *,
        mode: str,
        trust: Trust,
        options: StorageOptions,
        max_buffer_nbytes: int,
        placement: str = "auto",
        gamma_min: float = DEFAULT_GAMMA_MIN,
        max_nbytes: float | None = None,
        index_share: float = DEFAULT_INDEX_SHARE,
        indexes: str = "asked",
        memory_nbytes: int = DEFAULT_MEMORY_NBYTES,
    ) -> None:
        if mode not in ("a", "r"):
            raise ValueError(f'mode: expected "a" to read and write or "r" to look only, got {mode!r}')
        if not is_at_least(0, gamma_min):
            raise ValueError(f"gamma_min: expected seconds a GB, at least 0, or infinity, got {gamma_min!r}")
        if max_nbytes is not None and not is_at_least(1, max_nbytes):
            raise ValueError(f"max_nbytes: expected a number of bytes above 0, or None, got {max_nbytes!r}")
        if not is_at_least(0, index_share):
            raise ValueError(f"index_share: expected a share of the float32 bytes, at least 0, got {index_share!r}")
        if not is_at_least(0, memory_nbytes):
            raise ValueError(f"memory_nbytes: expected a number of bytes, at least 0, got {memory_nbytes!r}")
        if indexes not in ("asked", "captured"):
            raise ValueError(f'indexes: expected "asked" or "captured", got {indexes!r}')
        self.uri, self.mode, self.trust = uri, mode, trust
        self.index_share, self.indexes = index_share, indexes
        self.gamma_min, self.max_nbytes = gamma_min, max_nbytes
        self.memory_nbytes = memory_nbytes
        self._options, self._max_buffer_nbytes = options, max_buffer_nbytes
        self._placement = Placement(placement)
        self._closed = ""
        self._ctx, self._generation = options.context(uri), generation()
        self._layout = open_layout(uri, ctx=self._ctx, create=mode == "a")
        self._open_rooms()
        Rooms._all.add(self)

    def _open_rooms(self) -> None:
        self.segments = SegmentReader(self._layout, self._ctx)
        layout = self._layout
        self._logs = [RecordLog(uri, self._ctx, self._options) for uri in (layout.catalog, layout.usage)]
        self._catalog = Catalog(self._logs[0])
        self._usage = UsageLog(self._logs[1], is_writable=self.mode == "a")
        self._digests = DigestIndex(self._layout.digests, self._ctx)
        # Not a method of this store: a store that nobody holds should go at once, not when the garbage is collected.
        self._dedup = ExactDedup(self._digests, self.segments, partial(_follow, self._catalog))
        self._n_moves = 0
        self._said_no_index = False
        self._artifacts = Artifacts(self._layout, self._ctx)
        self._known: tuple[Calibration, Worth] | None = None
        self._models = Models(self._artifacts, trust=self.trust)
        self._warm: set[str] = set()
        self._graphs: Recent[CaptureId, StageGraph] = Recent(_KEPT_GRAPHS)
        self.labels: Recent[Order, Any] = Recent(_KEPT_LABELS)
        self.memory = Memory(self.memory_nbytes)
        self.column_reads = ColumnReads()
        self.row_graphs: Recent[tuple[Any, ...], Any] = Recent(_KEPT_ROW_GRAPHS)

    @property
    def catalog(self) -> Catalog:
        """What was captured."""
        self._check()
        self._renew()
        return self._catalog

    def _renew(self) -> None:
        """Go on in a fresh context, if it is time: the old one is full of timers."""
        if self._generation != generation():
            before, self._generation, self._ctx = self._ctx, generation(), renewed(self._ctx)
            if self._ctx is before:
                return
            using = self.segments.use, self._digests.use, self._artifacts.use, *(log.use for log in self._logs)
            for use in using:
                use(self._ctx)

    @property
    def calibration(self) -> Calibration:
        """What reads and recomputations were measured to cost."""
        return self._learned()[0]

    @property
    def worth(self) -> Worth:
        """What was asked for, and what storing it saved or would have."""
        return self._learned()[1]

    @property
    def runnable(self) -> Models:
        """The models that were loaded to be run again."""
        self._check()
        return self._models

    @property
    def learns(self) -> bool:
        """What is asked for often is stored when it is recomputed."""
        return self.mode == "a" and self.gamma_min < float("inf")

    @property
    def makes_indexes(self) -> bool:
        """A layer of which columns are asked for often gets an index."""
        return self.mode == "a" and self.index_share > 0

    def graph(self, capture: Committed) -> StageGraph:
        """The intermediates of a capture, with references of those that are stored; kept until that changes."""
        capture = self.catalog.current(capture)
        known = self._graphs.get(capture.id)
        if known is None or known.capture is not capture or known.n_moves != self._catalog.moves.n_records:
            references = self.catalog.references(capture)
            nodes = {
                name: replace(node, references=references.get(name)) for name, node in capture.intermediates.items()
            }
            for node in nodes.values():
                if node.is_stored:
                    check_stored(node)
            indexes = self._catalog.sound_indexes(capture)
            graph = StageGraph(capture, self._catalog.moves.n_records, nodes, indexes=indexes)
            known = self._graphs.keep(capture.id, graph)
        return known

    def observe(self, observation: Observation) -> None:
        """Keep what was measured, without reading what was measured before."""
        if self._known is None:
            self._usage.observe(observation)
        else:
            self.calibration.add(observation)

    def is_cold(self, subject: str) -> bool:
        """Whether nothing of the kind was read yet in this process; asked again, it was."""
        is_cold = subject not in self._warm
        self._warm.add(subject)
        return is_cold

    def close(self) -> None:
        """Write what was measured and let go of the files. Closing twice does no harm."""
        if not self._closed:
            self._usage.flush()
            self.segments.close()
            self._closed = "it was closed"

    def _learned(self) -> tuple[Calibration, Worth]:
        self._check()
        if self._known is None:
            observations, demands = self._usage.load()
            backend = backend_of(self.uri, self._options.config)
            calibration = Calibration(observations, self._usage.observe, backend=backend)
            self._known = calibration, Worth(demands, calibration, self._usage.ask)
        return self._known

    def _make_writer(self) -> SegmentWriter:
        self._check()
        return SegmentWriter(self._layout, self._ctx, self._options)

    def _notice_moves(self) -> None:
        """Forget where chunks lay if a compaction, here or elsewhere, has moved some."""
        self._catalog.refresh()
        if self._catalog.moves.n_records != self._n_moves:
            self._n_moves = self._catalog.moves.n_records
            self._dedup.forget()

    def _check(self) -> None:
        if self._closed:
            raise StoreClosedError(uri=self.uri, reason=self._closed)

    def _check_writable(self, action: str) -> None:
        self._check()
        if self.mode == "r":
            raise StoreReadOnlyError(uri=self.uri, action=action)


def _follow(catalog: Catalog, place: Place) -> Place | None:
    """Where a chunk lies that the index names; None: nobody should begin to use it."""
    moves = catalog.moves
    if not moves.n_records:
        return place
    names, points = moves.follow(place.segment, np.array([place.unit]), np.array([place.place]))
    number, unit, at = points[0].tolist()
    return None if moves.is_gone(names[number]) else Place(names[number], unit, at)


def _after_fork_in_child() -> None:
    # TileDB gives parent and child the same fragment names and hangs or loses writes: the child must open for itself.
    for store in Rooms._all:
        store._closed = "it was opened before this process was forked off"
        store.segments.abandon()


def _at_exit() -> None:
    # Few people close a store; what their reads took is worth a few milliseconds.
    for store in Rooms._all:
        if not store._closed:
            store._usage.flush()


def is_at_least(least: float, value: object) -> bool:
    """Whether it is a number, and not below another: 2e9 bytes are as good as 2_000_000_000."""
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) >= least


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
