"""The directions of most variance of layers, by the covariance of their columns or the products of their rows."""

from __future__ import annotations

import numpy as np

from mistique.errors import QueryError
from mistique.queries.portions import CELLS_AT_ONCE, Portions
from mistique.queries.positions import reduced
from mistique.queries.progress import tracked
from mistique.queries.similarity import check_finite

# Of a covariance, or of products of rows: 2 GB, and a quarter of an hour to decompose.
MOST_COLUMNS = 16_384
# Of the largest: what is smaller is rounding, no direction.
_LEAST_VARIANCE = 1e-12


class Moments:
    """Sums of products of the columns of two layers, taken a portion of rows at a time."""

    def __init__(self, sides: list[Portions], reduce: str) -> None:
        self._n_rows = sides[0].n_rows
        self._shifts: list[np.ndarray] = []
        height = max(side.intermediate.block_rows for side in sides)
        step = max(CELLS_AT_ONCE // (height * max(side.n_columns for side in sides)), 1) * height
        for low in range(0, self._n_rows, step):
            high = min(low + step, self._n_rows)
            self._add(*(self._numbers(side, low, high, reduce) for side in sides))

    def _numbers(self, side: Portions, low: int, high: int, reduce: str) -> np.ndarray:
        numbers = reduced(side.take(low, high), reduce)
        check_finite(numbers, side.intermediate.name)
        return numbers.astype(np.float64)

    def _add(self, x: np.ndarray, y: np.ndarray) -> None:
        if not self._shifts:
            # Around about the mean: the products of large numbers would drown the covariance.
            self._shifts = [x.mean(axis=0), y.mean(axis=0)]
            self._sums = [np.zeros(x.shape[1]), np.zeros(y.shape[1])]
            self._xx, self._yy = np.zeros((x.shape[1],) * 2), np.zeros((y.shape[1],) * 2)
            self._xy = np.zeros((x.shape[1], y.shape[1]))
        x -= self._shifts[0]
        y -= self._shifts[1]
        self._sums[0] += x.sum(axis=0)
        self._sums[1] += y.sum(axis=0)
        self._xx += x.T @ x
        self._yy += y.T @ y
        self._xy += x.T @ y

    def covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each layer with itself, times the number of rows."""
        x, y = self._sums
        self._xx -= np.outer(x, x) / self._n_rows
        self._yy -= np.outer(y, y) / self._n_rows
        return self._xx, self._yy

    def covariance_between(self) -> np.ndarray:
        """Of one with the other, times the number of rows."""
        return self._xy - np.outer(*self._sums) / self._n_rows


def directions_of_columns(covariance: np.ndarray, variance: float, name: str) -> np.ndarray:
    """What takes columns to the directions of most variance, each of length 1 over all rows."""
    squares, vectors = _largest(covariance, variance, name)
    return np.asarray(vectors / np.sqrt(squares))


def directions_of_rows(products: np.ndarray, variance: float, name: str) -> np.ndarray:
    """The directions themselves, of shape (n_rows, n_directions), each of length 1.

    They are the left singular vectors of the layer, which are the vectors of the products of its rows.
    """
    return _largest(products, variance, name)[1]


def _largest(squares_of: np.ndarray, variance: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues, which hold the variance asked, and their vectors."""
    squares, vectors = np.linalg.eigh(squares_of)
    squares, vectors = squares[::-1].clip(min=0), vectors[:, ::-1]
    if not squares[0] > 0:
        raise QueryError(f"{name} is the same in every row: it correlates with nothing")
    shares = np.cumsum(squares) / squares.sum()
    n_kept = int(np.searchsorted(shares, variance)) + 1
    n_kept = min(n_kept, int((squares > _LEAST_VARIANCE * squares[0]).sum()))
    return squares[:n_kept], vectors[:, :n_kept]


def products_of_rows(side: Portions, reduce: str) -> np.ndarray:
    """The products of all rows with one another, of shape (n_rows, n_rows), columns centred; some columns at a time."""
    node, n_rows = side.intermediate, side.n_rows
    columns = side.columns
    # Whole chunks, which are whole units or parts of one.
    width = max(CELLS_AT_ONCE // (n_rows * node.group_columns), 1) * node.group_columns
    width = max(width // node.positions, 1) * node.positions
    products = np.zeros((n_rows, n_rows))
    for low in tracked(range(0, len(columns), width), f"reading {node.name}", total=-(-len(columns) // width)):
        numbers = reduced(side.take(0, n_rows, columns=columns[low : low + width]), reduce)
        check_finite(numbers, node.name)
        centred = numbers - numbers.mean(axis=0, dtype=np.float64)
        products += centred @ centred.T
    return products


def check_room(n_directions: tuple[int, int], n_rows: int, *, instead: str) -> None:
    """Refuse what correlates whatever it holds: two spaces that have more directions than there are rows share some.

    `instead` is what can be asked.

    Raises
    ------
    QueryError
    """
    if sum(n_directions) >= n_rows:
        raise QueryError(
            f"{n_directions[0]:,} and {n_directions[1]:,} directions in {n_rows:,} rows: expected fewer together than "
            f"rows, as unrelated layers correlate else; {instead}"
        )
