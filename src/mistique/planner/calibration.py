"""From observations to costs: a small robust fit for each codec, a correction for each model."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable

import numpy as np

from mistique.planner.cost import ReadCost
from mistique.storage.usage import Observation

# Before anything was measured: 4 ms to reach a run of chunks, 100 MB/s to read and decode it.
_START_RANGE_SECONDS, _START_BYTE_SECONDS = 4e-3, 1e-8
_WINDOW = 64


class Calibration:
    """What reads and recomputations cost here, by what was seen.

    Parameters
    ----------
    observations : iterable of Observation
        Made before, oldest first.
    observe : callable
        Receives new ones, to be kept.
    """

    def __init__(self, observations: Iterable[Observation], observe: Callable[[Observation], None]) -> None:
        self._observe = observe
        self._reads: dict[str, deque[Observation]] = defaultdict(lambda: deque(maxlen=_WINDOW))
        self._recomputations: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=16))
        self._derivations: deque[float] = deque(maxlen=_WINDOW)
        self._fits: dict[str, ReadCost] = {}
        for observation in observations:
            self._take(observation)

    def add(self, observation: Observation) -> None:
        """Learn from one more."""
        self._take(observation)
        self._observe(observation)

    def read_cost(self, codec: str) -> ReadCost:
        """The cost of reading what a codec wrote.

        Notes
        -----
        Least squares of the relative error over the last 64 reads, twice: the second time a read that was off by half
        counts half, so that one slow read does not turn a plan.
        """
        if codec not in self._fits:
            self._fits[codec] = _fit(self._reads[codec])
        return self._fits[codec]

    def recompute_factor(self, model: str) -> float:
        """Measured over predicted forward time of a model: the median of the last 16 runs, 1 before the first."""
        seen = self._recomputations[model]
        return float(np.median(seen)) if seen else 1.0

    def n_recomputations(self, model: str) -> int:
        """How many runs of a model the factor rests on."""
        return len(self._recomputations[model])

    def derive_factor(self) -> float:
        """Measured over predicted time of what was derived by rules: the median of the last 64, 1 before the first."""
        return float(np.median(self._derivations)) if self._derivations else 1.0

    def _take(self, observation: Observation) -> None:
        if observation.kind == "read" and observation.seconds > 0:
            self._reads[observation.subject].append(observation)
            self._fits.pop(observation.subject, None)
        elif observation.kind == "recompute" and observation.predicted_seconds > 0:
            ratio = observation.seconds / observation.predicted_seconds
            self._recomputations[observation.subject].append(ratio)
        elif observation.kind == "derive" and observation.predicted_seconds > 0:
            self._derivations.append(observation.seconds / observation.predicted_seconds)


def _fit(reads: Iterable[Observation]) -> ReadCost:
    listed = list(reads)
    start = np.array([_START_RANGE_SECONDS, _START_BYTE_SECONDS])
    if not listed:
        return ReadCost(_START_RANGE_SECONDS, _START_BYTE_SECONDS, 0)
    seconds = np.array([read.seconds for read in listed])
    work = np.array([[read.n_ranges, read.encoded_nbytes] for read in listed], float)
    # In units of the starting point, so that both unknowns are near 1 and are drawn there when little was seen.
    scaled = work * start / seconds[:, None]
    weights = np.ones(len(listed))
    solution = np.ones(2)
    for _ in range(2):
        left = (scaled * weights[:, None]).T @ scaled + 0.05 * np.eye(2)
        right = (scaled * weights[:, None]).sum(axis=0) + 0.05
        solution = np.maximum(np.linalg.solve(left, right), 1e-3)
        residual = scaled @ solution - 1.0
        weights = 1.0 / (1.0 + (residual / 0.5) ** 2)
    range_seconds, byte_seconds = solution * start
    return ReadCost(float(range_seconds), float(byte_seconds), len(listed))
