"""What the columns are called that a stage gave."""

from __future__ import annotations

from functools import partial
from typing import Any

from mistique.sklearn.stages import Stage
from mistique.sklearn.undisturbed import attempt


def names_of_columns(value: Any) -> tuple[str, ...] | None:
    """The names that a container has for its columns; None: it has none."""
    if hasattr(value, "columns") and hasattr(value, "shape"):
        return tuple(map(str, value.columns))
    if hasattr(value, "iloc") and getattr(value, "name", None) is not None:
        return (str(value.name),)
    return None


def names_after(stage: Stage, before: tuple[str, ...] | None, value: Any) -> tuple[str, ...] | None:
    """Names of the columns that a stage gave.

    Parameters
    ----------
    stage : Stage
    before : tuple of str, optional
        Names of the columns of its parent's output.
    value : container
        What came out.

    Returns
    -------
    tuple of str, optional
        None: the estimator gives no names, or not as many as there are columns.
    """
    own = names_of_columns(value)
    shape: tuple[int, ...] = getattr(value, "shape", ())
    if own is not None:
        return own
    if stage.is_score:
        return _names_of_classes(stage, shape)
    if len(shape) != 2:
        return None
    for branch in stage.branches:
        before = None if before is None else branch.names(before)
    if not stage.method:
        return before
    if not hasattr(stage.estimator, "get_feature_names_out"):
        return None
    for given in (before, None):
        found = attempt(partial(stage.estimator.get_feature_names_out, given)).value
        if found is not None and len(found) == shape[1]:
            return tuple(map(str, found))
    return None


def _names_of_classes(stage: Stage, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    classes = getattr(stage.estimator, "classes_", None)
    if isinstance(classes, list) and stage.output is not None:
        classes = classes[stage.output]
    width = shape[1] if len(shape) == 2 else 1
    if classes is None or isinstance(classes, list):
        return None
    # Two classes have one distance, that of the second.
    named = list(classes)[-1:] if width == 1 and len(classes) == 2 else list(classes)
    return tuple(map(str, named)) if len(named) == width else None
