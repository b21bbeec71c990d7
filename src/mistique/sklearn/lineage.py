"""What determines the output of each stage, found before the output is looked at, or before there is one."""

from __future__ import annotations

from typing import Any

from mistique.schema import INPUT
from mistique.sklearn.content import combined, content_digest
from mistique.sklearn.stages import Stage
from mistique.sklearn.vouched import FittedState, fit_transform_is_transform, fitted_state, surroundings


class Lineages:
    """The lineage of a model's stages over one dataset, each taken after its parent.

    A stage that can be vouched for has the lineage of its input and of its fitted state. What any other gave has the
    digest of its content instead, so that those after it have a lineage again.

    Parameters
    ----------
    X, y : container
        The input and the target; y may be None.
    fit_is_plain : bool, default True
        A fit got no more than X and y, and took no output from a cache.
    start : str, default "input"
        What X is.
    """

    def __init__(self, X: Any, y: Any, *, fit_is_plain: bool = True, start: str = INPUT) -> None:
        self.of_input, self.of_target = seen(X, None), seen(y, None) if y is not None else combined("no target")
        self._of = {start: self.of_input}
        self._fit_is_plain = fit_is_plain
        self._surroundings = surroundings()
        self._states: dict[int, tuple[Any, FittedState | None]] = {}
        self._foreseen = {start: bool(self.of_input)}

    def is_foreseen(self, stage: Stage) -> bool:
        """What goes into a stage is known without a look at it."""
        return self._foreseen.get(stage.parent, False)

    def after(self, stage: Stage, *, is_fit: bool = False) -> str:
        """The lineage of what a fitted stage gives for its parent's output; empty: that has to be seen.

        Parameters
        ----------
        stage : Stage
        is_fit : bool, default False
            The output came with the fit, and not of a call of its method afterwards.
        """
        before = self._of.get(stage.parent, "")
        if before and stage.branches:
            before = combined("branch", before, *((b.columns, b.is_series) for b in stage.branches))
        if not before or not stage.method:
            return before
        state = self.state_of(stage.estimator)
        if state is None or not state.is_determined or stage.method == "fit_predict":
            return ""
        how, target = stage.method, ""
        if is_fit and not (self._fit_is_plain and fit_transform_is_transform(stage.estimator, state)):
            # It may fit across folds, or overwrite: the target and whatever a seed does not fix count as well.
            if not self._fit_is_plain or state.has_chance or not self.of_target:
                return ""
            how, target = "fit_transform", self.of_target
        parts = [] if stage.weight is None and stage.output is None else [stage.weight, stage.output]
        return combined("stage", self._surroundings, before, state.digest, how, target, *parts)

    def goes_on(self, stage: Stage, lineage: str, *, is_foreseen: bool) -> None:
        """A stage has this lineage.

        Parameters
        ----------
        stage : Stage
        lineage : str
        is_foreseen : bool
            It follows from its parent's: so do the facts of its recomputation, if its parent's do.
        """
        self._of[stage.name] = lineage
        self._foreseen[stage.name] = is_foreseen and self.is_foreseen(stage)

    def state_of(self, estimator: Any) -> FittedState | None:
        """What an estimator has learned, digested once."""
        if id(estimator) not in self._states:
            self._states[id(estimator)] = estimator, fitted_state(estimator)
        return self._states[id(estimator)][1]


def seen(value: Any, columns: tuple[str, ...] | None) -> str:
    """The lineage of values that are at hand, under names that they do not have themselves; empty: none."""
    content = content_digest(value)
    return combined("seen", content, columns) if content else ""
