"""POINTQ: some rows and columns of an intermediate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.planner.execute import execute, row_labels
from mistique.planner.values import Values
from mistique.queries.answer import Plotted
from mistique.queries.selection import find, labels_of, select_columns, select_rows
from mistique.schema import Intermediate, Key

if TYPE_CHECKING:
    from mistique.store import Store


_PLACES: dict[int, tuple[str, ...]] = {1: ("step",), 2: ("height", "width")}


@dataclass(frozen=True, eq=False, repr=False)
class Part(Plotted):
    """Rows and columns of an intermediate. Made by `get`."""

    _values: Values = field(kw_only=True)
    _index: Any = field(default=None, kw_only=True)

    def _more(self) -> list[str]:
        return [*([] if len(self.rows) else ["no rows"]), *super()._more()]

    @property
    def intermediate(self) -> Intermediate:
        """What it is a part of."""
        return self._values.intermediate

    def _first_rows(self, n_rows: int) -> np.ndarray:
        # Columns of a layer go unit by unit; of its values the units come last.
        values = self.values[:n_rows]
        if values.ndim < 3:
            return super()._first_rows(n_rows)
        return np.moveaxis(values, -1, 1).reshape(len(values), int(np.prod(values.shape[1:])))

    def to_frame(self) -> Any:
        """A pandas frame with the dtypes and the row labels that were captured."""
        import pandas as pd

        return self._values.to_frame(pd.Index(self.rows) if self._index is None else self._index)

    def dimensions(self) -> tuple[tuple[str, ...], tuple[np.ndarray | None, ...]]:
        """Names of the dimensions of `values`, and the labels along each; None: they are numbered.

        Of feature maps: row, height, width, unit.
        """
        node, columns = self._values.intermediate, self._values.columns
        if node.is_table or self.values.ndim == 1 or (self.values.ndim == 2 and node.positions > 1):
            return super().dimensions()
        n_between = self.values.ndim - 2
        between = _PLACES.get(n_between, tuple(f"place_{i}" for i in range(n_between)))
        units = columns[:: node.positions] // node.positions
        return ("row", *between, "unit"), (self.rows, *[None] * n_between, units)


def get(
    store: Store,
    key: str | Key,
    *,
    rows: Any = None,
    columns: Any = None,
    unit: Any = None,
    exact: bool = False,
) -> Part:
    """Some rows and columns of an intermediate, read or recomputed, whichever is cheaper.

    Parameters
    ----------
    store : Store
    key : str or Key
        ``project/model@version/dataset/intermediate``. An intermediate can also be named by its position: ``-1`` is the
        prediction, ``0`` the input.
    rows : label, list of labels, slice or mask, optional
        Labels as they were captured, numbers from 0 where there were none; a slice takes positions, none beyond the
        end; an array of booleans has one for each row, a series of them says by its index which rows it means.
        Default: all.
    columns : str, int or list of them, optional
        By name or number. Default: all.
    unit : int or list of int, optional
        Neurons, or channels of a feature map with all of their positions.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    Part
        ``values`` has the shape of the intermediate, ``(n_rows, *shape)``, for whole rows and units.

    Raises
    ------
    IntermediateNotFoundError
        Naming the nearest key.
    QueryError
        An unknown row or column, naming the nearest; a slice beyond the end, saying how many rows there are.
    NoPlanError
        It is neither stored nor can it be recomputed.

    Notes
    -----
    The paper's POINTQ (section 2.2). Bytes are read in proportion to the row blocks and columns asked; each chunk is
    held against its digest.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.arange(12.0).reshape(6, 2), np.arange(6.0))
    >>> mistique.get(store, "demo/ridge@latest/train/scale", rows=[0, 5]).values.round(2)
    array([[-1.46, -1.46],
           [ 1.46,  1.46]])
    >>> mistique.get(store, "demo/ridge@latest/train/scael")
    Traceback (most recent call last):
    ...
    mistique.errors.IntermediateNotFoundError: no intermediate in demo/ridge@1/train: 'scael'; nearest: scale
    """
    capture, intermediate = find(store, key)
    chosen_rows = select_rows(store, capture, intermediate.n_rows, rows)
    chosen_columns = select_columns(intermediate, columns, unit)
    values, plan = execute(store, capture, intermediate, rows=chosen_rows, columns=chosen_columns, exact=exact)
    index = row_labels(store, capture)
    return Part(
        plan.key,
        values.to_numpy(),
        labels_of(store, capture, intermediate.n_rows, chosen_rows),
        tuple(values.names()),
        plan.max_abs_error or 0.0,
        plan,
        _values=values,
        _index=index if index is None or chosen_rows is None else index[chosen_rows],
    )
