"""The stages of a model: which records it makes, under which names, and how each is run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sklearn.pipeline import Pipeline

from mistique.schema import INPUT, PREDICTION, RESERVED_NAMES, join_path
from mistique.sklearn.branches import Branch, branches_of
from mistique.sklearn.members import members_of, says

_SCORES = ("predict_proba", "decision_function")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a model, of a pipeline inside it, or a branch of a ColumnTransformer or FeatureUnion.

    Parameters
    ----------
    name : str
        Of its record: the path of the step's name, with an underscore appended while that is reserved;
        ``prediction`` for a predictor.
    aliases : tuple of str
        The step's name, for a predictor; the path of a nested pipeline, for the last of its steps.
    parent : str
        The record it is computed from.
    role : {"stage", "prediction"}
    detail : str
        Class of the estimator.
    estimator : object, optional
        None: the step passes its input on.
    method : {"", "transform", "predict", "fit_predict", "predict_proba", "decision_function"}
        What is called to get its output. ``fit_predict`` alone cannot be called again.
    branches : tuple of Branch
        What of its parent's output goes into it, outermost first.
    weight : float, optional
        Its output is multiplied by it.
    output : int, optional
        Which of the arrays that a model of several targets gives.
    resamples : bool
        It changes which rows there are while the model is fitted, and passes them on otherwise.
    """

    name: str
    aliases: tuple[str, ...]
    parent: str
    role: str
    detail: str
    estimator: Any
    method: str
    branches: tuple[Branch, ...] = ()
    weight: Any = None
    output: int | None = None
    resamples: bool = False

    @property
    def passes_on(self) -> bool:
        """It gives what it is given, when the model is fitted as well."""
        return not self.method and not self.resamples

    @property
    def names(self) -> tuple[str, ...]:
        """All that it answers to."""
        return (self.name, *self.aliases)

    @property
    def is_score(self) -> bool:
        """It is what a predictor gives beside its prediction."""
        return self.method in _SCORES

    def run(self, rows: Any) -> Any:
        """Its output for those rows of its parent's."""
        for branch in self.branches:
            rows = branch.select(rows)
        if not self.method:
            return rows
        given = getattr(self.estimator, self.method)(rows)
        if self.output is not None:
            given = given[self.output]
        return given if self.weight is None else given * self.weight

    def with_estimator(self, estimator: Any) -> Stage:
        """The same stage, run by another estimator."""
        return replace(self, estimator=estimator)


def as_pipeline(model: Any) -> Pipeline:
    """A plain scikit-learn Pipeline of the same steps; a single estimator becomes the only step of one.

    It shares the fitted steps, and none of what only `fit` needs: no memory, no capture settings, no
    callbacks. What only resamples the training data passes on what it is given.
    """
    if isinstance(model, Pipeline):
        steps = [(name, "passthrough" if is_sampler(step) else step) for name, step in model.steps]
        return Pipeline(steps, transform_input=model.transform_input)
    return Pipeline([(type(model).__name__.lower(), model)])


def passes_on(estimator: Any) -> bool:
    """It stands for a step that does nothing."""
    return estimator is None or (isinstance(estimator, str) and estimator == "passthrough")


def is_sampler(estimator: Any) -> bool:
    """It changes rows while the model is fitted, and passes them on otherwise (imbalanced-learn)."""
    return hasattr(estimator, "fit_resample") and not hasattr(estimator, "transform")


def stages_of(pipeline: Pipeline) -> tuple[Stage, ...]:
    """The stages of a fitted pipeline, those inside of its steps included, each after its parent.

    A step that passes its input on is a stage too: it can be asked by its name or index, and its chunks are
    stored once however many stages share them. A last step that can both predict and transform (a clusterer)
    is a predictor. A last step that can do neither has no stage.
    """
    found: list[Stage] = []
    for stage in steps_of(pipeline):
        found += [*inside(stage), *scores_of(stage), stage]
    return tuple(found)


def steps_of(pipeline: Pipeline) -> tuple[Stage, ...]:
    """The stages of the steps alone, in order; of the last step no more than it shows before it is fitted."""
    taken = set(RESERVED_NAMES)
    stages: list[Stage] = []
    parent = INPUT
    for index, (step, estimator) in enumerate(pipeline.steps):
        name = join_path(step)
        while name in taken:
            name += "_"
        taken.add(name)
        stage = _stage(name, parent, estimator, is_last=index == len(pipeline.steps) - 1)
        if stage is None:
            break
        stages.append(stage)
        parent = stage.name
    return tuple(stages)


