"""KNN: the rows that are nearest to a row in one intermediate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import QueryError
from mistique.planner.index_layout import CODES
from mistique.planner.plan import Plan, format_bound
from mistique.queries.approximate import row_graph
from mistique.queries.contenders import Contenders, contenders
from mistique.queries.examples import Examples
from mistique.queries.portions import Portions, number_columns
from mistique.queries.query_row import query_row
from mistique.queries.row_distances import DISTANCES, distance_error, distances_to
from mistique.queries.selection import find, labels_of
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class Neighbours(Examples):
    """The nearest rows, nearest first. Made by `knn`.

    ``values`` has shape (k,): the distances, each within ``max_abs_error``.

    Parameters
    ----------
    query : object
        Label of the row that was asked about; None for a new example.
    query_position : int, optional
        Of that row in the dataset.
    distance : str
    query_plan : Plan, optional
        The road taken for the row; None for a new example, for which the model was run.
    left_out : tuple of str
        Columns that hold no numbers.
    recall : float, optional
        Of an approximate answer: the share of the ten nearest rows that were found, of sampled rows. None: all are.
    """

    query: Any
    query_position: int | None
    distance: str
    query_plan: Plan | None
    left_out: tuple[str, ...]
    recall: float | None = None

    def _title(self) -> str:
        of = "a new example" if self.query_position is None else self.query
        return f"Rows nearest to {of} by {self.columns[0]} in {self.key}"

    def _more(self) -> list[str]:
        left_out = f"without {', '.join(self.left_out[:6])}: no numbers"
        bound = format_bound(self.max_abs_error).replace("each value", "each distance")
        found = []
        if self.recall is not None:
            found = [f"approximate: {self.recall:.0%} of the ten nearest rows were found, of a sample of rows"]
        if not len(self.rows):
            found.append("no other rows")
        notes = [*([left_out] if self.left_out else []), *found]
        return [*notes, f"{bound}; {self.plan}"]


def knn(
    store: Store,
    key: str | Key,
    *,
    row: Any = None,
    position: int | None = None,
    example: Any = None,
    k: int = 10,
    columns: Any = None,
    unit: Any = None,
    distance: str = "euclidean",
    exact: bool = False,
    approximate: bool = False,
) -> Neighbours:
    """The k rows that are nearest to a row, in one intermediate.

    Parameters
    ----------
    store : Store
    key : str or Key
    row : label, optional
        The row asked about. It is not its own neighbour.
    position : int, optional
        In place of `row`: its position in the dataset, from 0, or from the end where negative.
    example : array, frame, series or mapping, optional
        In place of `row`: one row of input that was never captured, as the model takes it; the model is run on it.
    k : int, default 10
    columns : str, int or list of them, optional
        To compare. Default: all that hold numbers.
    unit : int or list of int, optional
    distance : {"euclidean", "manhattan", "cosine", "chebyshev"}, default "euclidean"
    exact : bool, default False
        Never answer with quantized values.
    approximate : bool, default False
        By a graph of the rows (HNSW, of usearch, the extra ``mistique[ann]``), which the first question of a session
        builds; it may miss some, and `recall` says how many of ten it finds. Euclidean and cosine alone.

    Returns
    -------
    Neighbours
        Ties go to the earlier row; rows with a null or NaN in a column come last.

    Raises
    ------
    QueryError
        An unknown row, column or distance, several rows of that label, or a row that has nulls.
    ModelMismatchError, NoPlanError, UntrustedArtifactError
        The model cannot be run on the example.

    Notes
    -----
    The paper's KNN (table 1). Exact, over all rows, which are taken in portions, so a layer may be larger than memory:
    ``tests/queries/test_knn.py``. From quantized values, a row that is truly among the nearest is missed only if its
    distance is within twice ``max_abs_error`` of the last one's.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.array([[0.0], [3.0], [1.0], [9.0]]), np.arange(4.0))
    >>> answer = mistique.knn(store, "demo/ridge@1/train/input", row=0, k=2)
    >>> answer.rows, answer.values
    (array([2, 1]), array([1., 3.]))
    >>> mistique.knn(store, "demo/ridge@1/train/input", example=[8.0], k=1).rows
    array([3])
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise QueryError(f"k: expected a number of rows, at least 1, got {k!r}")
    if distance not in DISTANCES:
        raise QueryError(f"distance: expected one of {', '.join(DISTANCES)}, got {distance!r}")
    capture, node = find(store, key)
    chosen, left_out = number_columns(node, columns, unit)
    portions: Portions | Contenders
    portions = whole = Portions(store, capture, node, columns=chosen, exact=exact)
    index = store.graph(capture).indexes.get(node.name)
    # An index holds a column of all rows: one row of it from the chunks besides took as long as the index.
    is_of_index = index is not None and index.form == CODES and not approximate and not node.is_table
    asked = query_row(
        store,
        capture,
        node,
        row=row,
        position=position,
        example=example,
        columns=chosen,
        exact=exact,
        portions=whole if is_of_index else None,
    )
    query, at = asked.numbers.reshape(-1), asked.position
    nearest, recall = _Nearest(k), None
    if approximate:
        graph = row_graph(store, whole, distance)
        recall, near = graph.recall, graph.near(query, k + 1)
        portions = whole = Portions(store, capture, node, columns=chosen, exact=exact)
        candidates = whole.rows(near)
        nearest.add(near, candidates.reshape(len(near), -1), query, distance, without=at)
    else:
        if distance != "cosine":
            bounded = _Bounded(query, distance)
            # The row itself is the nearest of them, and left out after.
            limits: dict[str, Any] = {"k": int(k) + 1, "n_read": int(k), "exact": exact}
            portions = contenders(store, capture, node, columns=chosen, scores=bounded, **limits) or portions
        for rows, numbers in portions:
            positions = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
            nearest.add(positions, numbers.reshape(len(numbers), -1), query, distance, without=at)
    sizes = np.append(nearest.sizes, np.sqrt(query @ query))
    taken = portions.plan()
    return Neighbours(
        taken.key,
        nearest.distances,
        labels_of(store, capture, node.n_rows, nearest.positions),
        (f"{distance} distance",),
        distance_error(
            distance,
            n_columns=len(query),
            row_error=portions.max_abs_error,
            query_error=asked.max_abs_error,
            sizes=sizes,
        ),
        taken,
        nearest.positions,
        asked.label,
        at,
        distance,
        asked.plan,
        tuple(left_out),
        recall,
        _store=store,
        _columns=chosen,
    )


