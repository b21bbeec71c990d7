"""Base and difference between columns of one chunk: a column that an earlier one nearly says.

Three forms: the same cells but for some; ``(x - p) / q``, as scalers compute it; ``x * p + q``. What is stored is p, q
and by how many steps of the last bit each cell differs from its prediction: mostly by none. Only operations that IEEE
754 rounds correctly are used, so that every machine predicts alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

SAME, SHIFTED, SCALED = range(3)
N_FORMS = 3
_SAMPLED = 256
# Of the sampled cells so many must follow an affine form, up to this share of the largest.
_MIN_SHARE, _TOLERANCE = 0.75, 1e-9
# p and q come from quotients of rounded cells: the ones that were used lie so many steps of the last bit away at most.
_STEPS = np.arange(-4, 5)
_MAX_BITS_OF = 0.5
_MAX_BASES = 2
_REFINED = 32


class Image(NamedTuple):
    """How a column follows from an earlier one."""

    form: int
    base: int
    p: float
    q: float


def find_image(column: np.ndarray, earlier: Sequence[np.ndarray] | np.ndarray, *, n_bytes: int) -> Image | None:
    """The earlier column and the form that predict a column best.

    Parameters
    ----------
    column : ndarray of shape (n_rows,)
    earlier : sequence of ndarray of shape (n_rows,)
        Of the same dtype.
    n_bytes : int
        What a cell takes otherwise; an image is taken if its differences have less than half of the bits.

    Notes
    -----
    From 256 cells: the whole column is not looked at.

    Examples
    --------
    >>> x = np.arange(400) ** 1.5
    >>> find_image((x - 7.1) / 3.3, [np.sin(x), x], n_bytes=8)
    Image(form=1, base=1, p=7.1, q=3.3)
    """
    if len(earlier) == 0 or len(column) < 4:
        return None
    rows = np.unique(np.linspace(0, len(column) - 1, _SAMPLED).astype(np.int64))
    y = column[rows]
    x = np.stack([base[rows] for base in earlier])
    least, found = _MAX_BITS_OF * 8 * n_bytes, None
    for image in _candidates(x, y):
        bits = _mean_bits(differences(y, x[image.base], image))
        if bits < least:
            least, found = bits, image
            if bits == 0:
                break
    return found


def differences(column: np.ndarray, base: np.ndarray, image: Image) -> np.ndarray:
    """By how much the bits of a column differ from their prediction, shape (n_rows,), uint64; small is near."""
    bits, predicted = _bits(column), _predicted(base, image)
    if image.form == SAME:
        changed: np.ndarray = (bits ^ predicted).astype(np.uint64)
        return changed
    signed = (bits - predicted).view(np.int64)
    zigzag: np.ndarray = (signed << 1) ^ (signed >> 63)
    return zigzag.view(np.uint64)


def restore(difference: np.ndarray, base: np.ndarray, image: Image) -> np.ndarray:
    """The bits of a column from what `differences` gave."""
    predicted = _predicted(base, image)
    if image.form == SAME:
        bits: np.ndarray = predicted ^ difference.astype(predicted.dtype)
        return bits
    one = np.uint64(1)
    restored: np.ndarray = predicted + ((difference >> one) ^ (np.uint64(0) - (difference & one)))
    return restored


def _bits(column: np.ndarray) -> np.ndarray:
    return column.view(f"u{column.itemsize}")


def _predicted(base: np.ndarray, image: Image) -> np.ndarray:
    bits = _bits(base)
    if image.form == SAME:
        same: np.ndarray = bits
        return same
    with np.errstate(all="ignore"):
        values = (base - image.p) / image.q if image.form == SHIFTED else base * image.p + image.q
    # Which of two NaNs an operation hands on differs between processors.
    predicted: np.ndarray = np.where(np.isnan(values), bits, values.view(np.uint64))
    return predicted


def _candidates(x: np.ndarray, y: np.ndarray) -> Iterator[Image]:
    """Images of the sampled cells (n_rows,) of a column, from those (n_columns, n_rows) of earlier ones."""
    if y.itemsize >= 4:  # of numbers of one or two bytes, XOR made more bytes than it saved
        same = (_bits(x) == _bits(y)).mean(axis=1)
        yield Image(SAME, int(same.argmax()), 0.0, 0.0)
    if y.dtype != np.float64:
        return
    finite = np.flatnonzero(np.isfinite(y))
    if len(finite) < 4:
        return
    x, y = x[:, finite], y[finite]
    # Two cells apart from one another, and not the ends, which may be clipped.
    order = np.argsort(y, kind="stable")
    i, j = order[len(order) // 4], order[3 * len(order) // 4]
    with np.errstate(all="ignore"):
        slopes = (y[j] - y[i]) / (x[:, j] - x[:, i])
        error = np.abs(y[i] + (x - x[:, i, None]) * slopes[:, None] - y)
        follows = error <= _TOLERANCE * np.abs(y).max()
    is_affine = (follows.mean(axis=1) >= _MIN_SHARE) & np.isfinite(slopes) & (slopes != 0)
    # Images of one column are images of each other; the earliest is most likely the one that they were made of.
    for base in np.flatnonzero(is_affine)[:_MAX_BASES].tolist():
        some = np.flatnonzero(follows[base])
        # The ends and the middle say most of p and q.
        by_size = some[np.argsort(np.abs(y[some]), kind="stable")]
        some = np.unique(
            np.concatenate([by_size[:_REFINED], by_size[-_REFINED:], some[np.abs(x[base, some]).argmin(), None]])
        )
        yield from _refined(base, x[base, some], y[some])


def _refined(base: int, x: np.ndarray, y: np.ndarray) -> Iterator[Image]:
    """The parameters of both affine forms, to the last bit where they can be found."""
    with np.errstate(all="ignore"):
        first, last = y.argmin(), y.argmax()
        slope = (y[last] - y[first]) / (x[last] - x[first])
        # Where y is nearly 0, x is nearly p; where x is nearly 0, y is nearly q.
        nearest, largest = np.abs(y).argmin(), np.abs(y).argmax()
        p = x[nearest] - y[nearest] / slope
        q = (x[largest] - p) / y[largest]
        yield from _best(SHIFTED, base, x, y, _around(p), _around(q))
        nearest, largest = np.abs(x).argmin(), np.abs(x).argmax()
        q = y[nearest] - x[nearest] * slope
        p = (y[largest] - q) / x[largest]
        yield from _best(SCALED, base, x, y, _around(p), _around(q))


def _best(form: int, base: int, x: np.ndarray, y: np.ndarray, p: np.ndarray, q: np.ndarray) -> Iterator[Image]:
    p, q = (part.reshape(-1, 1) for part in np.meshgrid(p, q))
    values = (x - p) / q if form == SHIFTED else x * p + q
    steps = np.abs((values.view(np.int64) - y.view(np.int64)).astype(np.float64))
    best = int(np.log2(1 + steps).sum(axis=1).argmin())
    p_best, q_best = float(p[best, 0]), float(q[best, 0])
    if np.isfinite(p_best) and np.isfinite(q_best):
        yield Image(form, base, p_best, q_best)


def _around(value: np.float64) -> np.ndarray:
    """A number and its neighbours; 0 and 1 too where it is nearly one of them: a scaler without a mean."""
    steps = value + _STEPS * np.spacing(value)
    near = [exact for exact in (0.0, 1.0) if abs(value - exact) < 1e-9]
    return np.concatenate([steps, near])


def _mean_bits(difference: np.ndarray) -> float:
    return float(np.ceil(np.log2(difference.astype(np.float64) + 1)).mean())
