"""The plan for a question, before it is run; or of an answer, after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mistique.planner.choose import choose, is_choice
from mistique.planner.execute import question_of
from mistique.planner.plan import Plan
from mistique.planner.probe import calibrate
from mistique.queries.answer import Answer
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
) -> Plan:
    """The roads to an answer with their predicted seconds and bytes, the choice and the reason.

    Parameters
    ----------
    store : Store or Answer
        Of an answer, the plan comes back with what it really took; nothing else is then to be given.
    key, rows, columns, unit, exact
        The question, as in `get`. It is not run.

    Returns
    -------
    Plan
        Its repr is a table.

    Raises
    ------
    NoPlanError
        It is neither stored nor can it be recomputed.

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
    """
    if isinstance(store, Answer):
        return store.plan
    if key is None:
        raise TypeError("explain: expected a store and a key, or an answer alone")
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
