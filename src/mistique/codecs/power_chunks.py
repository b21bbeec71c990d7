"""Many chunks of the power codec at once: what of them is Python is what unpacks their tables."""

from __future__ import annotations

import numpy as np

from mistique.codecs import zstd
from mistique.kernels import power_chunks as kernels
from mistique.kernels import tans_head
from mistique.kernels.power_chunks import START, TANS


class PowerChunks:
    """Chunks whose heads were read; those that are not of the usual kind, or damaged, are left to others.

    Parameters
    ----------
    content, places, shapes
        As of `ChunksCodec.decode_chunks`.
    bits : int
        Of the codec.
    """

    def __init__(self, content: np.ndarray, places: np.ndarray, shapes: np.ndarray, bits: int) -> None:
        is_within = (places >= 0).all(axis=1) & (places[:, 1] <= content.size - places[:, 0])
        self._content, self._shapes = content, shapes
        self._places = np.where(is_within[:, None], places, 0)
        self._heads = np.empty((len(places), kernels.CHUNK_HEAD), np.int64)
        self._ranges = np.zeros((len(places), 2))
        kernels.read_heads(content, self._places, shapes, bits, self._heads, self._ranges)

    def decode(self, unit_tables: np.ndarray, *, out: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Values into `out`, each chunk at its corner; which were decoded."""
        fits = (corners >= 0).all(axis=1) & (corners <= np.array(out.shape) - self._shapes).all(axis=1)
        self._heads[~fits, START] = 0
        first_planes, planes = self._planes()
        kernels.decode_chunks(
            self._content,
            self._places,
            self._shapes,
            self._heads,
            planes,
            first_planes,
            unit_tables,
            corners,
            out,
        )
        is_decoded: np.ndarray = self._heads[:, START] > 0
        return is_decoded

    def scale_range(self, chosen: np.ndarray) -> tuple[float, float]:
        """The lowest and the highest scale of some of them; zeros of none."""
        ranges = self._ranges[chosen]
        return float(ranges[:, 0].min(initial=0.0)), float(ranges[:, 1].max(initial=0.0))

    def _planes(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the frequencies of each chunk begin, and those of all; damaged ones are zeros, which no tables have."""
        usual = np.flatnonzero(self._heads[:, START])
        heads = self._heads[usual]
        of_tans, starts = heads[:, TANS:], self._places[usual, 0] + heads[:, START]
        bounds = starts[:, None] + of_tans[:, [tans_head.FRAME, tans_head.BODY]]
        n_bytes = 2 * (of_tans[:, tans_head.N_THRESHOLDS] + 1) * of_tans[:, tans_head.N_SYMBOLS]
        firsts = np.zeros(len(self._heads), np.int64)
        firsts[usual] = np.cumsum(n_bytes) - n_bytes
        return firsts, zstd.decompress_each(self._content, bounds, n_bytes)
