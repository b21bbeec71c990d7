"""From what the stages of a model gave to the records of one capture."""

from __future__ import annotations

from typing import Any

import joblib

from mistique.ingest.capture import Capture
from mistique.ingest.choosing import KEEP
from mistique.schema import INPUT, TARGET
from mistique.sklearn.artifact import Kept
from mistique.sklearn.column_names import names_after, names_of_columns
from mistique.sklearn.lineage import Lineages, seen
from mistique.sklearn.sample import Sample
from mistique.sklearn.settings import CaptureSettings
from mistique.sklearn.stages import Stage
from mistique.sklearn.step_cost import Timed, needs_more, step_cost
from mistique.sklearn.undisturbed import attempt, count_rows
from mistique.sklearn.vouched import fit_transform_is_transform

FEW_ROWS_DIFFER = "{} differs here between all rows and a few"


class StageRecords:
    """Adds the input, the target and the stages of one model over one dataset to a capture.

    Parameters
    ----------
    capture : Capture
    settings : CaptureSettings
    X, y : container
        The input and the target; y may be None.
    labels : Index or ndarray, optional
        Of the rows; None: they are numbered.
    fit_is_plain : bool, default True
        As in `Lineages`.
    start : str, default "input"
        What X is: the input, or the stage that changed which rows there are.
    """

    def __init__(
        self,
        capture: Capture,
        settings: CaptureSettings,
        X: Any,
        y: Any,
        *,
        labels: Any = None,
        fit_is_plain: bool = True,
        start: str = INPUT,
    ) -> None:
        self._capture = capture
        self._keep = KEEP[settings.keep]
        self._lineages = Lineages(X, y, fit_is_plain=fit_is_plain, start=start)
        self._sample = Sample(X, start=start)
        self._n_rows = max(count_rows(X) or 1, 1)
        self._columns = {start: names_of_columns(X)}
        self._states: dict[str, str] = {}
        self._target_columns = names_of_columns(y)
        capture.set_labels(labels)
        self._take(start, X, lineage=self._lineages.of_input, role="input", detail=type(X).__name__)
        if y is not None:
            self._take(TARGET, y, lineage=self._lineages.of_target, role="target", detail=type(y).__name__)

    def is_quiet(self, stage: Stage) -> bool:
        """Whether running the stage is known to leave no trace in its estimator."""
        state = self._lineages.state_of(stage.estimator)
        return state is not None and state.is_quiet

    def is_held(self, stage: Stage, *, is_fit: bool = False) -> bool:
        """Record a stage without its output, if what it would give is known to be in the store.

        Parameters
        ----------
        stage : Stage
            Fitted, its parent taken before.
        is_fit : bool, default False
            Its output comes with its fit.
        """
        if not self._lineages.is_foreseen(stage) or not self._keeps(stage):
            return False
        lineage = self._lineages.after(stage, is_fit=is_fit)
        if not lineage or not self._capture.reuse(stage.name, lineage=lineage, **_facts_of(stage)):
            return False
        self._note_state(stage)
        self._lineages.goes_on(stage, lineage, is_foreseen=True)
        self._columns[stage.name] = self._capture.columns_of(stage.name)
        self._sample.pass_over(stage, is_quiet=self.is_quiet(stage))
        return True

    def is_known(self, stage: Stage) -> bool:
        """Whether what its fit gave is what running it again gives, by code that can be vouched for."""
        state = self._lineages.state_of(stage.estimator) if stage.method else None
        return not stage.method or (
            state is not None and state.is_determined and fit_transform_is_transform(stage.estimator, state)
        )

    def add(self, stage: Stage, value: Any, *, seconds: float | None, label: str, is_fit: bool = False) -> None:
        """Record what a stage gave.

        Parameters
        ----------
        stage : Stage
            Fitted.
        value : container
            Of all rows. Its cells are encoded before this returns.
        seconds : float, optional
            What that took, fitting included where the two came together. None: not known.
        label : str
            How a difference at recomputation is explained.
        is_fit : bool, default False
            It came with the fit.
        """
        checked = self._sample.check(stage, value, label=label, is_quiet=self.is_quiet(stage))
        whole = None if seconds is None else Timed(self._n_rows, seconds)
        is_unclear = is_fit and needs_more(checked.few, whole, self._n_rows)
        more = self._sample.time_more(stage, is_quiet=self.is_quiet(stage)) if is_unclear else None
        call_seconds, row_seconds = step_cost(checked.few, whole, more)
        columns = names_after(stage, self._columns.get(stage.parent), value)
        if stage.role == "prediction" and columns is None and self._has_width_of_target(value):
            columns = self._target_columns
        given_columns = None if names_of_columns(value) else columns
        foreseen = self._lineages.after(stage, is_fit=is_fit)
        lineage = foreseen or seen(value, given_columns)
        self._take(
            stage.name,
            value,
            lineage=lineage,
            columns=given_columns,
            keep=self._keeps(stage),
            forward_seconds_per_row=row_seconds,
            forward_seconds_per_call=call_seconds,
            recompute_difference=checked.difference,
            recompute_note=checked.note,
            **_facts_of(stage),
        )
        self._note_state(stage)
        self._lineages.goes_on(stage, lineage, is_foreseen=bool(foreseen))
        self._columns[stage.name] = columns

    def settle(self) -> None:
        """Say that the last step is about to be fitted: what the others gave is encoded beside it."""
        self._capture.settle()

    def _note_state(self, stage: Stage) -> None:
        if stage.method and not stage.is_score:
            state = self._lineages.state_of(stage.estimator)
            # Of code that nobody vouches for the digest is of its pickle, and may be another where nothing changed.
            digest = state.digest if state is not None else attempt(lambda: joblib.hash(stage.estimator)).value
            self._states[stage.name] = digest or ""

    def _keeps(self, stage: Stage) -> bool | str:
        return self._keep if stage.role == "stage" else True

    def _take(
        self,
        name: str,
        value: Any,
        *,
        lineage: str,
        columns: tuple[str, ...] | None = None,
        keep: bool | str = True,
        **facts: Any,
    ) -> None:
        """Refer to what the store holds of this lineage; else hand over the value."""
        facts = {**_FRESH, **facts}
        if not (keep and lineage and self._capture.reuse(name, lineage=lineage, **facts)):
            self._capture.add(name, value, columns=columns, keep=keep, lineage=lineage, **facts)

    def keep_model(self, kept: Kept) -> None:
        """The model, so that what was not stored can be recomputed; or why it cannot be kept."""
        self._capture.describe_version(states=self._states)
        if kept.artifact is None:
            self._capture.skip_model(kept.note)
        else:
            self._capture.describe_version(artifact_note=kept.note)
            self._capture.keep_model(kept.artifact, load_seconds=kept.load_seconds)

    def _has_width_of_target(self, value: Any) -> bool:
        width = value.shape[1] if getattr(value, "ndim", 1) == 2 else 1
        return self._target_columns is not None and len(self._target_columns) == width


# Facts of one capture, which what is referred to may have got in another.
_FRESH: dict[str, Any] = {
    "parents": (),
    "aliases": (),
    "forward_seconds_per_row": 0.0,
    "forward_seconds_per_call": 0.0,
    "recompute_difference": 0.0,
    "recompute_note": "",
}


def _facts_of(stage: Stage) -> dict[str, Any]:
    return {"role": stage.role, "parents": (stage.parent,), "detail": stage.detail, "aliases": stage.aliases}
