"""From observations to costs: a robust fit for each thing that can be read, run, loaded or written."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mistique.planner.cost import DERIVE_START, MEMORY_START, READ_START, SUMMARY_START, WRITE_START, Cost
from mistique.planner.fit import fitted
from mistique.storage.usage import Observation

_WINDOW = 64
# What was fitted stands until an eighth as many observations have come, or one that is off by so much: the bar of
# predictions.
_SOON, _SURPRISE = 8, 1.5
# One measurement that is by more than this above what is assumed is not believed before another comes: the machine may
# have been busy, and a road that looks dear is not taken, so not measured again. It is the bar of choices: by less, a
# road that is passed over costs no more than that.
_DOUBTED = 3.0
# What depends on where the store lies.
_OF_STORAGE = ("read", "write", "load", "summary")
_Subject = tuple[str, str]


@dataclass(slots=True)
class _Fit:
    """What was fitted, from which assumption, and how many observations have come since."""

    cost: Cost
    assumed: tuple[float, ...]
    n_since: int = 0

    def is_surprised(self, observation: Observation) -> bool:
        """Whether one more observation calls for fitting anew."""
        self.n_since += 1
        if self.n_since * _SOON >= self.cost.n_observations or len(observation.work) != len(self.assumed):
            return True
        return not _are_alike(self.cost.seconds(observation.work), observation.seconds)


def _is_doubted(seconds: float, assumed_seconds: float) -> bool:
    """Whether one measurement alone is too far above what is assumed."""
    return seconds > _DOUBTED * assumed_seconds


def _are_alike(one: float, other: float) -> bool:
    return one <= other * _SURPRISE and other <= one * _SURPRISE


class Calibration:
    """What roads cost here, by what was seen on this host.

    Parameters
    ----------
    observations : iterable of Observation
        Made before, oldest first.
    observe : callable
        Receives new ones, to be kept.
    backend : str, default ""
        What the store lies on, as `mistique.storage.backend.backend_of` tells it: reads, writes and loads of one back
        end say nothing of another. A store that was copied from object storage to a disk is measured anew.

    Notes
    -----
    The rule: of each subject the last 64 observations, through `mistique.planner.fit.fitted`, anew when an eighth as
    many have come since, or one of them is off by half, or what is assumed has changed by as much. One that stands
    alone, and is over three times what is assumed, waits for a second: until then what is assumed holds.
    """

    def __init__(
        self, observations: Iterable[Observation], observe: Callable[[Observation], None], *, backend: str = ""
    ) -> None:
        self._observe, self._backend = observe, backend
        self._seen: dict[_Subject, deque[Observation]] = defaultdict(lambda: deque(maxlen=_WINDOW))
        self._ratios: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_WINDOW))
        self._medians: dict[str, float] = {}
        self._n_runs: Counter[str] = Counter()
        self._fits: dict[_Subject, _Fit] = {}
        for observation in observations:
            self._take(observation)

    def add(self, observation: Observation) -> None:
        """Learn from one more."""
        observation = replace(observation, subject=self._key(observation.kind, observation.subject)[1])
        self._take(observation)
        self._observe(observation)

    def cost(self, kind: str, subject: str, start: Sequence[float]) -> Cost:
        """What a kind of work costs, of one subject.

        Parameters
        ----------
        kind, subject : str
            As in `Observation`.
        start : sequence of float
            Seconds of each kind of work, assumed before any was measured.
        """
        key, assumed = self._key(kind, subject), tuple(start)
        known = self._fits.get(key)
        if known is not None and len(known.assumed) == len(assumed) and all(map(_are_alike, known.assumed, assumed)):
            return known.cost
        # Another mistique may have counted other kinds of work.
        seen = [observation for observation in self._seen.get(key, ()) if len(observation.work) == len(assumed)]
        if not seen or (len(seen) == 1 and _is_doubted(seen[0].seconds, Cost(assumed, 0).seconds(seen[0].work))):
            return Cost(assumed, 0)
        work = np.array([observation.work for observation in seen])
        seconds = np.array([observation.seconds for observation in seen])
        each = fitted(work, seconds, np.maximum(assumed, 1e-12), is_measured=kind in ("stage", "run"))
        cost = Cost(tuple(each.tolist()), len(seen))
        self._fits[key] = _Fit(cost, assumed)
        return cost

    def is_known(self, kind: str, subject: str) -> bool:
        """Whether anything of it was measured on this host."""
        return bool(self._seen.get(self._key(kind, subject)))

    def read_cost(self, codec: str) -> Cost:
        """The cost of reading what a codec wrote; amounts are those of `ReadWork`."""
        return self.cost("read", codec, READ_START)

    def derive_cost(self, rules: str) -> Cost:
        """The cost of following rules; amounts are 1 and the number of values that the steps take."""
        return self.cost("derive", rules, DERIVE_START)

    def memory_cost(self, kind: str) -> Cost:
        """The cost of giving what is in memory of a table or layer; amounts are 1 and the number of values."""
        return self.cost("memory", kind, MEMORY_START)

    def summary_cost(self) -> Cost:
        """The cost of reading what was counted before; amounts are 1 and its bytes."""
        return self.cost("summary", "", SUMMARY_START)

    def write_cost(self, codec: str) -> Cost:
        """The cost of encoding and writing; amounts are 1 and the bytes of the values."""
        return self.cost("write", codec, WRITE_START)

    def stage_ratio(self, model: str) -> float:
        """Measured over predicted time of a model's stages: the median of the last 64, 1 before any.

        That of one run alone is doubted as one measurement is.
        """
        if model not in self._medians:
            seen = self._ratios.get(model)
            ratio = float(np.median(seen)) if seen else 1.0
            self._medians[model] = 1.0 if self._n_runs[model] < 2 and _is_doubted(ratio, 1.0) else ratio
        return self._medians[model]

    def n_runs(self, model: str) -> int:
        """How many runs of a model were seen."""
        return self._n_runs[model]

    def _key(self, kind: str, subject: str) -> _Subject:
        return (kind, f"{subject}\t{self._backend}") if kind in _OF_STORAGE and self._backend else (kind, subject)

    def _take(self, observation: Observation) -> None:
        if observation.seconds <= 0:
            return
        key = observation.kind, observation.subject
        self._seen[key].append(observation)
        if key in self._fits and self._fits[key].is_surprised(observation):
            del self._fits[key]
        model = observation.subject.partition("\t")[0]
        if observation.kind == "run":
            self._n_runs[model] += 1
            self._medians.pop(model, None)
        elif observation.kind == "stage" and observation.predicted_seconds > 0:
            self._ratios[model].append(observation.seconds / observation.predicted_seconds)
            self._medians.pop(model, None)
