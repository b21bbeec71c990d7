"""Mean or largest value of each window of feature maps."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel


@kernel("float64(Array(float32, 4, 'C', readonly=True), int64, boolean, float32[:, :, :, ::1])")
def pool_maps(maps: np.ndarray, sigma: int, is_max: bool, pooled: np.ndarray) -> np.float64:
    """Pool maps (n, height, width, channels) by windows of sigma x sigma; the largest distance of a finite value from
    the value of its window.

    Windows at the lower and right edge may be smaller. NaN makes its window NaN.
    """
    height, width = maps.shape[1], maps.shape[2]
    error = np.float64(0.0)
    sums = np.empty(maps.shape[3], np.float64)
    for n in range(pooled.shape[0]):
        for y in range(pooled.shape[1]):
            for x in range(pooled.shape[2]):
                bottom, right = min((y + 1) * sigma, height), min((x + 1) * sigma, width)
                sums[:] = -np.inf if is_max else np.float64(0.0)
                for v in range(y * sigma, bottom):
                    for u in range(x * sigma, right):
                        for c in range(sums.size):
                            value = np.float64(maps[n, v, u, c])
                            if not is_max:
                                sums[c] += value
                            elif value > sums[c] or value != value:
                                sums[c] = value if sums[c] == sums[c] else sums[c]
                count = np.float64((bottom - y * sigma) * (right - x * sigma))
                for c in range(sums.size):
                    pooled[n, y, x, c] = np.float32(sums[c] if is_max else sums[c] / count)
                for v in range(y * sigma, bottom):
                    for u in range(x * sigma, right):
                        for c in range(sums.size):
                            distance = abs(np.float64(maps[n, v, u, c]) - np.float64(pooled[n, y, x, c]))
                            if np.isfinite(maps[n, v, u, c]) and not distance <= error:
                                error = distance
    return error
