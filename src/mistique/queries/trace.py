"""One row through every stage, beside another row, version or dataset; and the stage at which the two part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.planner.execute import execute
from mistique.planner.plan import Plan
from mistique.queries.answer import Plotted, format_value
from mistique.queries.patterns import find_dataset
from mistique.queries.plans import joined_plan
from mistique.queries.progress import tracked
from mistique.queries.selection import labels_of, select_rows
from mistique.queries.traced_stages import TracedStage, compared_stage, most_telling
from mistique.schema import ROW_LABEL, Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

_ALONE, _BESIDE, _MAX_LINES = 4, 3, 60


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Plotted):
    """One or two rows, stage by stage. Made by `trace`.

    ``rows`` are ``stage/column``; ``values`` has a column for each side, and is of objects.

    Parameters
    ----------
    other : str
        The second key; empty where there is one side.
    stages : tuple of TracedStage
        In the order of the model.
    parted_at : str, optional
        The first stage at which the two differ. None: there is none, or one side.
    """

    _dims: ClassVar[tuple[str, ...]] = ("column", "side")

    other: str
    stages: tuple[TracedStage, ...]
    parted_at: str | None
    notes: tuple[str, ...] = ()

    def stage(self, name: str) -> TracedStage:
        """One stage, by name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise QueryError(f"no stage {name!r}; there are: {', '.join(stage.name for stage in self.stages)}")

    @property
    def is_beside(self) -> bool:
        """Whether there are two sides."""
        return len(self.columns) > 1

    def to_frame(self) -> Any:
        """A pandas frame: stage, column, a column for each side, and their difference."""
        import pandas as pd

        names = [(stage.name, column) for stage in self.stages for column in stage.columns]
        frame = pd.DataFrame(names, columns=["stage", "column"])
        for side, label in enumerate(self.columns):
            frame[label] = self.values[:, side]
        if self.is_beside:
            frame["difference"] = np.concatenate([stage.differences for stage in self.stages])
        return frame

    def _title(self) -> str:
        return f"Trace of {self.key}" + (f" beside {self.other}" if self.is_beside else "")

    def _head(self) -> list[str]:
        return ["stage", "column", *self.columns, *(["difference"] if self.is_beside else [])]

    def _body(self) -> list[list[str]]:
        lines = []
        for stage in self.stages:
            shown = most_telling(stage, _BESIDE) if self.is_beside else np.arange(min(_ALONE, len(stage.columns)))
            left_out = len(stage.columns) - len(shown)
            for place, i in enumerate(shown.tolist()):
                cells = [format_value(stage.columns[i]), *(_cell(value) for value in stage.values[i])]
                if self.is_beside:
                    cells.append("" if np.isnan(stage.differences[i]) else f"{stage.differences[i]:.4g}")
                lines.append([stage.name if place == 0 else "", *cells])
            if not len(shown):
                lines.append([stage.name, f"{left_out:,} alike", *[""] * (len(self.columns) + 1)])
            elif left_out:
                n_parting = int(stage.parts.sum()) - len(shown)
                what = f"{left_out:,} more" if not self.is_beside or n_parting <= 0 else f"{n_parting:,} more part"
                lines.append(["", what, *[""] * (len(self.columns) + int(self.is_beside))])
        return lines[:_MAX_LINES]

    def _more(self) -> list[str]:
        parted = []
        if self.is_beside:
            parted = [f"they part first at {self.parted_at}" if self.parted_at else "they part nowhere"]
        return [*parted, *self.notes, *super()._more()[-1:]]


