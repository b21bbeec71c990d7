"""References and figures as the records of a catalog hold them, and whether this user's key sealed those records."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from mistique.schema import References, Tally
from mistique.storage.captures import Capture
from mistique.storage.digests import is_sealed
from mistique.storage.record_bodies import SEAL_FIELD, figures_in, references_in
from mistique.storage.record_cells import Order
from mistique.storage.record_fields import to_json
from mistique.storage.records import RecordLog

# What a seal of a record is of.
RECORD_SEAL = "record"


class WrittenReferences:
    """What lies in the attachments of a log, read when it is asked for; references are kept."""

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._references: dict[Order, References] = {}
        self._sealed: dict[Order, bool] = {}

    def of(self, capture: Capture, names: Iterable[str] | None = None) -> dict[str, References]:
        """The references of stored intermediates of a capture, of all of them if none are named.

        Raises
        ------
        ChunkCorruptError
        """
        orders = {name: capture.orders[name] for name in (capture.stored if names is None else names)}
        found = {name: self._references[order] for name, order in orders.items() if order in self._references}
        missing = [name for name in orders if name not in found]
        contents = self._log.attachments([orders[name] for name in missing]) if missing else []
        for name, content in zip(missing, contents, strict=True):
            found[name] = references_in(content, f"references of {capture.prefix}/{name}")
            self.remember(orders[name], found[name], is_own=self.is_own(orders[name], content))
        return found

    def remember(self, order: Order, references: References, *, is_own: bool) -> None:
        """Keep references that were just written."""
        self._references[order], self._sealed[order] = references, is_own

    def forget(self, orders: Iterable[Order]) -> None:
        """Keep those of some records no longer."""
        for order in orders:
            self._references.pop(order, None)
            self._sealed.pop(order, None)

    def of_index(self, capture: Capture, name: str) -> References:
        """The references of an index.

        Raises
        ------
        ChunkCorruptError
        """
        order, _ = capture.indexes[name]
        if order not in self._references:
            (content,) = self._log.attachments([order])
            self._references[order] = references_in(content, f"references of the index of {capture.prefix}/{name}")
        return self._references[order]

    def figures(self, capture: Capture, tally: Tally) -> np.ndarray:
        """The figures of a tally of a capture, (n_figures, n_columns), float64.

        Raises
        ------
        ChunkCorruptError
        """
        order, _ = capture.tallies[tally.name, tally.what]
        (content,) = self._log.attachments([order])
        return figures_in(content, tally, f"figures of {capture.prefix}/{tally.name}")

    def were_sealed(self, order: Order) -> bool:
        """Whether this user's key sealed the record of references that were read."""
        return self._sealed[order]

    def is_own(self, order: Order, attachment: bytes) -> bool:
        """Whether this user's key sealed that record, with that attachment, as they were written."""
        body = json.loads(self._log.record(order).body)
        found = body.pop(SEAL_FIELD, None)
        return found is not None and is_sealed(found, RECORD_SEAL, to_json(body), attachment)
