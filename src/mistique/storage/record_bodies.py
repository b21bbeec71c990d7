"""The nouns of a catalog as the JSON of its records, and back: what comes from a stranger is looked at."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from math import inf, isinf
from typing import Any

import numpy as np

from mistique.errors import ChunkCorruptError
from mistique.schema import ColumnType, Dictionary, Index, Intermediate, References, Run, Tally
from mistique.storage.move_records import segment_from
from mistique.storage.record_fields import BODY_ERRORS, expect
from mistique.storage.units import compressed, expanded

SEAL_FIELD = "seal"
ADDED_TO, USES = "capture", "uses"
# More than anybody has: what a record claims is allocated when all of it is asked for.
MAX_ROWS = 2**40
_TEXT, _NUMBERS = "<U0", "biufcmM"
# More units than a segment has, more blocks than rows make: what is reckoned of them fits into 64 bits.
_MAX_PLACE = 2**30
# Figures of a tally, 128 MB: what a stranger's record claims is made room for.
MAX_FIGURES = 2**24


def intermediate_body(intermediate: Intermediate) -> dict[str, Any]:
    """An intermediate without its references, as a record holds it."""
    body = {**asdict(replace(intermediate, references=None)), "codec": dict(intermediate.codec)}
    # JSON has no infinity.
    return {**body, "summary_error": None if isinf(intermediate.summary_error) else intermediate.summary_error}


def intermediate_of(body: dict[str, Any]) -> Intermediate:
    """The inverse of `intermediate_body`."""
    fields = {
        name: value for name, value in body.items() if name not in ("of", "is_stored", SEAL_FIELD, ADDED_TO, USES)
    }
    fields["types"] = tuple(
        ColumnType(**{**kind, "categories": None if kind["categories"] is None else tuple(kind["categories"])})
        for kind in fields["types"]
    )
    # Records of before there were summaries have no such field.
    error = fields.get("summary_error", 0.0)
    fields["summary_error"] = inf if error is None else error
    for name in ("shape", "columns", "aliases", "parents"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    found = Intermediate(**fields)
    expect(str, found.name, found.role, found.container, found.detail, found.lineage, found.recompute_note)
    expect(str, *found.aliases, *(found.columns or ()), *(found.parents or ()))
    expect(str, *(text for kind in found.types for text in (kind.dtype, kind.cell)))
    expect(int, found.n_rows, *found.shape, found.raw_nbytes, found.stored_nbytes)
    expect(bool, found.is_by_column, *(kind.is_nullable for kind in found.types))
    expect(dict, found.codec, *(() if found.derivation is None else (found.derivation,)))
    expect(str, found.codec.get("name"), *(() if found.derivation is None else (found.derivation.get("op"),)))
    seconds = found.forward_seconds_per_row, found.forward_seconds_per_call
    for seconds_or_error in (*seconds, found.summary_error, found.recompute_difference or 0.0):
        expect(float, float(seconds_or_error) if type(seconds_or_error) is int else seconds_or_error)
    if found.n_rows < 0 or min(found.shape, default=1) < 1 or max((found.n_rows, *found.shape)) > MAX_ROWS:
        raise ValueError(f"{found.n_rows} rows of shape {found.shape}")
    if len(found.types) not in (1, found.n_columns) or len(found.columns or ()) not in (0, found.n_columns):
        raise ValueError(f"{len(found.types)} types and {len(found.columns or ())} names of shape {found.shape}")
    for cell in {kind.cell for kind in found.types} - {_TEXT}:
        if np.dtype(cell).kind not in _NUMBERS:
            raise ValueError(f"cells of {cell[:40]!r}")
    return found


def index_body(index: Index) -> dict[str, Any]:
    """An index without its references, as a record holds it."""
    body = asdict(replace(index, references=None))
    return {**body, "max_abs_error": None if isinf(index.max_abs_error) else index.max_abs_error}


def index_of(body: dict[str, Any]) -> Index:
    """The inverse of `index_body`."""
    error = body["max_abs_error"]
    found = Index(**{**body, "max_abs_error": inf if error is None else float(error), "references": None})
    numbers = found.span_rows, found.n_heads, found.n_units, found.encoded_nbytes
    expect(str, found.name, found.form)
    expect(int, *numbers)
    if found.span_rows < 1 or min(numbers) < 0 or max(numbers) > MAX_ROWS:
        raise ValueError(f"an index of {numbers} rows, heads, units and bytes")
    return found


def references_in(content: bytes, where: str) -> References:
    """The references that an attachment holds.

    Raises
    ------
    ChunkCorruptError
        It holds none.
    """
    try:
        return references_of(json.loads(content))
    except BODY_ERRORS as error:
        raise ChunkCorruptError(where=where, expected="runs of chunks", got=str(error)) from error


def tally_body(tally: Tally) -> dict[str, Any]:
    """A tally without its figures, as a record holds it."""
    return {**asdict(tally), "max_abs_error": None if isinf(tally.max_abs_error) else tally.max_abs_error}


def tally_of(body: dict[str, Any]) -> Tally:
    """The inverse of `tally_body`."""
    error = body["max_abs_error"]
    n_figures, n_columns = body["shape"]
    found = Tally(**{**body, "shape": (n_figures, n_columns), "max_abs_error": inf if error is None else float(error)})
    expect(str, found.name, found.what)
    expect(int, n_figures, n_columns, found.encoded_nbytes)
    if min(found.shape) < 1 or n_figures * n_columns > MAX_FIGURES or not found.max_abs_error >= 0:
        raise ValueError(f"figures of shape {found.shape} within {found.max_abs_error}")
    return found


def figures_of(tally: Tally, attachment: bytes) -> np.ndarray:
    """The figures of a tally, as `packed_figures` made them.

    Raises
    ------
    ValueError
        They are damaged, or of another shape.
    """
    content = expanded(attachment, 8 * tally.shape[0] * tally.shape[1])
    return np.frombuffer(content, np.float64).reshape(tally.shape)


def figures_in(content: bytes, tally: Tally, where: str) -> np.ndarray:
    """The figures of a tally that an attachment holds.

    Raises
    ------
    ChunkCorruptError
        It holds none.
    """
    try:
        return figures_of(tally, content)
    except BODY_ERRORS as error:
        raise ChunkCorruptError(where=where, expected=f"of shape {tally.shape}", got=str(error)) from error


def packed_figures(figures: np.ndarray) -> bytes:
    """Figures as the attachment of a record holds them: float64 in rows, by zstd."""
    return compressed(np.ascontiguousarray(figures, np.float64).tobytes())


def references_of(body: dict[str, Any]) -> References:
    """References from their JSON."""
    for lying in (*body["runs"], *body["dictionaries"]):
        expect(dict, lying)
        expect(int, *lying.values())
        is_far = max(map(abs, lying.values())) >= _MAX_PLACE
        if is_far or not 0 <= lying["segment"] < len(body["segments"]):
            raise ValueError(f"chunks at {lying}")
    n_blocks_held = body.get("n_blocks_held")
    expect(int, 0 if n_blocks_held is None else n_blocks_held)
    return References(
        tuple(segment_from(segment) for segment in body["segments"]),
        tuple(Run(**run) for run in body["runs"]),
        tuple(Dictionary(**dictionary) for dictionary in body["dictionaries"]),
        n_blocks_held,
    )