def trace(
    store: Store,
    key: str | Key,
    *,
    row: Any,
    other_row: Any = None,
    other: str | Key | None = None,
    tolerance: float = 1e-6,
    exact: bool = False,
) -> Trace:
    """One row through every stage of a model; beside it another row, or the same row elsewhere, and where they part.

    Parameters
    ----------
    store : Store
    key : str
        A dataset of a version: ``homes/ridge@latest/valid``.
    row : label
        As captured; a number from 0 where rows have no labels.
    other_row : label, optional
        The row of the second side. None: the same as `row`.
    other : str, optional
        The dataset and version of the second side. None: the same as `key`.
    tolerance : float, default 1e-6
        Of the larger of two values: numbers that are nearer, or nearer than their error bounds, do not part.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    Trace

    Raises
    ------
    QueryError
        No such row, or a key that names no dataset.
    IntermediateNotFoundError

    Notes
    -----
    Stages and columns are matched by name. A stage parts when a column does, or when only one side has a column. A
    stage that only one side has does not count. One row of each stage is read, or computed again with its row block.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> for n in (6, 5):
    ...     pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    ...     _ = pipe.fit(x[:n], x[:n, 0])
    >>> answer = mistique.trace(store, "demo/ridge@1/train", other="demo/ridge@2/train", row=4)
    >>> answer.parted_at, answer.stage("scale").values.astype(float).round(2).tolist()
    ('scale', [[0.88, 1.41], [0.88, 1.41]])
    """
    if row is None:
        raise QueryError("row: expected the label of a row, got None")
    is_beside = other is not None or other_row is not None
    sides = [_Side(store, key, row)]
    if is_beside:
        sides.append(_Side(store, key if other is None else other, row if other_row is None else other_row))
    nodes = [side.nodes() for side in sides]
    plans: list[Plan] = []
    stages = []
    names = list(dict.fromkeys([name for found in nodes for name in found]))
    for name in tracked(names, "following the row", total=len(names)):
        cells: list[dict[str, Any]] = []
        bounds = 0.0
        for side, found in zip(sides, nodes, strict=True):
            if name in found:
                values, plan = side.values(store, found[name], exact)
                cells.append(values)
                plans.append(plan)
                bounds += plan.max_abs_error or 0.0
            else:
                cells.append({})
        stages.append(compared_stage(name, next(f[name].role for f in nodes if name in f), cells, bounds, tolerance))
    # The target is no stage: it comes last.
    stages.sort(key=lambda stage: stage.role == "target")
    in_all = [stage for stage in stages if all(stage.name in found for found in nodes)]
    parting = [stage.name for stage in in_all if stage.parts.any() and stage.role != "target"]
    alone = [stage.name for stage in stages if stage not in in_all]
    notes = [note for side in sides for note in side.notes] + ([f"only one has {', '.join(alone)}"] if alone else [])
    asked = [f"{side.capture.prefix}, row {side.label}" for side in sides]
    return Trace(
        asked[0],
        np.concatenate([stage.values for stage in stages]),
        np.array([f"{stage.name}/{column}" for stage in stages for column in stage.columns], object),
        _side_names(sides),
        max(plan.max_abs_error or 0.0 for plan in plans),
        joined_plan(plans),
        asked[1] if is_beside else "",
        tuple(stages),
        parting[0] if parting else None,
        tuple(notes),
        _store=store,
    )


class _Side:
    """A row of a capture."""

    def __init__(self, store: Store, key: str | Key, row: Any) -> None:
        self.capture: Capture = find_dataset(store, key)
        n_rows = next(iter(self.capture.intermediates.values())).n_rows
        if isinstance(row, (list, slice, np.ndarray)):
            raise QueryError(f"row: expected the label of one row, got {row!r}")
        positions = select_rows(store, self.capture, n_rows, row)
        assert positions is not None
        self.position = positions[:1]
        self.label = labels_of(store, self.capture, n_rows, self.position)[0]
        n_alike = len(positions)
        self.notes = [f"the first of {n_alike} rows labelled {self.label}"] if n_alike > 1 else []

    def nodes(self) -> dict[str, Intermediate]:
        return {name: node for name, node in self.capture.intermediates.items() if name != ROW_LABEL}

    def values(self, store: Store, node: Intermediate, exact: bool) -> tuple[dict[str, Any], Plan]:
        found, plan = execute(store, self.capture, node, rows=self.position, exact=exact)
        frame = found.to_frame()
        if isinstance(found.parts, np.ndarray):
            row = frame.to_numpy()[0].tolist()
        else:
            row = [frame.iloc[:, i].to_numpy()[0] for i in range(frame.shape[1])]
        return dict(zip(found.names(), row, strict=True)), plan


def _side_names(sides: list[_Side]) -> tuple[str, ...]:
    """What tells the sides apart in few characters."""
    if len(sides) == 1:
        return (str(sides[0].label),)
    ways = (
        [str(side.label) for side in sides],
        [side.capture.dataset for side in sides],
        [f"{side.capture.version.model.rpartition('/')[2]}@{side.capture.number}" for side in sides],
        ["first", "second"],
    )
    return tuple(next(way for way in ways if way[0] != way[1]))


def _cell(value: Any) -> str:
    return "-" if value is None else format_value(value)
