"""Masks of units, where an upsampled map is over its threshold: thresholds, and the pixels within by their label."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mistique.kernels.overlap import count_overlap

# One of so many cells is a sample.
_SAMPLED = 16


def thresholds_of(maps: np.ndarray, alpha: float, *, size: tuple[int, ...] | None = None) -> np.ndarray:
    """The (1 - `alpha`) quantile of each unit of maps (n_units, n_rows, height, width): of all cells, or upsampled."""
    if size is None:
        down = right = None
    else:
        down, right = (_upsampling(n, wanted) for n, wanted in zip(maps.shape[2:], size, strict=True))

    def quantile(cells: np.ndarray) -> float:
        if down is not None and right is not None:
            cells = down @ cells @ right.T
        flat = cells.reshape(-1)
        # As `np.quantile` in float64, of the two values that it lies between, found in float32.
        low, way = divmod((flat.size - 1) * (1 - alpha), 1)
        places = np.array([int(low), min(int(low) + 1, flat.size - 1)])
        # Most cells lie far below, as a sample tells: to sort them apart took most of the time.
        sample = np.sort(flat[::_SAMPLED])
        largest = flat[flat >= sample[int((1 - min(2 * alpha, 1)) * (len(sample) - 1))]]
        if len(largest) >= flat.size - places[0]:
            places -= flat.size - len(largest)
            flat = largest
        below, above = np.partition(flat, places)[places].tolist()
        return float(below + (above - below) * way if way < 0.5 else above - (above - below) * (1 - way))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(quantile, maps)))


def _upsampling(n_cells: int, n_pixels: int) -> np.ndarray:
    """The matrix that interpolates, shape (n_pixels, n_cells), float32."""
    before, way = places_of(n_cells, n_pixels)
    matrix = np.zeros((n_pixels, n_cells), np.float32)
    matrix[np.arange(n_pixels), before] += 1 - way
    matrix[np.arange(n_pixels), np.minimum(before + 1, n_cells - 1)] += way
    return matrix


def count_pixels(
    maps: np.ndarray, thresholds: np.ndarray, labels: np.ndarray, units: np.ndarray, counts: np.ndarray
) -> None:
    """Add to `counts` (n_units, n_labels) the pixels of the masks of some units, by their label."""
    above, down = places_of(maps.shape[2], labels.shape[1])
    left, right = places_of(maps.shape[3], labels.shape[2])

    def count(unit: int) -> None:
        of_unit = np.ascontiguousarray(maps[unit])
        count_overlap(of_unit, thresholds[unit], labels, above, down, left, right, counts[unit])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(count, units.tolist()))


def places_of(n_cells: int, n_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell before each pixel, and how far it is on the way to the next."""
    places = np.clip((np.arange(n_pixels) + 0.5) * n_cells / n_pixels - 0.5, 0, n_cells - 1)
    before = np.floor(places).astype(np.int64)
    return before, places - before
