"""What lies behind the records of captures: their intermediates, read by need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mistique.storage.facts import INTERMEDIATE, Fact, fact_of, record_errors
from mistique.storage.record_cells import Order
from mistique.storage.records import RecordLog


class FactsBehind:
    """The intermediates of captures, read and parsed when one of them is asked about, and kept.

    Parameters
    ----------
    log : RecordLog
    """

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._known: dict[Order, list[tuple[Order, Fact]]] = {}

    def of(self, order: Order) -> Sequence[tuple[Order, Fact]]:
        """What lies behind the record of a capture.

        Raises
        ------
        ChunkCorruptError
            One cannot be read, or is no intermediate.
        """
        known = self._known.get(order)
        return self._read([order])[order] if known is None else known

    def read(self, orders: Iterable[Order]) -> None:
        """Read what lies behind some, at once."""
        self._read([order for order in orders if order not in self._known])

    def forget(self, order: Order) -> list[Order]:
        """Keep what lies behind the record of a capture no longer; of what was known, the orders."""
        self._log.forget(order)
        return [order for order, _ in self._known.pop(order, ())]

    def _read(self, missing: Sequence[Order]) -> dict[Order, list[tuple[Order, Fact]]]:
        read: dict[Order, list[tuple[Order, Fact]]] = {}
        for head, records in zip(missing, self._log.behind(missing) if missing else (), strict=True):
            found: list[tuple[Order, Fact]] = []
            for order, record in records:
                with record_errors(order, record):
                    if record.kind != INTERMEDIATE:
                        raise ValueError(f"a {record.kind} among intermediates")
                    found.append((order, fact_of(record)))
            self._known[head] = read[head] = found
        return read
