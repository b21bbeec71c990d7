"""Which rows of a data set are captured: all of them, or a sample that is the same each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mistique.errors import CaptureError


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows to capture.

    Parameters
    ----------
    n_rows : int, optional
        How many, drawn without replacement and kept in their order; their labels say which. None, or as many as
        there are: all.
    seed : int, default 0
        Of the draw: equal seeds draw equal rows.
    stratify : bool, default False
        Each class of the target as often as in the whole, to the nearest row. A target of several columns is taken
        for one-hot or for scores: the class is the largest.
    steps : int, optional
        How many batches of a data set are read. None: all, so it must be finite.

    Raises
    ------
    CaptureError
        `n_rows` or `steps` is below 1, or `stratify` is set without `n_rows`.

    Examples
    --------
    >>> Rows(3, seed=1).chosen(10, None)
    array([3, 4, 7])
    >>> Rows(4, stratify=True).chosen(8, np.array([0, 0, 0, 0, 0, 0, 1, 1])).tolist()[-1] >= 6
    True
    >>> Rows(0)
    Traceback (most recent call last):
    ...
    mistique.errors.CaptureError: n_rows: expected at least 1, got 0
    """

    n_rows: int | None = None
    seed: int = 0
    stratify: bool = False
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("n_rows", self.n_rows), ("steps", self.steps)):
            if value is not None and value < 1:
                raise CaptureError(f"{name}: expected at least 1, got {value}")
        if self.stratify and self.n_rows is None:
            raise CaptureError("stratify: expected n_rows as well, the number of rows to draw")

    def chosen(self, n_all: int, classes: np.ndarray | None) -> np.ndarray | None:
        """Positions of the chosen rows, rising; None: all.

        Parameters
        ----------
        n_all : int
        classes : ndarray of shape (n_all,), optional
            What `classes_of` gives; needed to stratify.

        Raises
        ------
        CaptureError
            There is no target to stratify by.
        """
        if self.stratify and classes is None:
            raise CaptureError("stratify: expected one target with a class for each row, got none; give y")
        if self.n_rows is None or self.n_rows >= n_all:
            return None
        draw = np.random.default_rng(self.seed)
        if not self.stratify or classes is None:
            return np.sort(draw.choice(n_all, self.n_rows, replace=False))
        members = [np.flatnonzero(classes == value) for value in np.unique(classes)]
        shares = np.array([len(of_class) * self.n_rows / n_all for of_class in members])
        counts = np.floor(shares).astype(int)
        # What is left over goes to the largest remainders, as seats do.
        for place in np.argsort(counts - shares, kind="stable")[: self.n_rows - counts.sum()]:
            counts[place] += 1
        drawn = [draw.choice(of, n, replace=False) for of, n in zip(members, counts, strict=True)]
        return np.sort(np.concatenate(drawn))


def classes_of(targets: list[Any]) -> np.ndarray | None:
    """A class for each row, from the leaves of a target; None: there is no target, or more than one."""
    if len(targets) != 1:
        return None
    target = np.asarray(targets[0])
    if target.ndim == 0:
        return None
    target = target.reshape(len(target), -1)
    return target[:, 0] if target.shape[1] == 1 else target.argmax(axis=1)