@dataclass(frozen=True)
class _Bounded:
    """How near a row can be, by the bounds of its values: the nearest first, so distances below zero."""

    query: np.ndarray
    distance: str

    def __call__(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = (bounds.reshape(len(bounds), -1) for bounds in (lower, upper))
        with np.errstate(invalid="ignore", over="ignore"):
            below, above = lower - self.query, upper - self.query
        least = np.maximum(np.maximum(below, -above), 0.0)
        most = np.maximum(np.abs(below), np.abs(above))
        origin = np.zeros(len(self.query))
        return -distances_to(most, origin, self.distance), -distances_to(least, origin, self.distance)


class _Nearest:
    """The nearest rows of those seen so far."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.positions = np.empty(0, np.int64)
        self.distances = self.sizes = np.empty(0)

    def add(
        self, places: np.ndarray, rows: np.ndarray, query: np.ndarray, distance: str, *, without: int | None
    ) -> None:
        """Take the rows at these positions, sorted, and keep the `k` nearest, without the one that is asked about."""
        found = distances_to(rows, query, distance)
        near = np.argsort(found, kind="stable")[: self._k + 1]  # NaN last, ties in order
        near = near[places[near] != without][: self._k]
        # Norms are needed for the bound of the cosine alone.
        norms = np.linalg.norm(rows[near].astype(np.float64), axis=1) if distance == "cosine" else np.zeros(len(near))
        positions = np.concatenate([self.positions, places[near]])
        distances = np.concatenate([self.distances, found[near]])
        sizes = np.concatenate([self.sizes, norms])
        kept = np.lexsort((positions, distances))[: self._k]
        self.positions, self.distances, self.sizes = positions[kept], distances[kept], sizes[kept]
