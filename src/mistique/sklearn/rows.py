"""Which rows came of which, where a step drops, adds or reorders rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mistique.sklearn.content import content_digest
from mistique.sklearn.undisturbed import attempt, count_rows


def labels_of(X: Any) -> Any:
    """The pandas index of X; None where there is none, or where it only numbers the rows."""
    index = X.index if hasattr(X, "iloc") else None
    is_numbering = index is not None and type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    return None if is_numbering else index


def changes_rows(labels: Any, n_rows: int, value: Any) -> bool:
    """Whether a step gave other rows than it was given, or the same in another order, as far as their labels tell.

    Parameters
    ----------
    labels : Index, ndarray or None
        Of the rows that went in; None: they are numbered.
    n_rows : int
    value : container
        What came out.
    """
    n_after = count_rows(value)
    if n_after is not None and n_after != n_rows:
        return True
    if not hasattr(value, "iloc") or labels_of(value) is None:
        return False
    # Labels of another kind are new names for the rows, not other rows.
    before, after = _as_index(labels, n_rows), value.index
    return not after.equals(before) and bool(after.isin(before).all())


def labels_after(labels: Any, before: Any, value: Any, *, name: str, estimator: Any) -> Any:
    """Labels of the rows that a step gave: those that they had, and new ones for rows that it made.

    Parameters
    ----------
    labels : Index, ndarray or None
        Of the rows that went in; None: they were numbered.
    before, value : container
        What went in, and what came out.
    name : str
        Of the step: rows of which nobody can say where they come from are labelled with it.
    estimator : object
        Fitted; imbalanced-learn's samplers tell which rows they chose, or put new ones after the old.
    """
    n_before, n_after = count_rows(before) or 0, count_rows(value) or 0
    known = _as_index(labels, n_before)
    chosen = getattr(estimator, "sample_indices_", None)
    if chosen is not None and len(chosen) == n_after and (n_after == 0 or np.max(chosen) < n_before):
        return known[np.asarray(chosen)]
    if hasattr(value, "iloc") and value.index.isin(known).all() and labels_of(value) is not None:
        return value.index
    if n_after >= n_before and _is_head(before, value, n_before):
        return known.append(_new_labels(known, n_after - n_before, name))
    import pandas as pd

    return pd.Index([f"{name} {i}" for i in range(n_after)])


def _as_index(labels: Any, n_rows: int) -> Any:
    import pandas as pd

    return pd.RangeIndex(n_rows) if labels is None else pd.Index(labels)


def _is_head(before: Any, value: Any, n_rows: int) -> bool:
    """The first rows are those that went in."""
    head = attempt(lambda: value.iloc[:n_rows] if hasattr(value, "iloc") else value[:n_rows]).value
    one, other = (attempt(partial(_plain, rows)).value for rows in (before, head))
    return one is not None and other is not None and content_digest(one) == content_digest(other) != ""


def _plain(rows: Any) -> Any:
    return rows.tocsr() if hasattr(rows, "tocsr") else np.ascontiguousarray(rows)


def _new_labels(known: Any, n_rows: int, name: str) -> Any:
    """Below all numbers there are, from -1 down; after other labels the name of the step and a number."""
    import pandas as pd

    if getattr(known, "dtype", None) is not None and known.dtype.kind in "iu":
        lowest = min(int(known.min()) if len(known) else 0, 0)
        return pd.Index(lowest - 1 - np.arange(n_rows, dtype=np.int64))
    texts = [f"{name} {i}" for i in range(n_rows)]
    if getattr(known, "nlevels", 1) > 1:
        return pd.MultiIndex.from_tuples([(text,) * known.nlevels for text in texts], names=known.names)
    return pd.Index(texts)
