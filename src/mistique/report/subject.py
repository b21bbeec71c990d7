"""What a report is of: one version of a model, the dataset to diagnose, and the one to hold it against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistique.errors import IntermediateNotFoundError
from mistique.planner.plan import format_nbytes
from mistique.queries.listing import format_ratio
from mistique.schema import INPUT, LATEST, PREDICTION, TARGET, Intermediate, Key
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

_DIAGNOSED, _AGAINST = ("valid", "validation", "test"), ("train", "training")


@dataclass(frozen=True)
class Subject:
    """A version of a model and its datasets.

    Parameters
    ----------
    store : Store
    captures : tuple of Capture
        Of the run: all epochs, all datasets.
    capture : Capture
        The dataset to diagnose, of the newest epoch that has it.
    against : Capture, optional
        The same version over another dataset.
    """

    store: Store
    captures: tuple[Capture, ...]
    capture: Capture
    against: Capture | None

    @property
    def heading(self) -> str:
        """The version."""
        return f"{self.capture.version.model}@{self.capture.number}"

    @property
    def run_key(self) -> str:
        """The key of the run, all epochs, over the dataset to diagnose."""
        run = self.capture.number.partition(".")[0]
        return str(Key(self.capture.version.model, run, self.capture.dataset, "x"))[:-2]

    @property
    def n_epochs(self) -> int:
        """Epochs of the run over that dataset."""
        return sum(capture.dataset == self.capture.dataset for capture in self.captures)

    @property
    def layers(self) -> list[Intermediate]:
        """The outputs of layers, without what only shows another layer's: pooled, flattened, dropped out."""
        nodes = self.capture.intermediates.values()
        return [node for node in nodes if node.role == "stage" and not node.is_table and node.derivation is None]

    @property
    def has_errors(self) -> bool:
        """Whether predictions can be held against a target."""
        return {PREDICTION, TARGET} <= set(self.capture.intermediates)

    @property
    def has_images(self) -> bool:
        """Whether the input can be drawn."""
        node = self.capture.intermediates.get(INPUT)
        return node is not None and len(node.shape) == 3 and node.shape[-1] in (1, 3)

    def key(self, intermediate: str) -> str:
        """The key of an intermediate over the dataset to diagnose."""
        return f"{self.capture.prefix}/{str(Key('m', '1', 'd', intermediate)).partition('d/')[2]}"

    def summary(self) -> list[tuple[str, str]]:
        """Its facts in a few words."""
        version, raw, stored = self.capture.version, 0, 0
        for capture in self.captures:
            nodes = capture.intermediates.values()
            raw += sum(node.raw_nbytes for node in nodes if node.name in capture.stored)
            stored += sum(node.stored_nbytes for node in nodes)
        found = self.capture.intermediates.values()
        return [
            ("Dataset", f"{self.capture.dataset}, {next(iter(found)).n_rows:,} rows"),
            ("Held against", self.against.dataset if self.against else "nothing: the version has one dataset"),
            ("Captured", f"{format_nbytes(raw)}, stored in {format_nbytes(stored)} ({format_ratio(raw, stored)})"),
            ("Framework", ", ".join([version.framework, *(f"{k} {v}" for k, v in version.environment.items())])),
            (
                "Kept model",
                format_nbytes(version.artifact_nbytes) if version.artifact else version.artifact_note or "no",
            ),
            ("Store", self.store.uri),
        ]


def subject_of(store: Store, model: str, *, dataset: str | None, against: str | None) -> Subject:
    """What to report of.

    Raises
    ------
    IntermediateNotFoundError
        Naming the nearest model, version or dataset.
    """
    name, _, version = model.partition("@")
    version = version or LATEST
    every = store.catalog.captures()
    of_model = [capture for capture in every if capture.version.model == name]
    if not of_model:
        raise IntermediateNotFoundError(what="model", name=name, known=[c.version.model for c in every])
    numbers = {capture.number for capture in of_model} | {c.number.partition(".")[0] for c in of_model}
    if version == LATEST:
        version = of_model[-1].number.partition(".")[0]
    version = next((c.number for c in of_model if version in c.about.tags), version)
    if version not in numbers:
        known = [f"{name}@{capture.number}" for capture in of_model]
        raise IntermediateNotFoundError(what="version", name=model, known=known)
    run = [c for c in of_model if c.number.partition(".")[0] == version.partition(".")[0]]
    asked = [c for c in run if version in (c.number, c.number.partition(".")[0])]
    capture = _chosen(asked, dataset, _DIAGNOSED)
    others = [c for c in run if c.number == capture.number and c.dataset != capture.dataset]
    other = _chosen(others, against, _AGAINST) if others or against else None
    return Subject(store, tuple(run), capture, other)


def _chosen(captures: list[Capture], asked: str | None, usual: tuple[str, ...]) -> Capture:
    """The newest capture of the dataset asked, else of the first usual one, else the newest."""
    for name in usual if asked is None else (asked,):
        found = [capture for capture in captures if capture.dataset == name]
        if found:
            return found[-1]
    if asked is not None:
        raise IntermediateNotFoundError(what="dataset", name=asked, known=[c.dataset for c in captures])
    return captures[-1]
