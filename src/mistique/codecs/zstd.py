"""Zstandard for the codecs: one context a thread, and no frame that unpacks to more than was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import zstandard

from mistique.codecs.payload import damaged
from mistique.codecs.threads import of_thread
from mistique.errors import ChunkCorruptError


def compress(content: np.ndarray | bytes, *, level: int = 3) -> bytes:
    """A frame of some bytes, without their checksum: chunks have digests."""
    compressor = of_thread(("compressor", level), lambda: zstandard.ZstdCompressor(level=level))
    return compressor.compress(content if isinstance(content, bytes) else content.data)


def compress_codes(codes: np.ndarray) -> bytes:
    """A frame of small codes, which are worth their Huffman code and hardly a search for matches.

    A table of 64 places and matches of 7 bytes or more took 0.7 of level 1's time over codes of VGG16's activations,
    and gave 0.95 of its bytes (ADR 8).
    """
    return of_thread("codes", _for_codes).compress(codes.data)


def _for_codes() -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters(
        window_log=17,
        hash_log=6,
        chain_log=6,
        search_log=1,
        min_match=7,
        target_length=0,
        strategy=zstandard.STRATEGY_FAST,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def decompress_each(content: np.ndarray, bounds: np.ndarray, n_bytes: np.ndarray) -> np.ndarray:
    """The bytes of several frames one behind another, zeros for one that is damaged; in one call where none is.

    Parameters
    ----------
    content : ndarray of uint8
        Where all frames lie.
    bounds : ndarray of shape (n_frames, 2), int64
        Where each begins and ends in it.
    n_bytes : ndarray of shape (n_frames,), int64
        What each holds: so much is allocated.
    """
    if not len(bounds):
        return np.empty(0, np.uint8)
    places = np.stack([bounds[:, 0], bounds[:, 1] - bounds[:, 0]], axis=1).astype(np.uint64)
    decompressor, sizes = of_thread("decompressor", zstandard.ZstdDecompressor), n_bytes.astype(np.uint64)
    try:
        frames = zstandard.BufferWithSegments(content.data, places.tobytes())
        found = decompressor.multi_decompress_to_buffer(frames, decompressed_sizes=sizes.tobytes())
        parts: list[Any] = [found[i] for i in range(len(found))]
    except (zstandard.ZstdError, ValueError):
        parts = [_or_zeros(content[a:b], n) for (a, b), n in zip(bounds.tolist(), n_bytes.tolist(), strict=True)]
    return np.frombuffer(b"".join(parts), np.uint8)


def _or_zeros(frame: np.ndarray, n_bytes: int) -> np.ndarray:
    try:
        return decompress(frame, n_bytes)
    except ChunkCorruptError:
        return np.zeros(n_bytes, np.uint8)


def decompress(frame: np.ndarray, n_bytes: int) -> np.ndarray:
    """The bytes of a frame that holds `n_bytes`.

    Raises
    ------
    ChunkCorruptError
        It is no frame, or one of another number of bytes.
    """
    decompressor = of_thread("decompressor", zstandard.ZstdDecompressor)
    try:
        # The frame itself says how much to allocate: it is asked first.
        said = zstandard.get_frame_parameters(frame.data).content_size
        if said != n_bytes:
            raise damaged(f"a frame of {n_bytes} bytes", said)
        content = decompressor.decompress(frame.data, max_output_size=n_bytes)
    except zstandard.ZstdError as error:
        raise damaged("a zstd frame", error) from error
    if len(content) != n_bytes:
        raise damaged(f"a frame of {n_bytes} bytes", len(content))
    return np.frombuffer(content, np.uint8)
