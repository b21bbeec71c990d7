"""What is looked at before a capture is committed, and what its intermediates are then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mistique.errors import CaptureError
from mistique.ingest.buffer import Buffered
from mistique.ingest.choosing import Choosing
from mistique.ingest.opened import Opened
from mistique.schema import ROW_LABEL, Intermediate


def rows_that_differ(open_: Mapping[str, Opened], *, model: str, dataset: str) -> Iterator[tuple[str, CaptureError]]:
    """The intermediates that have not as many rows as the input, each with what is wrong; to be left out.

    Raises
    ------
    CaptureError
        Nothing was captured.
    """
    counts = {name: opened.intermediate.n_rows for name, opened in open_.items()}
    if not counts:
        raise CaptureError(f"nothing of {model} was captured over dataset {dataset!r}")
    n_rows = next((n for name, n in counts.items() if name != ROW_LABEL), counts.get(ROW_LABEL, 0))
    for name, found in counts.items():
        if found != n_rows:
            yield name, CaptureError(f"{name!r} has {found} rows, expected {n_rows} as in the input")


def lost_parents(
    open_: Mapping[str, Opened], choosing: Choosing, *, has_model: bool
) -> Iterator[tuple[str, CaptureError]]:
    """What follows from what was left out after all is run again; what cannot be is given, to be left out too."""
    for name, opened in list(open_.items()):
        if not opened.is_derived or choosing.follows({"parents": opened.intermediate.parents}):
            continue
        opened.is_derived = False
        if not has_model or opened.intermediate.recompute_difference is None:
            (parent,) = opened.intermediate.parents or ("",)
            yield (
                name,
                CaptureError(f"it follows from {parent!r}, which was not stored, and cannot be recomputed"),
            )


def stored(open_: Mapping[str, Opened], buffered: Buffered) -> list[Intermediate]:
    """The intermediates of a capture as they are committed, with references to what was put into segments."""
    return [
        replace(
            opened.intermediate,
            references=buffered.references.get(name, opened.intermediate.references),
            stored_nbytes=buffered.new_nbytes.get(name, 0) if name in buffered.references else 0,
        )
        for name, opened in open_.items()
    ]
