"""The plan for a question, before it is run; or of an answer, after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mistique.errors import QueryError
from mistique.planner.choose import choose, is_choice
from mistique.planner.execute import question_of
from mistique.planner.plan import Plan
from mistique.planner.planning import Planned, only_planned
from mistique.planner.probe import calibrate
from mistique.queries.answer import Answer
from mistique.queries.patterns import find_all
from mistique.queries.selection import find, select_columns, select_rows
from mistique.schema import Key

if TYPE_CHECKING:
    from mistique.store import Store


def explain(
    store: Store | Answer,
    key: str | Key | None = None,
    *,
    rows: Any = None,
    columns: Any = None,
    unit: Any = None,
    exact: bool = False,
    query: Callable[..., Answer] | None = None,
    **options: Any,
) -> Plan:
    """The roads to an answer with their predicted seconds and bytes, the choice and the reason.

    Parameters
    ----------
    store : Store or Answer
        Of an answer, the plan comes back with what it really took; nothing else is then to be given.
    key, rows, columns, unit, exact
        The question, as in `get`. It is not run.
    query : function, optional
        Another question than `get`: `mistique.topk`, `mistique.dead_units`. Its `options` follow by name. The plan is
        that of the first part of it that asks more than a row of what the key names, over all portions; what it needs
        to know before, such as groups of rows, is looked at.

    Returns
    -------
    Plan
        Its repr is a table.

    Raises
    ------
    NoPlanError
        It is neither stored nor can it be recomputed.
    QueryError
        What is asked makes no sense: rows or columns that there are not, a `query` that is no function.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.arange(6.0).reshape(6, 1), np.arange(6.0))
    >>> [candidate.road for candidate in mistique.explain(store, "demo/ridge@1/train/prediction").candidates]
    ['read', 'recompute']
    >>> mistique.explain(store, "demo/ridge@1/train/prediction", query=mistique.topk, k=3).chosen.road
    'read'
    """
    if isinstance(store, Answer):
        return store.plan
    if key is None:
        raise TypeError("explain: expected a store and a key, or an answer alone")
    if query is not None:
        if not callable(query):
            raise QueryError(f"query: expected a function, mistique.topk for example, got {query!r}")
        given = {"rows": rows, "columns": columns, "unit": unit, "exact": exact or None, **options}
        return _plan_of(store, key, query, {name: value for name, value in given.items() if value is not None})
    if options:
        raise TypeError(f"explain: {', '.join(options)} given without query=, the function that takes them")
    capture, intermediate = find(store, key)
    question = question_of(
        store,
        capture,
        intermediate,
        rows=select_rows(store, capture, intermediate.n_rows, rows),
        columns=select_columns(intermediate, columns, unit),
        exact=exact,
    )
    if is_choice(question):
        calibrate(store, capture, question)
    return choose(question, store.calibration)


def _plan_of(store: Store, key: str | Key, query: Callable[..., Answer], options: Mapping[str, Any]) -> Plan:
    """The plan of another question, which is run where it asks for a single row only."""
    asked = [(capture, node.name) for capture, node in find_all(store, key)]
    try:
        with only_planned(asked):
            return query(store, key, **options).plan
    except Planned as found:
        return found.plan
