"""The way from what was left out down to the stored intermediate that it follows from by rules alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mistique.planner.derive import Rule, Shape, columns_needed, derive_columns, derived_shape, is_exact
from mistique.schema import Intermediate


@dataclass(frozen=True)
class Step:
    """One rule, and the shapes of a row that it leads from and to."""

    rule: Rule
    parent: Shape
    child: Shape


@dataclass(frozen=True)
class Descent:
    """A stored ancestor, and the steps from it to the target.

    Parameters
    ----------
    ancestor : Intermediate
    steps : tuple of Step
        The ancestor's child first.
    """

    ancestor: Intermediate
    steps: tuple[Step, ...]

    @property
    def is_exact(self) -> bool:
        """Exact values of the ancestor give exact values of the target."""
        return all(is_exact(step.rule) for step in self.steps)

    def columns(self, columns: np.ndarray) -> list[np.ndarray]:
        """Columns needed of the ancestor, of each intermediate after it, and at last those asked of the target."""
        needed = [columns]
        for step in reversed(self.steps):
            needed.insert(0, columns_needed(step.rule, needed[0], step.parent, step.child))
        return needed

    def derive(self, cells: np.ndarray, needed: list[np.ndarray], max_abs_error: float) -> tuple[np.ndarray, float]:
        """Columns of the target and their error bound, from those of the ancestor; `needed` is of `columns`."""
        for step, columns in zip(self.steps, needed[1:], strict=True):
            cells, max_abs_error = derive_columns(
                step.rule,
                cells,
                columns=columns,
                parent=step.parent,
                child=step.child,
                max_abs_error=max_abs_error,
            )
        return cells, max_abs_error


def descent_to(graph: Mapping[str, Intermediate], target: Intermediate) -> Descent | str:
    """The way to the nearest stored ancestor; or why there is none.

    Rules are held against the shapes and types that were recorded: a store may come from anybody.
    """
    steps: list[Step] = []
    node = target
    while node.references is None:
        if node.derivation is None:
            return f"{node.name}, from which it follows, is not stored"
        if node.parents is None or len(node.parents) != 1 or node.parents[0] not in graph:
            return f"what {node.name} follows from was not kept"
        parent = graph[node.parents[0]]
        is_alike = (
            not (parent.is_table or node.is_table) and parent.types == node.types and parent.n_rows == node.n_rows
        )
        if not is_alike or derived_shape(node.derivation, parent.shape, node.shape) != node.shape:
            return f"{node.name} does not follow from {parent.name} by the rule recorded, {dict(node.derivation)}"
        steps.append(Step(node.derivation, parent.shape, node.shape))
        node = parent
        if len(steps) > len(graph):
            return f"{target.name} follows from itself"
    return Descent(node, tuple(reversed(steps)))
