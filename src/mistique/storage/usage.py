"""What roads took on this host, and what was asked, kept in the store for the planner."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mistique.errors import StoreError
from mistique.storage.facts import CaptureId
from mistique.storage.record_cells import Record
from mistique.storage.record_fields import BODY_ERRORS, expect, number_of
from mistique.storage.records import RecordLog

_FLUSH_AT = 256
# Of one host, the newest: a planner needs some tens of each kind.
_MAX_OBSERVATIONS = 16_384

# An intermediate of a capture.
Asked = tuple[CaptureId, str]


@dataclass(frozen=True, slots=True)
class Observation:
    """One piece of work that was measured.

    Parameters
    ----------
    kind : str
        ``read``, ``derive``, ``run``, ``stage``, ``load``, ``import``, ``setup``, ``memory`` or ``write``.
    subject : str
        What it was done to: a codec, a stage of a model, an artifact.
    work : tuple of float
        How much of each kind of thing there was to do, as `mistique.planner.cost` counts it.
    predicted_seconds : float
    seconds : float
        What it took.
    """

    kind: str
    subject: str
    work: tuple[float, ...]
    predicted_seconds: float
    seconds: float


@dataclass(slots=True)
class Demand:
    """How often an intermediate was asked for, and what storing it would have saved, in seconds, over all hosts."""

    n_queries: int = 0
    saved_seconds: float = 0.0


@dataclass
class _New:
    observations: list[Observation] = field(default_factory=list)
    demands: dict[Asked, Demand] = field(default_factory=dict)


class UsageLog:
    """What was observed and asked, gathered in memory and written a batch at a time."""

    def __init__(self, log: RecordLog, *, is_writable: bool) -> None:
        self._log, self._is_writable = log, is_writable
        self._new = _New()
        self._host = host()

    def load(self) -> tuple[list[Observation], dict[Asked, Demand]]:
        """The observations of this host, oldest first, and the demand of all hosts.

        Another machine's costs say nothing here; what its users asked does.
        """
        self.flush()
        self._log.refresh()
        observations: list[Observation] = []
        demands: dict[Asked, Demand] = {}
        for _, record in self._log.records():
            with suppress(*BODY_ERRORS):  # advice that makes no sense is none
                body = json.loads(record.body)
                seen, asked = observations_of(body), demands_of(body)
                if body["host"] == self._host:
                    observations += seen
                for subject, n_queries, saved_seconds in asked:
                    _add(demands, subject, n_queries, saved_seconds)
        return observations[-_MAX_OBSERVATIONS:], demands

    def observe(self, observation: Observation) -> None:
        """Take one more."""
        self._new.observations.append(observation)
        if len(self._new.observations) >= _FLUSH_AT:
            self.flush()

    def ask(self, asked: Asked, saved_seconds: float) -> None:
        """Count a question."""
        _add(self._new.demands, asked, 1, saved_seconds)

    def flush(self) -> None:
        """Write what was gathered. A store that cannot be written still answers: the figures are then lost."""
        new, self._new = self._new, _New()
        if (new.observations or new.demands) and self._is_writable:
            body = {
                "host": self._host,
                "seen": [
                    (o.kind, o.subject, o.work, float(f"{o.predicted_seconds:.4g}"), float(f"{o.seconds:.4g}"))
                    for o in new.observations
                ],
                "asked": [(of, name, d.n_queries, d.saved_seconds) for (of, name), d in new.demands.items()],
            }
            with suppress(StoreError):
                self._log.append([Record("usage", json.dumps(body).encode())])

    def compact(self) -> None:
        """Merge what the log consists of."""
        self.flush()
        self._log.compact()


def host() -> str:
    """What tells this machine from others, as far as costs go."""
    return f"{platform.node()} {platform.machine()} {os.cpu_count()}"


def observations_of(body: Mapping[str, Any]) -> list[Observation]:
    """The observations that a record holds."""
    found = []
    for kind, on, work, predicted_seconds, seconds in body["seen"]:
        expect(str, kind, on)
        found.append(Observation(kind, on, tuple(map(number_of, work)), float(predicted_seconds), number_of(seconds)))
    return found


def demands_of(body: Mapping[str, Any]) -> list[tuple[Asked, int, float]]:
    """What a record holds of questions: of what, how many, and the seconds that storing it would have saved."""
    found = []
    for (model, run_id, epoch, dataset), name, n_queries, saved_seconds in body["asked"]:
        expect(str, model, run_id, dataset, name)
        expect(int, n_queries, 0 if epoch is None else epoch)
        found.append((((model, run_id, epoch, dataset), name), n_queries, float(saved_seconds)))
    return found


def _add(demands: dict[Asked, Demand], asked: Asked, n_queries: int, saved_seconds: float) -> None:
    demand = demands.setdefault(asked, Demand())
    demand.n_queries += n_queries
    demand.saved_seconds += saved_seconds
