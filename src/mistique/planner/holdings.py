"""The bytes that stored intermediates take, each alone and together, and which of them has to go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mistique.kernels.distinct import distinct
from mistique.schema import References
from mistique.storage.captures import Capture
from mistique.storage.move_records import pack_chunks


@dataclass(frozen=True, eq=False)
class Holding:
    """A stored intermediate.

    Parameters
    ----------
    capture : Capture
    name : str
    references : References
    """

    capture: Capture
    name: str
    references: References

    @property
    def key(self) -> str:
        """As people write it."""
        return f"{self.capture.prefix}/{self.name}"


class Holdings:
    """Stored intermediates, which may share chunks: a chunk is freed when the last that refers to it goes.

    Parameters
    ----------
    holdings : sequence of Holding

    Notes
    -----
    A chunk counts for its share of the bytes of its segment. What is freed is so when a compaction has removed it.
    """

    def __init__(self, holdings: Sequence[Holding]) -> None:
        self.holdings = list(holdings)
        numbers: dict[str, int] = {}
        weights: list[float] = []
        found: list[np.ndarray] = []
        for holding in holdings:
            for segment in holding.references.segments:
                if segment.id not in numbers:
                    numbers[segment.id] = len(numbers)
                    weights.append(segment.encoded_nbytes / max(segment.n_chunks, 1))
            found.append(_chunks(holding.references, numbers))
        places = np.concatenate(found) if found else np.empty((0, 2), np.int64)
        unique, inverse = np.unique(places, axis=0, return_inverse=True)
        self._weights = np.array(weights)[unique[:, 0]] if len(unique) else np.empty(0)
        self._counts = np.bincount(inverse.reshape(-1), minlength=len(unique))
        ends = np.cumsum([0, *map(len, found)])
        # One intermediate may refer to a chunk many times.
        self._of = [distinct(inverse.reshape(-1)[a:b]) for a, b in pairwise(ends.tolist())]
        self._counts = np.bincount(np.concatenate(self._of), minlength=len(unique)) if found else self._counts
        self._is_here = [True] * len(self.holdings)

    def nbytes(self) -> float:
        """Of all that are left."""
        return float(self._weights[self._counts > 0].sum())

    def nbytes_freed_by(self, number: int) -> float:
        """Of what no other refers to."""
        chunks = self._of[number]
        return float(self._weights[chunks[self._counts[chunks] == 1]].sum())

    def remove(self, number: int) -> None:
        """Take one out of the count."""
        self._counts[self._of[number]] -= 1
        self._is_here[number] = False

    def left(self) -> Iterable[int]:
        """Numbers of those that are left."""
        return (number for number, is_here in enumerate(self._is_here) if is_here)


def _chunks(references: References, numbers: dict[str, int]) -> np.ndarray:
    """The chunks that references name, as (segment, unit and place): shape (n_chunks, 2)."""
    parts = []
    for run in references.runs:
        blocks, groups = np.arange(run.n_blocks)[:, None], np.arange(run.n_groups)
        units = run.unit + blocks * run.block_step + groups * run.group_step
        places = np.broadcast_to(run.place + groups * run.place_step, units.shape)
        packed = pack_chunks(units, places).reshape(-1)
        parts.append(np.stack([np.full(len(packed), numbers[references.segments[run.segment].id]), packed], axis=1))
    for values in references.dictionaries:
        packed = pack_chunks(np.array([values.unit]), np.array([values.place]))
        parts.append(np.stack([np.array([numbers[references.segments[values.segment].id]]), packed], axis=1))
    return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)
