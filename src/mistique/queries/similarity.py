"""What the comparisons of layers share: which layers, over which rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mistique.errors import QueryError
from mistique.planner.execute import row_labels
from mistique.queries.patterns import is_dataset
from mistique.queries.portions import Portions, number_columns
from mistique.queries.selection import find_each, labels_of, matched_rows
from mistique.schema import Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

Named = tuple[Capture, Intermediate]


def named(store: Store, keys: str | Key | list[str | Key]) -> list[Named]:
    """The intermediates that keys name; a key of a dataset stands for all of its stages and layers of numbers.

    Raises
    ------
    QueryError
        No key at all.
    """
    if not isinstance(keys, (Key, Iterable)):
        raise QueryError(f"expected a key, or a list of them, got {keys!r}")
    given = [keys] if isinstance(keys, (str, Key)) else list(keys)
    are_datasets = [isinstance(key, str) and is_dataset(key) for key in given]
    # Of a dataset whatever comes first: its capture is meant.
    asked = (f"{str(key).rstrip('/')}/0" if is_one else key for key, is_one in zip(given, are_datasets, strict=True))
    each = find_each(store, asked)
    found: list[Named] = []
    for (capture, node), is_one in zip(each, are_datasets, strict=True):
        if is_one:
            steps = [node for node in capture.intermediates.values() if node.role in ("input", "stage", "prediction")]
            found += [(capture, node) for node in steps if _has_numbers(node)]
        else:
            found.append((capture, node))
    if not found:
        raise QueryError("expected a key, a list of keys, or the key of a dataset, project/model@version/dataset")
    return found


def key_of(capture: Capture, node: Intermediate) -> str:
    """The key of an intermediate."""
    return str(Key(capture.version.model, capture.number, capture.dataset, node.name))


def common_rows(store: Store, layers: list[Named]) -> list[np.ndarray | None]:
    """For each layer the positions of the rows that all have, in one order; None: all of them as they lie.

    Raises
    ------
    QueryError
        Two have no row label in common.
    """
    first_capture, first = layers[0]
    if all(capture.id == first_capture.id and node.n_rows == first.n_rows for capture, node in layers):
        return [None] * len(layers)
    for capture, node in layers:
        is_same = (capture.dataset, node.n_rows) == (first_capture.dataset, first.n_rows)
        if not is_same and row_labels(store, capture) is None:
            raise QueryError(
                f"rows of {key_of(first_capture, first)} ({first.n_rows:,}) and {key_of(capture, node)} "
                f"({node.n_rows:,}) cannot be matched: they have no labels. Capture one dataset by both models, or "
                "give labels at capture"
            )
    labels = labels_of(store, first_capture, first.n_rows, None)
    others = [labels_of(store, capture, node.n_rows, None) for capture, node in layers]
    if all(len(other) == len(labels) and (other == labels).all() for other in others):
        return [None] * len(layers)
    for (capture, node), other in zip(layers, others, strict=True):
        kept, _ = matched_rows(labels, other)
        if not len(kept):
            raise QueryError(f"{key_of(first_capture, first)} and {key_of(capture, node)} have no row label in common")
        labels = labels[kept]
    return [matched_rows(labels, other)[1] for other in others]


def portions_of(store: Store, layers: list[Named], *, exact: bool, by_column: bool = False) -> list[Portions]:
    """The layers over their common rows, all columns that hold numbers; each column may lie together, if wanted."""
    rows = common_rows(store, layers)
    return [
        Portions(
            store,
            capture,
            node,
            rows=which,
            columns=number_columns(node, None, None)[0],
            exact=exact,
            by_column=by_column,
        )
        for (capture, node), which in zip(layers, rows, strict=True)
    ]


def check_finite(numbers: np.ndarray, key: str) -> None:
    """Refuse what has no product.

    Raises
    ------
    QueryError
    """
    if not np.isfinite(numbers).all():
        raise QueryError(f"{key} holds nulls, NaN or infinities: choose a stage or layer after they were filled in")


def _has_numbers(node: Intermediate) -> bool:
    try:
        number_columns(node, None, None)
    except QueryError:
        return False
    return True
