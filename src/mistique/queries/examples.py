"""Answers that are rows of a dataset: the inputs that they stand for, and where on them a unit is active."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mistique.planner.execute import execute
from mistique.queries.answer import Plotted
from mistique.queries.portions import numbers_of
from mistique.schema import INPUT


@dataclass(frozen=True, eq=False, repr=False)
class Examples(Plotted):
    """Some rows of a dataset, in the order of the answer.

    Parameters
    ----------
    positions : ndarray of shape (n_rows,), int64
        Of the rows in the dataset, counted from 0.
    """

    positions: np.ndarray
    _columns: np.ndarray | None = field(default=None, kw_only=True)

    def examples(self, positions: np.ndarray | None = None) -> np.ndarray | None:
        """The inputs of these rows, or of those at other positions; None when the input was not captured."""
        capture, _ = self._store.catalog.find(self.key)
        if INPUT not in capture.intermediates:
            return None
        rows = self.positions if positions is None else positions
        values, _ = execute(self._store, capture, capture.intermediates[INPUT], rows=rows)
        return values.to_numpy()

    def maps(self, positions: np.ndarray | None = None) -> np.ndarray | None:
        """The feature maps that were asked about, for these rows or those at other positions.

        Returns
        -------
        ndarray of shape (n_rows, height, width), or None
            The mean over the units; None where they are no maps.
        """
        capture, node = self._store.catalog.find(self.key)
        if len(node.shape) != 3 or node.is_table or node.role == "input":
            return None
        rows = self.positions if positions is None else positions
        numbers = numbers_of(execute(self._store, capture, node, rows=rows, columns=self._columns)[0])
        return numbers.mean(axis=2).reshape(len(rows), *node.shape[:2]) if numbers.ndim == 3 else None


def is_image(examples: Any) -> bool:
    """Whether inputs can be drawn: grey or colour, of some size."""
    return bool(isinstance(examples, np.ndarray) and examples.ndim == 4 and examples.shape[-1] in (1, 3))
