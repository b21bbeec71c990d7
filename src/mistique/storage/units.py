"""Units of a segment, and the table that says where each lies and what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import zstandard

from mistique.errors import ChunkCorruptError
from mistique.schema import ColumnType
from mistique.storage.digests import Digest, digest_bytes, digest_text, digests_of_pieces
from mistique.storage.payloads import Payloads

ALIGNMENT = 8
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class UnitKind:
    """What the units of one kind have in common.

    Parameters
    ----------
    codec : str
        Its configuration, as JSON with sorted keys.
    dtype, cell : str
        Of the values, as in `ColumnType`.
    is_table : bool
        Each of its columns is a chunk; otherwise all of them are one.
    """

    codec: str
    dtype: str
    cell: str
    is_table: bool

    def context(self, n_columns: int, n_rows: int) -> bytes:
        """What chunks of this kind and shape are, as it enters the digest of their values."""
        return _context(self, n_columns, n_rows)

    @property
    def type(self) -> ColumnType:
        """The type of its columns, as far as codecs need it."""
        return ColumnType(self.dtype, self.cell)


@lru_cache(maxsize=4096)
def _context(kind: UnitKind, n_columns: int, n_rows: int) -> bytes:
    header = f"{kind.dtype}|{kind.cell}|{kind.codec}|{n_columns}|{n_rows}".encode()
    return blake2b(header, digest_size=16).digest()


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """An encoded unit.

    Parameters
    ----------
    kind : UnitKind
    shape : tuple of int
        (n_columns, n_rows) of its values.
    payload : ndarray of uint8
    contents : ndarray of shape (n_chunks, 2), uint64
        Digests of the values of its chunks.
    """

    kind: UnitKind
    shape: tuple[int, int]
    payload: np.ndarray
    contents: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class LaidUnit:
    """A unit that has its place in a segment: what is left of it once its payload is written.

    Parameters
    ----------
    kind : UnitKind
    shape : tuple of int
    contents : ndarray of shape (n_chunks, 2), uint64
    offset, n_bytes : int
        Of the payload.
    digest : Digest
        Of the payload.
    """

    kind: UnitKind
    shape: tuple[int, int]
    contents: np.ndarray
    offset: int
    n_bytes: int
    digest: Digest

    @classmethod
    def of(cls, unit: Unit, offset: int) -> LaidUnit:
        """A unit at this offset."""
        return cls(unit.kind, unit.shape, unit.contents, offset, unit.payload.nbytes, digest_bytes(unit.payload))


@dataclass(frozen=True, eq=False)
class UnitTable:
    """All units of a segment; every array has shape (n_units, ...)."""

    kinds: tuple[UnitKind, ...]
    offsets: np.ndarray  # int64, in bytes
    n_bytes: np.ndarray  # int64, of the payload
    digests: np.ndarray  # (n_units, 2) uint64, of the payload
    kind_of: np.ndarray  # int64
    shapes: np.ndarray  # (n_units, 2) int64

    @property
    def n_units(self) -> int:
        """Units of it."""
        return len(self.offsets)

    @cached_property
    def first_chunk(self) -> np.ndarray:
        """Number of the first chunk of each unit, and behind the last the number of all."""
        is_table = np.array([kind.is_table for kind in self.kinds], bool)[self.kind_of]
        return np.concatenate([[0], np.cumsum(np.where(is_table, self.shapes[:, 0], 1))])

    @property
    def n_chunks(self) -> int:
        """Chunks of all units."""
        return int(self.first_chunk[-1])

    def hold(self, units: np.ndarray, payloads: Payloads, segment_id: str) -> None:
        """Hold payloads of units against their digests.

        Raises
        ------
        ChunkCorruptError
            One is not that which was written.
        """
        found = digests_of_pieces(payloads.content, payloads.begins, payloads.n_bytes)
        expected = self.digests[units]
        for i in np.flatnonzero((found != expected).any(axis=1))[:1].tolist():
            raise ChunkCorruptError(
                where=f"segment {segment_id}, unit {units[i]}",
                expected=f"digest {digest_text((int(expected[i, 0]), int(expected[i, 1])))}",
                got=digest_text((int(found[i, 0]), int(found[i, 1]))),
            )

    @classmethod
    def of(cls, units: Sequence[LaidUnit]) -> UnitTable:
        """The table of these units."""
        kinds = list(dict.fromkeys(unit.kind for unit in units))
        return cls(
            tuple(kinds),
            np.array([unit.offset for unit in units], np.int64),
            np.array([unit.n_bytes for unit in units], np.int64),
            np.array([unit.digest for unit in units], np.uint64).reshape(-1, 2),
            np.array([kinds.index(unit.kind) for unit in units], np.int64),
            np.array([unit.shape for unit in units], np.int64).reshape(-1, 2),
        )

    def to_bytes(self) -> bytes:
        """The table, compressed: kinds as JSON and a zero byte, then the arrays one behind the other."""
        kinds: list[Mapping[str, Any]] = [
            {"codec": kind.codec, "dtype": kind.dtype, "cell": kind.cell, "is_table": kind.is_table}
            for kind in self.kinds
        ]
        gaps = np.diff(self.offsets, prepend=0)
        arrays = (gaps, self.n_bytes, self.kind_of, self.shapes, self.digests)
        return compressed(json.dumps(kinds).encode() + b"\0" + b"".join(array.tobytes() for array in arrays))

    @classmethod
    def from_bytes(cls, content: bytes, *, n_units: int) -> UnitTable:
        """The inverse of `to_bytes`.

        Raises
        ------
        ValueError
            It is no table of so many units.
        """
        arrays_nbytes = n_units * 7 * 8
        whole = expanded(content, arrays_nbytes + 2**20)
        head, arrays = whole[: len(whole) - arrays_nbytes], whole[len(whole) - arrays_nbytes :]
        words = np.frombuffer(arrays, np.int64)
        gaps, n_bytes, kind_of = words[: 3 * n_units].reshape(3, n_units)
        shapes = words[3 * n_units : 5 * n_units].reshape(n_units, 2)
        digests = words[5 * n_units :].reshape(n_units, 2).view(np.uint64)
        kinds = tuple(UnitKind(**kind) for kind in json.loads(head[:-1]))
        if n_units and not (
            (gaps >= 0).all()
            and (n_bytes >= 0).all()
            and (shapes > 0).all()
            and 0 <= kind_of.min() <= kind_of.max() < len(kinds)
        ):
            raise ValueError("a table of units whose numbers do not fit together")
        return cls(kinds, np.cumsum(gaps), n_bytes, digests, kind_of, shapes)


def compressed(content: bytes) -> bytes:
    """Bytes by zstd."""
    result: bytes = zstandard.ZstdCompressor(level=_LEVEL).compress(content)
    return result


def expanded(content: bytes, max_nbytes: int) -> bytes:
    """The inverse of `compressed`; refuses more than `max_nbytes`.

    Raises
    ------
    ValueError
        It is damaged, or larger.
    """
    try:
        if zstandard.frame_content_size(content) > max_nbytes:
            raise ValueError(f"expected at most {max_nbytes} bytes")
        result: bytes = zstandard.ZstdDecompressor().decompress(content)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    return result
