"""Pixels at which an upsampled map is over a threshold, counted by label."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

_MAPS = "Array(float32, 3, 'C', readonly=True)"
_LABELS = "Array(uint16, 3, 'C', readonly=True)"
_PLACES = "Array(int64, 1, 'C', readonly=True), Array(float64, 1, 'C', readonly=True)"


@kernel(f"void({_MAPS}, float64, {_LABELS}, {_PLACES}, {_PLACES}, int64[::1])")
def count_overlap(
    maps: np.ndarray,
    threshold: np.float64,
    labels: np.ndarray,
    above: np.ndarray,
    down: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Add to `counts`, by the label there, the pixels at which a map reaches the threshold.

    Pixel (y, x) lies `down[y]` of the way from row `above[y]` of the map to the next, and `right[x]` from column
    `left[x]`. What is between cells below the threshold is below it: 99 of 100 pixels are never interpolated.
    """
    height, width = maps.shape[1], maps.shape[2]
    peaks = np.empty(height, np.float64)
    for n in range(maps.shape[0]):
        for v in range(height):
            peaks[v] = np.float64(maps[n, v].max())
        for y in range(labels.shape[1]):
            top = above[y]
            bottom = min(top + 1, height - 1)
            if peaks[top] < threshold and peaks[bottom] < threshold:
                continue
            for x in range(labels.shape[2]):
                u = left[x]
                w = min(u + 1, width - 1)
                a, b = np.float64(maps[n, top, u]), np.float64(maps[n, top, w])
                c, d = np.float64(maps[n, bottom, u]), np.float64(maps[n, bottom, w])
                if a < threshold and b < threshold and c < threshold and d < threshold:
                    continue
                upper, lower = a + right[x] * (b - a), c + right[x] * (d - c)
                if upper + down[y] * (lower - upper) >= threshold:
                    counts[labels[n, y, x]] += 1
