"""TileDB's generic tiles: what its schemas, metadata and groups lie in, and what their sizes have to come to."""

from __future__ import annotations

import struct
import zlib

# Version, bytes of the data, bytes of the tile, type, bytes of a cell, encryption, bytes of the filters.
HEAD = struct.Struct("<IQQBQBI")
# Of a chunk: bytes before its filters, behind them, and of what the filters say.
CHUNK = struct.Struct("<III")
MAX_TILE_NBYTES = 64 * 2**20
# Characters, packed by gzip in chunks of 64 KiB, and then encrypted where that is said. TileDB makes room for as many
# filters as it reads here: one byte of their number changed, it took half a minute to find that there are none.
_OF_CHARACTERS = (4, 1)
_FILTERS = {
    0: bytes.fromhex("0000010001000000 01050000000101000000"),
    1: bytes.fromhex("0000010002000000 01050000000101000000 0b00000000"),
}


def why_no_tile(content: bytes) -> str:
    """What is wrong with the bytes of a generic tile; empty: nothing.

    Examples
    --------
    >>> why_no_tile(b"short")
    '5 bytes'
    """
    if len(content) < HEAD.size:
        return f"{len(content)} bytes"
    _, n_bytes, tile_nbytes, *cells, encryption, n_filter_bytes = HEAD.unpack_from(content)
    if HEAD.size + n_filter_bytes + n_bytes != len(content) or tile_nbytes > MAX_TILE_NBYTES:
        return f"{len(content)} bytes, {n_bytes} of data for a tile of {tile_nbytes}"
    filters = content[HEAD.size : HEAD.size + n_filter_bytes]
    if tuple(cells) != _OF_CHARACTERS or filters != _FILTERS.get(encryption):
        return "a head that is of no such tile"
    try:
        unpacked_tile(content)
    except (struct.error, zlib.error, ValueError) as error:
        return str(error)
    return ""


def unpacked_tile(content: bytes) -> bytes | None:
    """What lies in a generic tile, from its head on; None: it is encrypted.

    Raises
    ------
    struct.error, zlib.error, ValueError
    """
    _, n_bytes, tile_nbytes, _, _, encryption, n_filter_bytes = HEAD.unpack_from(content)
    at = HEAD.size + n_filter_bytes
    end, total, parts = at + n_bytes, 0, []
    (n_chunks,) = struct.unpack_from("<Q", content, at)
    at += 8
    while at < end and n_chunks:
        n_original, n_filtered, n_metadata = CHUNK.unpack_from(content, at)
        at += CHUNK.size
        metadata = content[at : at + n_metadata]
        at, total, n_chunks = at + n_metadata + n_filtered, total + n_original, n_chunks - 1
        if encryption:
            is_sound = is_sealed_chunk(metadata, n_filtered)
        else:
            is_sound = metadata == struct.pack("<IIII", 0, 1, n_original, n_filtered)
        if not is_sound or total > tile_nbytes:
            raise ValueError(f"a chunk of {n_filtered} bytes for {n_original} that no filter made")
        if not encryption:
            unpacking = zlib.decompressobj()
            parts.append(unpacking.decompress(content[at - n_filtered : at], MAX_TILE_NBYTES))
            if len(parts[-1]) != n_original or not unpacking.eof:
                raise ValueError(f"{len(parts[-1])} bytes in a chunk of {n_original}")
    if at != end or n_chunks or total != tile_nbytes:
        raise ValueError("chunks that do not fill the tile")
    return None if encryption else b"".join(parts)


def is_sealed_chunk(metadata: bytes, n_filtered: int) -> bool:
    """Whether the sizes fit that AES-GCM says of the parts of a chunk: TileDB makes room for them before it looks.

    What is in them is for its tags to say.
    """
    n_parts = sum(struct.unpack_from("<II", metadata))
    if len(metadata) != 8 + 36 * n_parts:
        return False
    sizes = [struct.unpack_from("<II", metadata, 8 + 36 * part) for part in range(n_parts)]
    return all(plain == sealed for plain, sealed in sizes) and sum(sealed for _, sealed in sizes) == n_filtered
