"""The stages of a model: which records it makes, under which names, and how each is run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sklearn.pipeline import Pipeline

from mistique.schema import INPUT, PREDICTION, RESERVED_NAMES, join_path
from mistique.sklearn.undisturbed import attempt


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a pipeline, as the store sees it.

    Parameters
    ----------
    name : str
        Of its record: the step's name, with an underscore appended while that is reserved; ``prediction`` for
        a predictor.
    aliases : tuple of str
        The step's name, for a predictor.
    parent : str
        The record it is computed from.
    role : {"stage", "prediction"}
    detail : str
        Class of the estimator.
    estimator : object, optional
        None: the step passes its input on.
    method : {"", "transform", "predict", "fit_predict"}
        What is called to get its output. ``fit_predict`` alone cannot be called again.
    """

    name: str
    aliases: tuple[str, ...]
    parent: str
    role: str
    detail: str
    estimator: Any
    method: str

    def run(self, rows: Any) -> Any:
        """Its output for those rows."""
        return getattr(self.estimator, self.method)(rows) if self.method else rows

    def with_estimator(self, estimator: Any) -> Stage:
        """The same stage, run by another estimator."""
        return replace(self, estimator=estimator)


def as_pipeline(model: Any) -> Pipeline:
    """A plain scikit-learn Pipeline of the same steps; a single estimator becomes the only step of one.

    It shares the fitted steps, and none of what only `fit` needs: no memory, no capture settings, no
    callbacks.
    """
    if isinstance(model, Pipeline):
        return Pipeline(list(model.steps), transform_input=model.transform_input)
    return Pipeline([(type(model).__name__.lower(), model)])


def stages_of(pipeline: Pipeline) -> tuple[Stage, ...]:
    """The stages of a pipeline, in order.

    A step that passes its input on is a stage too: it can be asked by its name or index, and its chunks are
    stored once however many stages share them. A last step that can both predict and transform (a clusterer)
    is a predictor. A last step that can do neither has no stage.
    """
    taken = set(RESERVED_NAMES)
    stages: list[Stage] = []
    parent = INPUT
    for index, (step, estimator) in enumerate(pipeline.steps):
        name = join_path(step)
        while name in taken:
            name += "_"
        taken.add(name)
        is_last = index == len(pipeline.steps) - 1
        if estimator is None or estimator == "passthrough":
            stage = Stage(name, (), parent, "stage", "passthrough", None, "")
        elif not is_last or not (hasattr(estimator, "predict") or hasattr(estimator, "fit_predict")):
            if not hasattr(estimator, "transform"):
                break
            stage = Stage(name, (), parent, "stage", type(estimator).__name__, estimator, "transform")
        else:
            method = "predict" if hasattr(estimator, "predict") else "fit_predict"
            stage = Stage(PREDICTION, (name,), parent, "prediction", type(estimator).__name__, estimator, method)
        stages.append(stage)
        parent = stage.name
    return tuple(stages)


def names_of_columns(value: Any) -> tuple[str, ...] | None:
    """The names that a container has for its columns; None: it has none."""
    if hasattr(value, "iloc") and hasattr(value, "columns"):
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
        Names of the columns that went in.
    value : container
        What came out.

    Returns
    -------
    tuple of str, optional
        None: the estimator gives no names, or not as many as there are columns.
    """
    own = names_of_columns(value)
    shape: tuple[int, ...] = getattr(value, "shape", ())
    if own is not None or len(shape) != 2:
        return own
    if not stage.method:
        return before
    if not hasattr(stage.estimator, "get_feature_names_out"):
        return None
    for given in (before, None):
        found = attempt(partial(stage.estimator.get_feature_names_out, given)).value
        if found is not None and len(found) == shape[1]:
            return tuple(map(str, found))
    return None
