"""Grids of chunks to references, in as few runs as their order in the segments allows, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import numpy as np

from mistique.schema import Dictionary, References, Run, Segment

# Of one intermediate; what a damaged record claims must not fill the memory.
MAX_CHUNKS = 2**28
_OF_RUN = tuple(field.name for field in fields(Run))


def pack_references(
    segments: Sequence[Segment],
    grid: np.ndarray,
    dictionaries: Mapping[int, tuple[int, int, int]] = MappingProxyType({}),
) -> References:
    """References to the chunks of an intermediate.

    Parameters
    ----------
    segments : sequence of Segment
    grid : ndarray of shape (n_blocks, n_groups, 3), int64
        Of each chunk: the number of its segment, its unit, its place; -1 throughout a block that is not stored.
    dictionaries : mapping of int to tuple of int
        The same of the values that the chunks of a group number.

    Notes
    -----
    A whole fresh layer is one run. Else runs go down the blocks of each group, and over groups that go alike.
    """
    used = sorted({*np.unique(grid[:, :, 0]).tolist(), *(segment for segment, _, _ in dictionaries.values())} - {-1})
    listed = tuple(segments[i] for i in used)
    is_held = grid[:, 0, 0] >= 0
    n_held = None if is_held.all() else int(is_held.sum())
    grid = grid.copy()
    grid[is_held, :, 0] = np.searchsorted(used, grid[is_held, :, 0])
    values = tuple(
        Dictionary(group, used.index(segment), unit, place)
        for group, (segment, unit, place) in sorted(dictionaries.items())
    )
    whole = _whole(grid)
    if whole is not None:
        return References(listed, (whole,), values, n_held)
    packed: list[list[Run]] = []
    for group in range(grid.shape[1]):
        runs = _column(grid[:, group], group)
        merged = _merged(packed[-1], runs) if packed else None
        if merged is not None:
            packed[-1] = merged
        else:
            packed.append(runs)
    return References(listed, tuple(run for runs in packed for run in runs), values, n_held)


def references_body(references: References) -> dict[str, Any]:
    """References as an attachment holds them: ``asdict`` of a thousand runs takes 50 ms, this 2."""
    return {
        "segments": [asdict(segment) for segment in references.segments],
        "runs": [dict(zip(_OF_RUN, values, strict=True)) for values in map(attrgetter(*_OF_RUN), references.runs)],
        "dictionaries": [asdict(dictionary) for dictionary in references.dictionaries],
        "n_blocks_held": references.n_blocks_held,
    }


def held_blocks(references: References, n_blocks: int) -> np.ndarray:
    """Which row blocks are stored: shape (n_blocks,), bool.

    Examples
    --------
    >>> run = Run(0, 1, 2, 0, 1, 0, 1, 0, 0, 0)
    >>> held_blocks(References((), (run,), (), 2), 4)
    array([False,  True,  True, False])
    """
    is_held = np.full(n_blocks, references.is_whole)
    if not references.is_whole:
        for run in references.runs:
            if run.group == 0:
                is_held[run.block : run.block + run.n_blocks] = True
    return is_held


def added_blocks(references: References | None, new: References, *, blocks: np.ndarray, n_blocks: int) -> References:
    """References with blocks that were stored later.

    Parameters
    ----------
    references : References, optional
        What was stored before.
    new : References
        Of the new blocks alone, in order.
    blocks : ndarray of shape (n_new,), int64
        Which blocks they are.
    n_blocks : int
        That there are in all.
    """
    part = unpack_references(new)
    grid = np.full((n_blocks, *part.shape[1:]), -1, np.int64)
    listed: list[Segment] = []
    if references is not None:
        before = unpack_references(references)
        grid[: len(before)] = before
        listed += references.segments
    is_held = part[:, :, :1] >= 0
    grid[blocks] = part + np.where(is_held, [len(listed), 0, 0], 0)
    listed += new.segments
    values = {found.group: (found.segment, found.unit, found.place) for found in new.dictionaries}
    return pack_references(listed, grid, values)


def unpack_references(references: References) -> np.ndarray:
    """The inverse of `pack_references`, without the dictionaries: shape (n_blocks, n_groups, 3), int64.

    Blocks that are not stored are -1; those behind the last one that is stored are left out.

    Raises
    ------
    ValueError
        The runs make no grid.
    """
    runs, n_segments = references.runs, len(references.segments)
    shape = max(run.block + run.n_blocks for run in runs), max(run.group + run.n_groups for run in runs)
    are_sound = all(
        min(run.block, run.group, run.n_blocks - 1, run.n_groups - 1) >= 0 and 0 <= run.segment < n_segments
        for run in runs
    )
    if not are_sound or shape[0] * shape[1] > MAX_CHUNKS:
        raise ValueError(f"runs over {shape[0]} blocks and {shape[1]} groups of {n_segments} segments")
    grid = np.full((*shape, 3), -1, np.int64)
    for run in runs:
        blocks, groups = np.arange(run.n_blocks)[:, None], np.arange(run.n_groups)
        part = grid[run.block : run.block + run.n_blocks, run.group : run.group + run.n_groups]
        part[:, :, 0] = run.segment
        part[:, :, 1] = run.unit + blocks * run.block_step + groups * run.group_step
        part[:, :, 2] = run.place + groups * run.place_step
    is_missing: np.ndarray = grid[:, :, 0] < 0
    n_missing = is_missing.sum(axis=1)
    # A block is stored with all of its groups, or not at all.
    if n_missing.any() if references.is_whole else (n_missing % shape[1]).any():
        raise ValueError("runs that leave chunks out")
    return grid


def _whole(grid: np.ndarray) -> Run | None:
    """All chunks as one run, if they lie at even steps."""
    n_blocks, n_groups, _ = grid.shape
    segment, unit, place = grid[0, 0].tolist()
    if grid[:, 0, 0].min() < 0:
        return None
    block_step = int(grid[1, 0, 1]) - unit if n_blocks > 1 else 0
    group_step = int(grid[0, 1, 1]) - unit if n_groups > 1 else 0
    place_step = int(grid[0, 1, 2]) - place if n_groups > 1 else 0
    blocks, groups = np.arange(n_blocks)[:, None], np.arange(n_groups)[None, :]
    is_even = (
        (grid[:, :, 0] == segment)
        & (grid[:, :, 1] == unit + blocks * block_step + groups * group_step)
        & (grid[:, :, 2] == place + groups * place_step)
    )
    if not is_even.all():
        return None
    return Run(segment, 0, n_blocks, 0, n_groups, unit, block_step, group_step, place, place_step)


def _column(chunks: np.ndarray, group: int) -> list[Run]:
    """The chunks of one group, shape (n_blocks, 3), as runs."""
    whole = _whole(chunks[:, None])
    if whole is not None:
        return [replace(whole, group=group)]
    runs: list[Run] = []
    for block, (segment, unit, place) in enumerate(chunks.tolist()):
        if segment < 0:
            continue
        last = runs[-1] if runs else None
        is_next = last is not None and last.block + last.n_blocks == block
        if last is not None and is_next and (last.segment, last.place) == (segment, place):
            step = unit - last.unit if last.n_blocks == 1 else last.block_step
            if unit == last.unit + last.n_blocks * step:
                runs[-1] = replace(last, n_blocks=last.n_blocks + 1, block_step=step)
                continue
        runs.append(Run(segment, block, 1, group, 1, unit, 0, 0, place, 0))
    return runs


def _merged(left: list[Run], right: list[Run]) -> list[Run] | None:
    """`left` with the group of `right` added to each of its runs; None: they do not go alike."""
    if len(left) != len(right):
        return None
    merged = []
    for one, other in zip(left, right, strict=True):
        n = one.n_groups
        group_step, place_step = one.group_step, one.place_step
        if n == 1:
            group_step, place_step = other.unit - one.unit, other.place - one.place
        fits = (
            (one.segment, one.block, one.n_blocks, one.group + n)
            == (other.segment, other.block, other.n_blocks, other.group)
            and (one.block_step == other.block_step or one.n_blocks == 1)
            and other.unit == one.unit + n * group_step
            and other.place == one.place + n * place_step
        )
        if not fits:
            return None
        merged.append(replace(one, n_groups=n + 1, group_step=group_step, place_step=place_step))
    return merged
