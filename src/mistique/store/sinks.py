"""A store as its captures see it: what they need of it, and how what they took is made seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mistique.codecs import stored_form
from mistique.errors import CaptureWarning, StoreError
from mistique.ingest.buffer import Buffered, SegmentBuffer
from mistique.kernels.distinct import distinct
from mistique.planner.index_byproduct import index_captured
from mistique.schema import Intermediate, Version
from mistique.storage.artifacts import Artifact
from mistique.storage.captures import Capture as Committed
from mistique.storage.digests import content_key
from mistique.storage.fragments import random_timestamp
from mistique.storage.references import added_blocks
from mistique.storage.usage import Observation

if TYPE_CHECKING:
    from mistique.store.store import Store


class StoreSink:
    """A store as its captures see it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self) -> None:
        """As `mistique.ingest.capture.Sink`, which says what each of these does."""
        self._store._check()

    def held(self, lineage: str, is_wanted: Callable[[Intermediate], bool]) -> Intermediate | None:
        """What the catalog holds, by a record that this user sealed."""
        return self._store.catalog.held(lineage, is_wanted)

    def derived(self, lineage: str) -> Intermediate | None:
        """What was left out, by a record that this user sealed."""
        return self._store.catalog.derived(lineage)

    def pays(self, intermediate: Intermediate, *, row_seconds: float, row_nbytes: float) -> bool:
        """By the store's threshold."""
        store = self._store
        return store.worth.expected_gamma(intermediate, row_seconds, row_nbytes) >= store.gamma_min

    def buffer(self) -> SegmentBuffer:
        """With what the store knows of chunks that it holds."""
        store = self._store
        # Files of both are held against checksums, and read, without the GIL.
        with ThreadPoolExecutor(1) as beside:
            refreshed = beside.submit(store._dedup.refresh)
            store._notice_moves()
            refreshed.result()
        return SegmentBuffer(
            store._make_writer, store._dedup, store._placement, key=content_key(), max_nbytes=store._max_buffer_nbytes
        )

    def keep(self, artifact: Artifact) -> str:
        """Signed by this user."""
        self._store._check()
        self._store._catalog.refresh()
        return self._store._artifacts.put(artifact.outside(self._store._catalog.moves.going))

    def commit(
        self, version: Version, dataset: str, intermediates: Sequence[Intermediate], buffered: Buffered
    ) -> Committed:
        """The catalog first, then what makes its chunks known; then the budget is held, and indexes are made in it."""
        store = self._store
        store._check()
        committed = store._catalog.commit(version, dataset, intermediates)
        # The seconds of its stages are of this machine.
        store.observe(Observation("captured", f"{version.model} {version.run_id}", (1.0,), 0.0, 1e-6))
        self.remember(buffered)
        store._hold_budget()
        if store.indexes == "captured":
            index_captured(store, committed)
        return committed

    def remember(self, buffered: Buffered) -> None:
        """After the commit: an index of what was never committed would outlive its segment. It is advice."""
        store = self._store
        with suppress(StoreError):
            store._digests.add(buffered.places, timestamp=random_timestamp())
        store._dedup.remember(buffered.columns)
        if store._dedup.failure is not None and not store._said_no_index:
            store._said_no_index = True  # once, not for each epoch of a training
            warnings.warn(
                "captures are stored whole, but what the store holds already is stored again, because its index of "
                f"digests cannot be read: {store._dedup.failure}\n"
                f"mistique check {store.uri} --repair mends it; nothing has to be captured again",
                CaptureWarning,
                stacklevel=5,
            )


class LaterSink(StoreSink):
    """A store as it is seen by what stores an intermediate after its capture, or more of its blocks."""

    def __init__(self, store: Store, capture: Committed, node: Intermediate, rows: np.ndarray) -> None:
        super().__init__(store)
        self._capture, self._node, self._rows = capture, node, rows

    def commit(
        self, version: Version, dataset: str, intermediates: Sequence[Intermediate], buffered: Buffered
    ) -> Committed:
        """What was taken becomes a part of the capture, beside the blocks that are stored already."""
        (taken,) = intermediates
        # Somebody may have stored other blocks since the question was asked: a query takes its rows in portions.
        capture = self._store.catalog.current(self._capture)
        node = self._store.graph(capture).nodes[self._node.name]
        form = stored_form(node)
        assert taken.references is not None
        blocks = distinct(self._rows // form.block_rows)
        n_blocks = -(-node.n_rows // form.block_rows)
        whole = len(blocks) == n_blocks
        before = None if whole else node.references
        references = added_blocks(before, taken.references, blocks=blocks, n_blocks=n_blocks)
        # What came out of a run may differ from what was captured by as much as was seen there.
        error = taken.summary_error + (node.recompute_difference or 0.0)
        stored = replace(
            node,
            references=references,
            summary_error=error if before is None else max(error, node.summary_error),
            stored_nbytes=taken.stored_nbytes + (node.stored_nbytes if before is not None else 0),
        )
        self._store._check()
        self._store._catalog.add(capture, stored)
        self._store.worth.note_written(node, taken.raw_nbytes, taken.stored_nbytes)
        self.remember(buffered)
        return capture
