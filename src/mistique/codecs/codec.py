"""The seam that every codec fills, and how one is found by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from mistique.errors import UnknownCodecError
from mistique.schema import ColumnType

_KNOWN: dict[str, type[Codec]] = {}
_POLICIES: dict[str, type[Policy]] = {}
# All rows, or columns, of a chunk.
ALL: slice | np.ndarray = slice(None)


@runtime_checkable
class Codec(Protocol):
    """Turns the values of one column chunk into a payload, and back.

    A payload is all that decoding needs, already compressed: a small header (method, parameters), then the cells.
    A codec is hashable and has no state beyond its parameters, so any number of threads may share one, and
    equal values always give equal payloads: de-duplication rests on that. It never keeps or changes what it is given.
    """

    name: ClassVar[str]
    is_lossy: ClassVar[bool]

    def __hash__(self) -> int:
        """Equal codecs hash alike."""

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""

    def applies_to(self, column_type: ColumnType) -> bool:
        """It can encode columns of this type; others are kept raw."""

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """Payload of a chunk (n_columns, n_rows), C-contiguous, in the cells of the column: ndarray (n_bytes,), uint8.

        Text is an object array, 16-bit floats are uint16.
        """

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """Values of a chunk of that shape, in the cells of the column.

        Raises
        ------
        ChunkCorruptError
            It is no payload of this codec and shape. What a payload says never makes more memory than the shape asks.
        """

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """Largest absolute error of any finite value of this chunk, from the header."""


@runtime_checkable
class Summary(Codec, Protocol):
    """A codec that keeps something said of the values in place of the values; what, the shape of a row decides.

    Nothing is derived from what it keeps: the largest of four means is not the mean of anything.
    """

    def for_shape(self, shape: tuple[int, ...]) -> Codec:
        """The codec for rows of that shape: itself, with what it takes from the shape, or another."""


@runtime_checkable
class Policy(Protocol):
    """Names a codec for each intermediate of a capture. No cell is written in its name."""

    name: ClassVar[str]
    leaves_out_derived: ClassVar[bool]
    """What follows by a rule from an intermediate that is kept is not kept itself."""

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Those that it may name."""

    def codec_for(self, types: Sequence[ColumnType], *, shape: tuple[int, ...], is_table: bool) -> Codec:
        """The codec of an intermediate with columns of these types and rows of this shape."""


@runtime_checkable
class BlockCodec(Codec, Protocol):
    """A codec that is faster over a whole row block of a layer than chunk by chunk."""

    def encode_block(
        self, pieces: Sequence[np.ndarray], column_type: ColumnType, *, group_columns: int
    ) -> Iterator[tuple[tuple[int, int], np.ndarray]] | None:
        """Shape and payload of each chunk of a block of pieces of shape (n_rows, n_positions, n_units), in order.

        Columns are laid out with units outermost and cut into groups of `group_columns`. None: this block is to be
        encoded chunk by chunk.
        """


@runtime_checkable
class PartCodec(Codec, Protocol):
    """A codec that gives some rows and columns of a chunk for less than all of it."""

    def decode_part(
        self,
        payload: np.ndarray,
        shape: tuple[int, int],
        column_type: ColumnType,
        *,
        columns: slice | np.ndarray,
        rows: slice | np.ndarray,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Values (n_columns, n_rows) of some columns in some rows, at least one each; else as `decode`.

        Columns are `ALL` or numbers that ascend, rows are a slice without a step or numbers that ascend. A codec may
        write the values to `out`, cells of that shape, and return it; or return others and leave it as it was.
        """


@runtime_checkable
class ChunksCodec(Codec, Protocol):
    """A codec that decodes many whole chunks at once for less than one by one."""

    def decode_chunks(
        self,
        content: np.ndarray,
        places: np.ndarray,
        shapes: np.ndarray,
        column_type: ColumnType,
        *,
        out: np.ndarray,
        corners: np.ndarray,
    ) -> tuple[np.ndarray, float]:
        """Values of chunks, written to where they belong; which of them were, and the largest error of these.

        One that was not is to be decoded by itself: it may be of a rarer kind, or damaged.

        Parameters
        ----------
        content : ndarray of uint8
            Where the payloads lie.
        places : ndarray of shape (n_chunks, 2), int64
            Where each begins, and its number of bytes.
        shapes : ndarray of shape (n_chunks, 2), int64
        column_type : ColumnType
        out : ndarray of shape (n_columns, n_rows)
            In the cells of the column.
        corners : ndarray of shape (n_chunks, 2), int64
            Its first column and row there.

        Returns
        -------
        is_decoded : ndarray of shape (n_chunks,), bool
        max_abs_error : float
        """


@runtime_checkable
class CodedCodec(Codec, Protocol):
    """A codec whose payload is a code of one byte for each value, and a head that says what the codes stand for.

    So a column can be cut out of its chunk without being decoded, and put elsewhere: an index does so.
    """

    def codes_of(self, payload: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, bytes] | None:
        """The codes (n_columns, n_rows), uint8, and the head of a chunk; None: this one was kept in another way.

        Raises
        ------
        ChunkCorruptError
            It is no payload of this codec and shape.
        """

    def tables_of(self, heads: Sequence[bytes], *, column: int, n_columns: int, column_type: ColumnType) -> np.ndarray:
        """What each code stands for in one column of chunks of `n_columns` with these heads: (n_heads, 256), in cells.

        Raises
        ------
        ChunkCorruptError
            One is no head of this codec.
        """


def register(codec: type[Codec]) -> type[Codec]:
    """Make a codec known by its name."""
    _KNOWN[codec.name] = codec
    return codec


def register_policy(policy: type[Policy]) -> type[Policy]:
    """Make a policy known by its name."""
    _POLICIES[policy.name] = policy
    return policy


def codec_from_config(config: Mapping[str, Any]) -> Codec:
    """The codec that a store's record names.

    Raises
    ------
    UnknownCodecError
        A later version of mistique wrote it, or the record is damaged.
    """
    parameters = {key: value for key, value in config.items() if key != "name"}
    try:
        return _KNOWN[config["name"]](**parameters)
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownCodecError(name=dict(config), known=_KNOWN) from error


def resolve_codec(codec: str | Codec | Policy) -> Codec | Policy:
    """The codec or policy that a user named: ``"auto"``, ``"raw"``, or an instance such as ``Power(bits=6)``.

    Raises
    ------
    UnknownCodecError
        No codec has that name.
    """
    if isinstance(codec, str):
        if codec in _POLICIES:
            return _POLICIES[codec]()
        if codec not in _KNOWN:
            raise UnknownCodecError(name=codec, known={**_POLICIES, **_KNOWN})
        return codec_from_config({"name": codec})
    if isinstance(codec, (Codec, Policy)) and not isinstance(codec, type):
        return codec
    raise UnknownCodecError(name=codec, known={**_POLICIES, **_KNOWN})
