"""Where chunks lie: segments, and the references by which an intermediate is a view over them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """A rectangle of chunks of one intermediate that lies in one segment at even steps.

    The chunk of block ``block + i`` and group ``group + j`` is number ``place + j * place_step`` of unit
    ``unit + i * block_step + j * group_step``.
    """

    segment: int
    block: int
    n_blocks: int
    group: int
    n_groups: int
    unit: int
    block_step: int
    group_step: int
    place: int
    place_step: int


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Where the distinct values of one group lie, whose chunks hold the numbers of values."""

    group: int
    segment: int
    unit: int
    place: int


@dataclass(frozen=True, slots=True)
class Part:
    """A range of bytes of a segment, and their digest in hex."""

    offset: int
    n_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Units of new column chunks of one capture, in one TileDB array of bytes: the paper's Partition.

    A unit is what is encoded together: one chunk of a layer, or the chunks of a few columns of a table that resemble
    one another.

    Parameters
    ----------
    id : str
        128 random bits in hex: the array's name.
    n_units : int
    n_chunks : int
    units : Part
        The table of the units: what makes a read of this segment verifiable.
    contents : Part
        The digests of the chunks' values, by which they are found again.
    encoded_nbytes : int
        Bytes that it takes in the store.
    """

    id: str
    n_units: int
    n_chunks: int
    units: Part
    contents: Part
    encoded_nbytes: int


@dataclass(frozen=True, slots=True)
class References:
    """Where the chunks of an intermediate lie: a view over segments, run-length packed.

    `n_blocks_held` is None where all row blocks are stored; else so many of them are, each with all of its groups.
    """

    segments: tuple[Segment, ...]
    runs: tuple[Run, ...]
    dictionaries: tuple[Dictionary, ...] = ()
    n_blocks_held: int | None = None

    @property
    def is_whole(self) -> bool:
        """Every row can be read."""
        return self.n_blocks_held is None
