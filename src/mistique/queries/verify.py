"""Whether what is stored is what the model gives: a sample is recomputed and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistique.errors import MistiqueError, QueryError, UntrustedArtifactError
from mistique.planner.check import checked_rows, compare, stored_rows, why_not_checked
from mistique.queries.answer import format_value, html_table, text_table
from mistique.queries.selection import catalog_of, find
from mistique.schema import Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

EQUAL, DIFFERS, NOT_CHECKED = "equal", "differs", "not checked"
_HEAD = ("stage", "result", "rows", "difference", "bound")


@dataclass(frozen=True, slots=True)
class VerifiedStage:
    """What came of one intermediate.

    Parameters
    ----------
    name : str
    result : {"equal", "differs", "not checked"}
    n_rows : int
        That were compared.
    difference, bound : float
        The largest absolute difference, and within which it had to be.
    note : str
        Why it was not checked, or what is known of the difference.
    """

    name: str
    result: str
    n_rows: int = 0
    difference: float = 0.0
    bound: float = 0.0
    note: str = ""


@dataclass(frozen=True, repr=False)
class Verification:
    """What came of a capture, or of one intermediate of it. Made by `verify`.

    Parameters
    ----------
    key : str
    stages : tuple of VerifiedStage
        In the order of the model.
    changed : tuple of str
        Libraries that have another version now than at the capture.
    """

    key: str
    stages: tuple[VerifiedStage, ...]
    changed: tuple[str, ...] = ()

    @property
    def first_difference(self) -> str | None:
        """The first stage or layer of which the model gives something else; None: there is none."""
        return next((stage.name for stage in self.stages if stage.result == DIFFERS), None)

    @property
    def is_sound(self) -> bool:
        """Nothing differs of all that could be checked."""
        return self.first_difference is None

    def to_dict(self) -> dict[str, object]:
        """It for a program."""
        names = ("name", "result", "n_rows", "difference", "bound", "note")
        stages = [{name: getattr(stage, name) for name in names} for stage in self.stages]
        return {
            "key": self.key,
            "is_sound": self.is_sound,
            "first_difference": self.first_difference,
            "changed": list(self.changed),
            "stages": stages,
        }

    def __repr__(self) -> str:
        return "\n".join([self.key, *text_table(_HEAD, self._body()), *self._notes()])

    def _repr_html_(self) -> str:
        return html_table(self.key, _HEAD, self._body(), self._notes())

    def _body(self) -> list[list[str]]:
        body = []
        for stage in self.stages:
            is_checked = stage.result != NOT_CHECKED
            numbers = [str(stage.n_rows), format_value(stage.difference), format_value(stage.bound)]
            body.append([stage.name, stage.result, *(numbers if is_checked else ["-"] * 3)])
        return body

    def _notes(self) -> list[str]:
        n_equal = sum(stage.result == EQUAL for stage in self.stages)
        first = self.first_difference
        said = f"the first that differs: {first}" if first else f"{n_equal} equal, none differs"
        notes = [f"{stage.name}: {stage.note}" for stage in self.stages if stage.note]
        return [said, *notes, *(f"since the capture: {change}" for change in self.changed)]


def verify(store: Store, key: str | Key, *, sample: int = 256) -> Verification:
    """What is stored of a capture, held against what its model gives for a sample of the rows.

    Parameters
    ----------
    store : Store
    key : str or Key
        Of one intermediate; or of a capture, ``project/model@version/dataset``, and so all of its stages.
    sample : int, default 256
        About how many rows are compared: whole batches of the capture. Of a pipeline all rows, unless it is large.

    Returns
    -------
    Verification

    Raises
    ------
    IntermediateNotFoundError, QueryError, UntrustedArtifactError

    Notes
    -----
    Each stage is run from the nearest stored ancestors that are exact, so that one stage that changed does not make all
    after it differ. Equal means: within the bound of the codec and what was seen to differ at the capture. Held by
    ``tests/queries/test_verify.py``.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> _ = pipe.fit(np.arange(6.0).reshape(6, 1), np.arange(6.0))
    >>> mistique.verify(store, "demo/ridge@1/train").is_sound
    True
    >>> mistique.verify(store, "demo/ridge@1/train", sample=0)
    Traceback (most recent call last):
    ...
    mistique.errors.QueryError: sample: expected a number of rows, at least 1, got 0
    """
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 1:
        raise QueryError(f"sample: expected a number of rows, at least 1, got {sample!r}")
    is_capture = isinstance(key, str) and key.partition("@")[2].count("/") == 1
    if is_capture:
        capture = catalog_of(store).find_capture(Key.parse(f"{key}/x"))
        nodes = list(capture.intermediates.values())
    else:
        capture, node = find(store, key)
        nodes = [node]
    stages = tuple(
        _verified(store, capture, node.name, sample)
        for node in nodes
        if node.role in ("stage", "prediction") or not is_capture
    )
    title = capture.prefix if is_capture else f"{capture.prefix}/{nodes[0].name}"
    return Verification(title, stages, tuple(store.runnable.changes(capture.version)))


def _verified(store: Store, capture: Capture, name: str, sample: int) -> VerifiedStage:
    node = capture.intermediates[name]
    why_not = why_not_checked(store, capture, node)
    if why_not:
        return VerifiedStage(name, NOT_CHECKED, note=why_not)
    rows = stored_rows(store, capture, node, checked_rows(capture, node, sample))
    if not len(rows):
        return VerifiedStage(name, NOT_CHECKED, note="none of the rows of the sample is stored")
    try:
        difference, bound, note = compare(store, capture, node, rows)
    except UntrustedArtifactError:
        raise
    except MistiqueError as error:
        return VerifiedStage(name, DIFFERS, len(rows), float("inf"), 0.0, str(error))
    return VerifiedStage(name, DIFFERS if note else EQUAL, len(rows), difference, bound, note)
