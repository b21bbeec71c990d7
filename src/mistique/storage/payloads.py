"""Payloads of units as they were read: one behind another, in one piece of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Payloads(Sequence[np.ndarray]):
    """Payloads, each a view of what was read at once.

    Parameters
    ----------
    content : ndarray of uint8
    begins, n_bytes : ndarray of shape (n_payloads,), int64
        Where each begins, and how many bytes it has.
    """

    content: np.ndarray
    begins: np.ndarray
    n_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.begins)

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice) -> Payloads: ...
    def __getitem__(self, at: int | slice) -> np.ndarray | Payloads:
        if isinstance(at, slice):
            return Payloads(self.content, self.begins[at], self.n_bytes[at])
        begin = int(self.begins[at])
        return self.content[begin : begin + int(self.n_bytes[at])]

    def __iter__(self) -> Iterator[np.ndarray]:
        for begin, size in zip(self.begins.tolist(), self.n_bytes.tolist(), strict=True):
            yield self.content[begin : begin + size]
