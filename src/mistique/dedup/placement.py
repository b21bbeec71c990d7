"""Similarity placement: which columns of tables are encoded together.

After MISTIQUE (Vartak et al., doi:10.1145/3183713.3196934, section 4): columns whose discretized values have a Jaccard
similarity above a threshold lie side by side, so that a column can be coded by what an earlier one says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from mistique.kernels.minhash import minhash

T = TypeVar("T")
PACK_COLUMNS = 16
PLACEMENTS = ("auto", "on", "off")

_SAMPLED, _N_BINS = 128, 16
N_BANDS, BAND_HASHES = 16, 4
THRESHOLD = (1 / N_BANDS) ** (1 / BAND_HASHES)
_SEEDS = np.random.default_rng(0).integers(1, 2**32, N_BANDS * BAND_HASHES, dtype=np.uint32)


class Placement:
    """Puts columns into packs: those that resemble one another into one, one beside the other.

    Parameters
    ----------
    mode : {"auto", "on", "off"}, default "auto"
        "off": in the order in which they come. "on": similar ones together. "auto": similar ones together where they
        could otherwise lie apart and a cell takes 4 bytes or more (docs/adr/0015).

    Notes
    -----
    A column is the set of pairs (row, bin) over 128 rows; bins are sixteenths of its sampled values by rank, so that
    shifting and scaling changes none. Two columns in the same bin in a share a of the rows have a Jaccard similarity
    of ``J = a / (2 - a)``. 64 hashes of `minhash` in 16 bands of 4: two columns are taken for similar if all hashes of
    a band agree, which has the probability ``1 - (1 - J ** 4) ** 16``: one half at J = 0.45, and the threshold
    ``(1 / 16) ** (1 / 4) = 0.5`` is where a = 2 / 3. What is similar to a third is in one bucket with it.

    Examples
    --------
    >>> x, y = np.random.default_rng(0).normal(size=(2, 1000))
    >>> columns = [x, *y * np.arange(1, 20)[:, None], x * 3]
    >>> [0 in pack and 20 in pack for pack in Placement("on").packs(range(21), columns)]
    [True, False]
    """

    def __init__(self, mode: str = "auto") -> None:
        if mode not in PLACEMENTS:
            raise ValueError(f'placement: expected "auto", "on" or "off", got {mode!r}')
        self.mode = mode

    def packs(self, columns: Sequence[T], cells: Sequence[np.ndarray]) -> list[list[T]]:
        """Columns in packs of at most `PACK_COLUMNS`.

        Parameters
        ----------
        columns : sequence
        cells : sequence of ndarray of shape (n_rows,)
            Their values, all of one dtype.
        """
        order = list(range(len(columns)))
        if self._is_on(cells):
            order = _side_by_side(signatures(cells))
        return [[columns[i] for i in order[at : at + PACK_COLUMNS]] for at in range(0, len(order), PACK_COLUMNS)]

    def _is_on(self, cells: Sequence[np.ndarray]) -> bool:
        if self.mode == "off" or len(cells) < 2 or cells[0].dtype.kind == "O":
            return False
        return self.mode == "on" or (len(cells) > PACK_COLUMNS and cells[0].itemsize >= 4)


def discretized(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Columns as sets of pairs (row, bin), shape (n_columns, n_sampled), uint32; a NaN is in a bin of its own."""
    n_rows = len(cells[0])
    rows = np.unique(np.linspace(0, n_rows - 1, _SAMPLED).astype(np.int64))
    items = np.empty((len(cells), len(rows)), np.uint32)
    for item, column in zip(items, cells, strict=True):
        values = column[rows]
        ordered = np.sort(values)
        rank = np.searchsorted(ordered, values)  # of equal ones the first, so that they share a bin
        item[:] = np.where(values == values, rank * _N_BINS // len(rows), _N_BINS)
    return items + (np.arange(len(rows)) * (_N_BINS + 1)).astype(np.uint32)


def signatures(cells: Sequence[np.ndarray]) -> np.ndarray:
    """MinHash signatures of columns of one length, shape (n_columns, 64), uint32."""
    found = np.empty((len(cells), len(_SEEDS)), np.uint32)
    minhash(discretized(cells), _SEEDS, found)
    return found


def buckets(signed: np.ndarray) -> np.ndarray:
    """The bucket of each column, shape (n_columns,), int64: the number of the first column in it."""
    bucket = np.arange(len(signed))
    for band in signed.reshape(len(signed), N_BANDS, BAND_HASHES).transpose(1, 0, 2):
        first: dict[bytes, int] = {}
        for i, hashes in enumerate(band):
            other = first.setdefault(hashes.tobytes(), i)
            one, two = sorted((int(bucket[i]), int(bucket[other])))
            if one != two:
                bucket[bucket == two] = one
    return bucket


def _side_by_side(signed: np.ndarray) -> list[int]:
    """An order in which buckets lie together: within one, each column is followed by the one most like it."""
    order: list[int] = []
    bucket = buckets(signed)
    for first in np.unique(bucket).tolist():
        left = np.flatnonzero(bucket == first).tolist()
        order.append(left.pop(0))
        while left:
            likeness = (signed[left] == signed[order[-1]]).sum(axis=1)
            order.append(left.pop(int(likeness.argmax())))
    return order
