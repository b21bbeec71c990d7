"""What reads and recomputations took, kept in the store for the planner."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from mistique.errors import StoreError
from mistique.storage.record_cells import Record
from mistique.storage.records import RecordLog

_FLUSH_AT = 64


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured read, recomputation or derivation.

    Parameters
    ----------
    kind : {"read", "recompute", "derive"}
    subject : str
        The codec that was read, ``model@version`` that was run, or the rules that were followed.
    encoded_nbytes : int
        Bytes read; 0 for a recomputation and a derivation, which counts its read apart.
    n_ranges : int
        Contiguous runs that they lay in.
    predicted_seconds : float
    seconds : float
        What it took.
    """

    kind: str
    subject: str
    encoded_nbytes: int
    n_ranges: int
    predicted_seconds: float
    seconds: float


class UsageLog:
    """Observations of this host, gathered in memory and written a batch at a time."""

    def __init__(self, log: RecordLog, *, is_writable: bool) -> None:
        self._log, self._is_writable = log, is_writable
        self._new: list[Observation] = []
        self._host = platform.node()

    def observations(self) -> list[Observation]:
        """All that were made on this host, oldest first: another machine's costs say nothing here."""
        self._log.refresh()
        bodies = [json.loads(record.body) for _, record in self._log.records()]
        return [item for body in bodies if body["host"] == self._host for item in observations_of(body)]

    def observe(self, observation: Observation) -> None:
        """Take one more."""
        self._new.append(observation)
        if len(self._new) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered. A store that cannot be written still answers: the figures are then lost."""
        if self._new and self._is_writable:
            body = {"host": self._host, "observations": [asdict(item) for item in self._new]}
            with suppress(StoreError):
                self._log.append([Record("usage", json.dumps(body).encode())])
        self._new.clear()

    def compact(self) -> None:
        """Merge what the log consists of."""
        self.flush()
        self._log.compact()


def observations_of(body: Mapping[str, Any]) -> list[Observation]:
    """The observations that a record holds."""
    return [Observation(**item) for item in body["observations"]]
