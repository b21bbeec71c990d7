"""What the record of a capture says of its intermediates, so that a store is listed without reading of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mistique.schema import ROW_LABEL, Intermediate
from mistique.storage.record_bodies import MAX_ROWS
from mistique.storage.record_fields import expect

# Digits of a lineage by which captures that have it are found; all of them are compared then.
LINEAGE_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Outline:
    """Intermediates in sum.

    Parameters
    ----------
    n_intermediates : int
        Without the row labels.
    n_rows : int
        Of the first of them.
    raw_nbytes : int
        Of what is stored, as it was captured.
    stored_nbytes : int
        That they added to the store.
    lineages : tuple of str
        The first `LINEAGE_DIGITS` digits of each lineage among them, sorted.
    """

    n_intermediates: int
    n_rows: int
    raw_nbytes: int
    stored_nbytes: int
    lineages: tuple[str, ...]


def outline(intermediates: Mapping[str, Intermediate], stored: Iterable[str]) -> Outline:
    """Some intermediates in sum, of which some are stored."""
    nodes = [node for node in intermediates.values() if node.name != ROW_LABEL]
    return Outline(
        len(nodes),
        nodes[0].n_rows if nodes else 0,
        sum(intermediates[name].raw_nbytes for name in stored),
        sum(node.stored_nbytes for node in intermediates.values()),
        tuple(sorted({node.lineage[:LINEAGE_DIGITS] for node in intermediates.values() if node.lineage})),
    )


def outline_body(found: Outline) -> dict[str, Any]:
    """An outline as a record holds it."""
    return {**asdict(found), "lineages": "\n".join(found.lineages)}


def outline_of(body: Any) -> Outline | None:
    """The inverse of `outline_body`; of None, None.

    Raises
    ------
    TypeError, ValueError, KeyError
        It is none: it may come from a stranger.
    """
    if body is None:
        return None
    expect(dict, body)
    text = body["lineages"]
    expect(str, text)
    numbers = body["n_intermediates"], body["n_rows"], body["raw_nbytes"], body["stored_nbytes"]
    expect(int, *numbers)
    if min(numbers) < 0 or body["n_rows"] > MAX_ROWS:
        raise ValueError(f"{numbers} intermediates, rows and bytes")
    return Outline(*numbers, tuple(text.splitlines()))
