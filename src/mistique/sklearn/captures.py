"""The captures of one run over one dataset: one, and one more after each step that changed which rows there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mistique.ingest.capture import Capture
from mistique.schema import INPUT
from mistique.sklearn.artifact import keep
from mistique.sklearn.rows import changes_rows, labels_after, labels_of
from mistique.sklearn.settings import CaptureSettings
from mistique.sklearn.stage_records import StageRecords
from mistique.sklearn.stages import Stage, as_pipeline
from mistique.sklearn.undisturbed import attempt, count_rows


class Captures:
    """Begins with the rows that are given; `go_on` with others.

    What a step makes of the rows of ``train`` when it drops, adds or reorders some is the dataset ``train+step``: its
    rows have the labels that they had.

    Parameters
    ----------
    settings : CaptureSettings
    X, y : container
        y may be None.
    run_id : str, optional
        Of the run to add to.
    params, source : mapping, optional
        As in `Version`.
    fit_is_plain : bool, default True
        As in `Lineages`.
    positions : ndarray, optional
        Labels of the rows where they have none.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        X: Any,
        y: Any,
        *,
        run_id: str | None = None,
        params: Mapping[str, str] | None = None,
        source: Mapping[str, str] | None = None,
        fit_is_plain: bool = True,
        positions: np.ndarray | None = None,
    ) -> None:
        self._settings, self._fit_is_plain = settings, fit_is_plain
        self._facts: dict[str, Any] = {"params": params, "source": source}
        self._dataset = settings.dataset
        self._parts: list[tuple[Capture, StageRecords]] = []
        self._labels = labels_of(X)
        if self._labels is None and positions is not None and len(positions) == count_rows(X):
            self._labels = positions
        self._n_rows = count_rows(X) or 0
        self._begin(X, y, run_id, INPUT)

    @property
    def records(self) -> StageRecords:
        """What the stages are to be added to now."""
        return self._parts[-1][1]

    @property
    def run_id(self) -> str:
        """The run that they belong to."""
        return self._parts[0][0].run_id

    @property
    def committed(self) -> str | None:
        """The version that was committed."""
        return self._parts[0][0].committed

    def changes_rows(self, value: Any) -> bool:
        """Whether these are other rows than before, or in another order."""
        return attempt(lambda: changes_rows(self._labels, self._n_rows, value)).value or False

    def go_on(self, stage: Stage, before: Any, value: Any, y: Any = None) -> None:
        """The rows from now on are those that a stage gave.

        Parameters
        ----------
        stage : Stage
            Fitted.
        before, value : container
            What went into it and what came out.
        y : container, optional
            The target of the new rows; None: not known.
        """
        self._labels = labels_after(self._labels, before, value, name=stage.name, estimator=stage.estimator)
        self._n_rows = count_rows(value) or 0
        self._dataset = f"{self._dataset}+{stage.name.replace('/', '.')}"
        self._begin(value, y, self.run_id, stage.name)

    def keep_model(self, model: Any) -> None:
        """Keep the model, so that what was not stored can be recomputed; or say why not."""
        kept = keep(as_pipeline(model))
        for _, records in self._parts:
            records.keep_model(kept)

    def commit(self) -> None:
        """Make all of them seen, each at once."""
        for capture, _ in self._parts:
            capture.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        for capture, _ in self._parts:
            capture.abort()

    def _begin(self, X: Any, y: Any, run_id: str | None, start: str) -> None:
        capture = self._settings.start(run_id, dataset=self._dataset, **self._facts)
        plain = self._fit_is_plain and start == INPUT
        records = StageRecords(capture, self._settings, X, y, labels=self._labels, fit_is_plain=plain, start=start)
        self._parts.append((capture, records))
