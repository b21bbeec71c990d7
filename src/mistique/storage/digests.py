"""Digests of column chunks, and the array that says where a chunk with a given digest lies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import tiledb

from mistique.kernels.digest import digest_words
from mistique.storage.options import translated

Digest = tuple[int, int]


class Place(NamedTuple):
    """Where a chunk lies."""

    segment: str
    block: int
    group: int


def digest_bytes(content: bytes | memoryview, key: bytes = bytes(16)) -> Digest:
    """The 128-bit digest of some bytes, under a 128-bit key, as two integers."""
    return _digest(np.frombuffer(content, np.uint8), key)


def codec_text(codec: Mapping[str, Any]) -> str:
    """A codec's name and parameters as they enter a digest."""
    return json.dumps(dict(codec), sort_keys=True)


def chunk_digest(cells: np.ndarray, params: np.ndarray, codec: str) -> Digest:
    """The digest of a chunk as it is stored: its cells, their type and shape, and what decoding needs.

    Parameters
    ----------
    cells : ndarray of shape (n_columns, n_rows)
    params : ndarray of shape (n_params,), float64
    codec : str
        From `codec_text`.
    """
    n_columns, n_rows = cells.shape
    key = _key(str(cells.dtype), n_columns, n_rows, codec, params.tobytes())
    if cells.dtype.kind == "O":
        texts = [text.encode() for text in cells.reshape(-1)]
        lengths = np.array([len(text) for text in texts], np.uint64)
        return digest_bytes(lengths.tobytes() + b"".join(texts), key)
    return _digest(np.ascontiguousarray(cells).reshape(-1).view(np.uint8), key)


@lru_cache(maxsize=4096)
def _key(dtype: str, n_columns: int, n_rows: int, codec: str, params: bytes) -> bytes:
    header = f"{dtype}|{n_columns}|{n_rows}|{codec}|".encode()
    return blake2b(header + params, digest_size=16).digest()


def _digest(content: np.ndarray, key: bytes) -> Digest:
    n_bytes = content.size
    if n_bytes % 32 or not content.flags.aligned:
        padded = np.zeros(-(-n_bytes // 32) * 32, np.uint8)
        padded[:n_bytes] = content
        content = padded
    out = np.empty(2, np.uint64)
    digest_words(content.view(np.uint64), np.uint64(n_bytes), np.frombuffer(key, np.uint64), out)
    return int(out[0]), int(out[1])


def create_digests(uri: str, ctx: tiledb.Ctx) -> None:
    """Make an empty index of digests."""
    zstd = tiledb.FilterList([tiledb.ZstdFilter(level=3), tiledb.ChecksumMD5Filter()])
    # Half a digest, less a bit so that the domain fits, is the coordinate; the other half decides.
    half = tiledb.Dim("digest_high", domain=(0, 2**63 - 1), tile=2**62, dtype=np.uint64, filters=zstd)
    attrs = [
        tiledb.Attr(name, dtype=dtype, filters=zstd)
        for name, dtype in [
            ("digest_first", np.uint64),
            ("digest_second", np.uint64),
            ("segment_first", np.uint64),
            ("segment_second", np.uint64),
            ("block", np.uint32),
            ("group", np.uint32),
        ]
    ]
    schema = tiledb.ArraySchema(
        domain=tiledb.Domain(half), attrs=attrs, sparse=True, allows_duplicates=True, capacity=10_000
    )
    tiledb.Array.create(uri, schema, ctx=ctx)


class DigestIndex:
    """Where the chunks of a store's tables lie, by digest. Read by need, never loaded whole.

    It is written after the commit and is only advice: an entry that is missing costs a chunk stored twice, and one
    that is found is held against the segment's own table before it is used.
    """

    def __init__(self, uri: str, ctx: tiledb.Ctx) -> None:
        self._uri, self._ctx = uri, ctx

    def find(self, digests: Iterable[Digest]) -> dict[Digest, Place]:
        """The places of those digests that are known."""
        wanted = dict.fromkeys(digests)
        if not wanted:
            return {}
        points = np.unique(np.array([first >> 1 for first, _ in wanted], np.uint64))
        with translated(self._uri, "look up digests in"), tiledb.open(self._uri, "r", ctx=self._ctx) as array:
            found = array.multi_index[points.tolist()]
        columns = [
            found[name].tolist()
            for name in ("digest_first", "digest_second", "segment_first", "segment_second", "block", "group")
        ]
        return {
            (first, second): Place(f"{high:016x}{low:016x}", block, group)
            for first, second, high, low, block, group in zip(*columns, strict=True)
            if (first, second) in wanted
        }

    def add(self, places: Mapping[Digest, Place], *, timestamp: int) -> None:
        """Make chunks findable."""
        if not places:
            return
        digests = np.array(list(places), np.uint64)
        segments = np.array([(int(p.segment[:16], 16), int(p.segment[16:], 16)) for p in places.values()], np.uint64)
        with (
            translated(self._uri, "write digests to"),
            tiledb.open(self._uri, "w", ctx=self._ctx, timestamp=timestamp) as array,
        ):
            array[digests[:, 0] >> np.uint64(1)] = {
                "digest_first": digests[:, 0],
                "digest_second": digests[:, 1],
                "segment_first": segments[:, 0],
                "segment_second": segments[:, 1],
                "block": np.array([p.block for p in places.values()], np.uint32),
                "group": np.array([p.group for p in places.values()], np.uint32),
            }