def inside(stage: Stage) -> tuple[Stage, ...]:
    """The stages inside of a fitted composite, each after its parent; the composite itself is not among them.

    The last step of a nested pipeline is left out where that is the composite: it gives the same. Members of a stack or
    a vote begin, as it does, with what goes into it.
    """
    found: list[Stage] = []
    if isinstance(stage.estimator, Pipeline):
        found += _steps_inside(stage)[:-1] if stage.method else []
    elif stage.method in ("predict", *_SCORES):
        path = stage.aliases[0] if stage.role == "prediction" else stage.name
        for name, member in members_of(stage.estimator).items():
            within = Stage(
                f"{path}/{join_path(name)}",
                (),
                stage.parent,
                "stage",
                type(member).__name__,
                member,
                says(member),
                stage.branches,
            )
            found += [*inside(within), within]
    elif stage.method == "transform":
        for branch in branches_of(stage.estimator):
            name = f"{stage.name}/{join_path(branch.name)}"
            branches, weight = (*stage.branches, branch), branch.weight
            within = Stage(name, (), stage.parent, "stage", "", None, "", branches, weight)
            found += _branch(within, branch.estimator)
    return tuple(found)


def _branch(within: Stage, estimator: Any) -> list[Stage]:
    """The stages of one branch; its last has the name of the branch."""
    if passes_on(estimator):
        return [replace(within, detail="passthrough")]
    stage = replace(within, detail=type(estimator).__name__, estimator=estimator, method="transform")
    if isinstance(estimator, Pipeline) and within.weight is None:
        return _steps_inside(stage)
    return [*inside(stage), stage]


def _steps_inside(stage: Stage) -> list[Stage]:
    """All steps of a nested pipeline; the last answers to the name of the pipeline too."""
    found: list[Stage] = []
    parent, branches = stage.parent, stage.branches
    path, steps = stage.aliases[0] if stage.role == "prediction" else stage.name, stage.estimator.steps
    for index, (step, estimator) in enumerate(steps):
        name = f"{path}/{join_path(step)}"
        is_last = index == len(steps) - 1
        aliases = (stage.name,) if is_last else ()
        within = Stage(name, aliases, parent, "stage", "passthrough", None, "", branches)
        if not passes_on(estimator):
            method = stage.method if is_last else "transform"
            within = replace(within, detail=type(estimator).__name__, estimator=estimator, method=method)
            if not isinstance(estimator, Pipeline) or is_last:
                found += inside(within)
            else:
                nested = _steps_inside(within)
                found += nested
                parent, branches = nested[-1].name, ()
                continue
        found.append(within)
        parent, branches = name, ()
    return found


def scores_of(stage: Stage) -> tuple[Stage, ...]:
    """What a fitted predictor gives beside its prediction: probabilities, distances from the boundary."""
    found: list[Stage] = []
    if stage.role != "prediction" or stage.method != "predict":
        return ()
    for method in _SCORES:
        if hasattr(stage.estimator, method):
            aliases = (f"{stage.aliases[0]}/{method}",)
            score = replace(stage, name=method, aliases=aliases, role="stage", method=method)
            classes = getattr(stage.estimator, "classes_", None)
            if method == "predict_proba" and isinstance(classes, list):
                numbers = range(len(classes))
                found += [
                    replace(score, name=f"{method}/{i}", aliases=(f"{aliases[0]}/{i}",), output=i) for i in numbers
                ]
            else:
                found.append(score)
    return tuple(found)


def _stage(name: str, parent: str, estimator: Any, *, is_last: bool) -> Stage | None:
    if passes_on(estimator) or is_sampler(estimator):
        detail = "passthrough" if passes_on(estimator) else type(estimator).__name__
        return Stage(name, (), parent, "stage", detail, None, "", resamples=is_sampler(estimator))
    detail, last = type(estimator).__name__, name
    nested = estimator
    while isinstance(nested, Pipeline):
        last, nested = f"{last}/{join_path(nested.steps[-1][0])}", nested.steps[-1][1]
    aliases = (last,) if last != name else ()
    if not is_last or not (hasattr(estimator, "predict") or hasattr(estimator, "fit_predict")):
        can_transform = hasattr(estimator, "transform")
        return Stage(name, aliases, parent, "stage", detail, estimator, "transform") if can_transform else None
    method = "predict" if hasattr(estimator, "predict") else "fit_predict"
    return Stage(PREDICTION, (name, *aliases), parent, "prediction", detail, estimator, method)
