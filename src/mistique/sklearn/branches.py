"""What of its input a ColumnTransformer or FeatureUnion gives to each of its branches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion
from sklearn.utils import _safe_indexing


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """One branch of a fitted composite.

    Parameters
    ----------
    of : ColumnTransformer or FeatureUnion
    name : str
    estimator : object
        Fitted; or ``"passthrough"``.
    weight : float, optional
        Its output is multiplied by it.
    """

    of: Any
    name: str
    estimator: Any
    weight: Any

    @property
    def columns(self) -> tuple[int, ...] | None:
        """Positions of its columns in what the composite was fitted with; None: all."""
        if isinstance(self.of, FeatureUnion):
            return None
        return tuple(int(i) for i in self.of._transformer_to_input_indices[self.name])

    @property
    def is_series(self) -> bool:
        """It gets one column in one dimension."""
        if isinstance(self.of, FeatureUnion):
            return False
        return any(name == self.name and isinstance(columns, (str, int)) for name, _, columns in self.of.transformers_)

    def select(self, rows: Any) -> Any:
        """What of these rows goes into it, as the composite itself selects it."""
        if isinstance(self.of, FeatureUnion):
            return rows
        # As in ColumnTransformer.transform: by name where it was fitted with names and is given some.
        rows = rows if hasattr(rows, "shape") else _as_array(rows)
        by_name = hasattr(self.of, "feature_names_in_") and hasattr(rows, "columns")
        for name, _, columns, _ in self.of._iter(
            fitted=True, column_as_labels=by_name, skip_drop=True, skip_empty_columns=True
        ):
            if name == self.name:
                return _safe_indexing(rows, columns, axis=1)
        raise KeyError(self.name)

    def names(self, before: tuple[str, ...]) -> tuple[str, ...] | None:
        """The names of its columns, of those that go into the composite."""
        columns = self.columns
        if columns is None:
            return before
        return tuple(before[i] for i in columns) if all(i < len(before) for i in columns) else None


def branches_of(composite: Any) -> tuple[Branch, ...]:
    """The branches of a fitted composite, in the order of its output; of any other estimator none."""
    return tuple(Branch(composite, name, estimator, weight) for name, estimator, weight in _iterate(composite))


def _iterate(composite: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(composite, ColumnTransformer):
        found = composite._iter(fitted=True, column_as_labels=False, skip_drop=True, skip_empty_columns=True)
        yield from ((name, estimator, weight) for name, estimator, _, weight in found)
    elif isinstance(composite, FeatureUnion):
        weights = composite.transformer_weights or {}
        for name, estimator in composite.transformer_list:
            if estimator is not None and not (isinstance(estimator, str) and estimator == "drop"):
                yield name, estimator, weights.get(name)


def _as_array(rows: Any) -> Any:
    import numpy as np

    return np.asarray(rows)
