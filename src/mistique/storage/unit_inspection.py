"""Every unit of a segment read, held against its digest and decoded; and intermediates held against their units."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from mistique.codecs import Codec, codec_from_config
from mistique.codecs.stored_form import stored_form
from mistique.errors import ChunkCorruptError, MistiqueError
from mistique.schema import Intermediate, References, Segment
from mistique.storage.damage import Damage
from mistique.storage.options import damage_as_error
from mistique.storage.references import unpack_references
from mistique.storage.segments import SegmentReader
from mistique.storage.units import UnitTable

NUMBER_CELLS = ("|u1", "<u2", "<u4")
# Of one unit; a table of distinct values is the largest there is. What a damaged table claims must not fill the memory.
MAX_UNIT_CELLS = 2**27
_AT_ONCE = 64


@dataclass(eq=False)
class InspectedSegment:
    """What a segment holds, as far as it can be read.

    Parameters
    ----------
    table : UnitTable, optional
        None: nothing of it can be read.
    is_bad : ndarray of shape (n_units,), bool
    largest : ndarray of shape (n_chunks,), int64
        In each chunk of unsigned integers, which may be numbers of values; -1 in others.
    n_bytes : int
        Of its whole payloads.
    """

    table: UnitTable | None = None
    is_bad: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    largest: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    damages: list[Damage] = field(default_factory=list)
    n_bytes: int = 0


def inspect_segment(reader: SegmentReader, segment: Segment, *, digests: bool = True) -> InspectedSegment:
    """Read all of a segment; without `digests`, not those of its contents, by which later captures would find it."""
    where = f"segment {segment.id}"
    try:
        table = reader.table(segment)
        if table.n_chunks != segment.n_chunks:
            raise ChunkCorruptError(where=where, expected=f"{segment.n_chunks} chunks", got=str(table.n_chunks))
        found = InspectedSegment(table, np.zeros(table.n_units, bool), np.full(table.n_chunks, -1, np.int64))
    except MistiqueError as error:
        return InspectedSegment(damages=[Damage("segment", where, str(error))])
    try:
        if digests:
            reader.contents(segment)
    except (MistiqueError, ValueError) as error:
        found.damages.append(Damage("segment", f"{where}, digests of its contents", str(error)))
    for unit, payload in _payloads(reader, segment, found):
        try:
            _decode(table, unit, payload, found, where=f"{where}, unit {unit}")
            found.n_bytes += payload.nbytes
        except MistiqueError as error:
            _condemn(found, segment, unit, str(error))
    return found


def misfits(node: Intermediate, references: References, segments: Mapping[Segment, InspectedSegment]) -> str:
    """Why an intermediate cannot be read from what its segments hold; empty: it can, every cell of it."""
    with damage_as_error(f"references of {node.name!r}", "runs of chunks"):
        stored = stored_form(node)
        n_groups = stored.n_groups + len(stored.mask_groups)
        expected = stored.n_blocks, n_groups
        covered = tuple(
            max((first + n for first, n in spans), default=0)
            for spans in (
                [(run.block, run.n_blocks) for run in references.runs],
                [(run.group, run.n_groups) for run in references.runs],
            )
        )
        if covered != expected:
            return f"its references are of {covered[0]} x {covered[1]} chunks, it has {expected[0]} x {expected[1]}"
        grid = unpack_references(references)
        numbered = {values.group: values for values in references.dictionaries}
        for number, segment in enumerate(references.segments):
            held = segments[segment]
            blocks, groups = np.nonzero(grid[:, :, 0] == number)
            units, places = grid[blocks, groups, 1], grid[blocks, groups, 2]
            if len(units) and (why := _misfits(stored, held, blocks, groups, units, places, numbered.keys())):
                return f"segment {segment.id}: {why}"
        for group, values in numbered.items():
            held = segments[references.segments[values.segment]]
            n_values = _n_values(stored, held, group, values.unit, values.place)
            largest = max(_largest(segments[references.segments[s]], u, p) for s, u, p in grid[:, group].tolist())
            if largest >= n_values:
                return f"column {group} has number {largest} of {n_values} values"
    return ""


def _misfits(
    node: Intermediate,
    held: InspectedSegment,
    blocks: np.ndarray,
    groups: np.ndarray,
    units: np.ndarray,
    places: np.ndarray,
    numbered: Collection[int],
) -> str:
    table = held.table
    if table is None:
        return "it cannot be read"
    if units.min() < 0 or units.max() >= table.n_units:
        return f"unit {units.max()} of {table.n_units}"
    if held.is_bad[units].any():
        return f"unit {units[held.is_bad[units]][0]} is damaged"
    shapes, kinds = table.shapes[units], table.kind_of[units]
    rows = np.minimum(node.block_rows, node.n_rows - blocks * node.block_rows)
    is_table = np.array([kind.is_table for kind in table.kinds], bool)[kinds]
    fits = (is_table == node.is_table) & (shapes[:, 1] == rows)
    if node.is_table:
        fits &= (places >= 0) & (places < shapes[:, 0])
    else:
        width = np.minimum(node.group_columns, node.n_columns - groups * node.group_columns)
        fits &= (places == 0) & (shapes[:, 0] == width)
    cells = [kind.cell for kind in table.kinds]
    for group, kind in set(zip(groups.tolist(), kinds.tolist(), strict=True)):
        allowed = NUMBER_CELLS if group in numbered else (cell_of(node, group),)
        if cells[kind] not in allowed:
            return f"cells {cells[kind]} for group {group} of {' or '.join(allowed)}"
    return "" if fits.all() else f"unit {units[~fits][0]} has another shape"


def cell_of(node: Intermediate, group: int) -> str:
    """The cell type of a group; masks follow the values."""
    if not node.is_table:
        return node.types[0].cell
    return "|u1" if group >= node.n_groups else node.type_of(group).cell


def _n_values(node: Intermediate, held: InspectedSegment, group: int, unit: int, place: int) -> int:
    table = held.table
    if table is None or not 0 <= unit < table.n_units or held.is_bad[unit]:
        return 0
    kind = table.kinds[int(table.kind_of[unit])]
    if not kind.is_table or kind.cell != cell_of(node, group) or not 0 <= place < table.shapes[unit, 0]:
        return 0
    return int(table.shapes[unit, 1])


def _largest(held: InspectedSegment, unit: int, place: int) -> int:
    assert held.table is not None
    return int(held.largest[held.table.first_chunk[unit] + place])


def _payloads(reader: SegmentReader, segment: Segment, found: InspectedSegment) -> Iterator[tuple[int, np.ndarray]]:
    """Units that are what was written; the others are condemned, found by halves of what is read at once."""
    waiting = [
        np.arange(start, min(start + _AT_ONCE, len(found.is_bad))) for start in range(0, len(found.is_bad), _AT_ONCE)
    ]
    while waiting:
        units = waiting.pop()
        read: list[tuple[int, np.ndarray]] = []
        try:
            for numbers, payloads in reader.payloads(segment, units):
                read += zip(numbers.tolist(), payloads, strict=True)
        except MistiqueError as error:
            if len(units) == 1:
                _condemn(found, segment, int(units[0]), str(error))
            else:
                waiting += [part for part in np.array_split(units, 2) if len(part)]
            continue
        yield from read


def _decode(table: UnitTable, unit: int, payload: np.ndarray, found: InspectedSegment, *, where: str) -> None:
    kind = table.kinds[int(table.kind_of[unit])]
    n_columns, n_rows = table.shapes[unit].tolist()
    with damage_as_error(where, f"a payload of {kind.codec}"):
        if n_columns * n_rows > MAX_UNIT_CELLS:
            raise ValueError(f"{n_columns} x {n_rows} cells")
        values = _codec(kind.codec).decode(payload, (n_columns, n_rows), kind.type)
        if values.shape != (n_columns, n_rows):
            raise ValueError(f"values of shape {values.shape}")
        if kind.is_table and kind.cell in NUMBER_CELLS:
            first = int(table.first_chunk[unit])
            found.largest[first : first + n_columns] = values.max(axis=1)


def _condemn(found: InspectedSegment, segment: Segment, unit: int, why: str) -> None:
    found.is_bad[unit] = True
    found.damages.append(Damage("unit", f"segment {segment.id}, unit {unit}", why))


@lru_cache(maxsize=256)
def _codec(config: str) -> Codec:
    return codec_from_config(json.loads(config))
