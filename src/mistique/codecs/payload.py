"""Reading a payload: every byte is asked for, so that a damaged one is an error and never a read beyond its end."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from mistique.errors import ChunkCorruptError


def damaged(expected: object, got: object) -> ChunkCorruptError:
    """The error that says that a payload is not one."""
    return ChunkCorruptError(where="a chunk's payload", expected=str(expected), got=str(got))


def joined(header: bytes, *parts: np.ndarray | bytes) -> np.ndarray:
    """One payload of a header and what follows it."""
    return np.frombuffer(b"".join([header, *(bytes(part) for part in parts)]), np.uint8)


class PayloadReader:
    """Takes a payload apart from its beginning.

    Parameters
    ----------
    payload : ndarray of shape (n_bytes,), uint8

    Examples
    --------
    >>> reader = PayloadReader(np.arange(5, dtype=np.uint8))
    >>> reader.unpack("<BH"), reader.rest()
    ((0, 513), array([3, 4], dtype=uint8))
    >>> reader.take(1)
    Traceback (most recent call last):
    ...
    mistique.errors.ChunkCorruptError: damaged store: a chunk's payload: expected 1 more bytes, got 0. ...
    """

    def __init__(self, payload: np.ndarray) -> None:
        self._payload = np.ascontiguousarray(payload, np.uint8).reshape(-1)
        self._at = 0

    def take(self, n_bytes: int) -> np.ndarray:
        """The next bytes."""
        if not 0 <= n_bytes <= self.n_left:
            raise damaged(f"{n_bytes} more bytes", self.n_left)
        self._at += n_bytes
        return self._payload[self._at - n_bytes : self._at]

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """The next bytes as numbers; `layout` as `struct` spells it."""
        at, n_bytes = self._at, struct.calcsize(layout)
        if n_bytes > self.n_left:
            raise damaged(f"{n_bytes} more bytes", self.n_left)
        self._at += n_bytes
        return struct.unpack_from(layout, self._payload.data, at)

    @property
    def n_left(self) -> int:
        """Bytes that are left."""
        return self._payload.size - self._at

    def rest(self) -> np.ndarray:
        """All bytes that are left."""
        return self.take(self.n_left)

    def end(self) -> None:
        """Nothing is left, or it is damaged."""
        if self._at != self._payload.size:
            raise damaged("the end", f"{self.n_left} more bytes")
