"""The sections of a report: each a question, its answer, and its picture; or a line that says why not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mistique import plots
from mistique.planner.plan import format_nbytes
from mistique.queries import dead_units, drift, epochs, slices, topk
from mistique.queries.answer import Plotted
from mistique.report.page import figure, folded, sentence, table
from mistique.report.subject import Subject
from mistique.schema import ROW_LABEL, Intermediate
from mistique.storage.captures import Capture

_LAYERS, _UNITS, _IMAGES = 4, 4, 8


def captured(subject: Subject) -> str:
    """What the store holds of the run, and of the version stage by stage."""
    runs = [
        [capture.number, capture.dataset, str(len(capture.intermediates)), format_nbytes(_stored(capture))]
        for capture in subject.captures
    ]
    stages = [
        _stage(subject.capture, node) for node in subject.capture.intermediates.values() if node.name != ROW_LABEL
    ]
    head = ["intermediate", "what", "shape of a row", "types", "captured", "added", "stored"]
    return (
        table(["version", "dataset", "intermediates", "bytes added"], runs)
        + sentence(f"Stages and layers of {subject.capture.prefix}:")
        + table(head, stages)
    )


def _stored(capture: Capture) -> int:
    return sum(node.stored_nbytes for node in capture.intermediates.values())


def _stage(capture: Capture, node: Intermediate) -> list[str]:
    is_stored = node.name in capture.stored
    how = str(node.codec["name"]) if is_stored else "derived" if node.derivation else "recomputed when asked"
    return [
        node.name,
        node.detail or node.role,
        " x ".join(map(str, node.shape)) or "one value",
        ", ".join(sorted({kind.dtype for kind in node.types})),
        format_nbytes(node.raw_nbytes),
        format_nbytes(node.stored_nbytes),
        how,
    ]


def worst_slices(subject: Subject) -> str:
    """Where the model is wrong."""
    if not subject.has_errors:
        return sentence(
            "There is no target to hold predictions against: capture with y to see where the model is wrong."
        )
    if subject.capture.intermediates["prediction"].n_rows < 60:
        return sentence("There are too few rows to look at slices of them: 60 are needed.")
    answer = slices(subject.store, subject.capture.prefix, k=8)
    if not len(answer):
        return sentence("No slice has a larger error than the other rows.")
    return _shown(answer, "The mean error of each slice with its 95% interval, and that of all rows")


def drifted(subject: Subject) -> str:
    """How far the two datasets lie apart."""
    if subject.against is None:
        return sentence("This version was captured over one dataset only, so there is nothing to hold it against.")
    answer = drift(subject.store, subject.against.prefix, other=subject.capture.prefix)
    shown = _shown(answer, "For each stage, how far the column lies apart that lies farthest")
    if answer.parted_at is None:
        return shown
    name = subject.key(answer.parted_at).removeprefix(subject.capture.prefix)
    first = drift(subject.store, f"{subject.against.prefix}{name}", other=f"{subject.capture.prefix}{name}")
    return shown + _shown(first, f"The columns of {answer.parted_at} that lie farthest apart, both datasets overlaid")


def images(subject: Subject) -> str:
    """The images that fire units most."""
    if not subject.has_images:
        return sentence("The input is no images.")
    if not subject.layers:
        return sentence("No layer was captured.")
    html = ""
    for node in subject.layers[-_LAYERS:]:
        key = subject.key(node.name)
        firing = dead_units(subject.store, key).firing[0]
        # The most selective: they fire least, but they fire.
        living = np.flatnonzero(firing > 0)
        chosen = living[np.argsort(firing[living], kind="stable")[:_UNITS]].tolist()
        found = [topk(subject.store, key, unit=unit, k=_IMAGES) for unit in sorted(chosen)]
        if found:
            grid = plots.draw_units(found)
            html += figure(plots.png_of(grid), f"{node.name}: the images with the largest values of some of its units")
    return html or sentence("No unit of any layer fires.")


def never_firing(subject: Subject) -> str:
    """Units that never or always fire."""
    if not subject.layers:
        return sentence("The model has no layers with units.")
    key = subject.run_key if subject.n_epochs > 1 else subject.capture.prefix
    answer = dead_units(subject.store, key)
    return _shown(answer, "The share of each layer's units that never fire", is_folded=subject.n_epochs > 1)


def settled(subject: Subject) -> str:
    """When each layer settled."""
    if subject.n_epochs < 2:
        return sentence("One epoch of this run was captured, so there is no course of training to show.")
    answer = epochs(subject.store, subject.run_key, n_rows=500)
    return _shown(answer, "How alike the output of each layer at each epoch is to that at the last")


def _shown(answer: Plotted, caption: str, *, is_folded: bool = False) -> str:
    """A picture and the table below it."""
    figures = answer._repr_html_()
    return figure(plots.png_of(answer.plot()), caption) + (folded("All figures", figures) if is_folded else figures)


SECTIONS: tuple[tuple[str, Callable[[Subject], str]], ...] = (
    ("What was captured", captured),
    ("Where the model is wrong", worst_slices),
    ("Drift between the datasets", drifted),
    ("What fires units", images),
    ("Dead units", never_firing),
    ("Training", settled),
)
