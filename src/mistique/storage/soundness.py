"""What files of a store on a local disk are looked at for before TileDB opens them: links, and sizes that do not fit.

TileDB 2.30 reads schemas, metadata and groups from *generic tiles*, and believes the sizes in them: reading a schema
that was cut short it wrote beyond its memory, and the process died of it later (docs/adr/0020). The heads of chunks in
files of cells, which no checksum covers, are believed as well, and so is the end of the metadata of a fragment: cut
short, at some lengths it took 4 GiB. What lies behind a link is not part of the store, so nothing of it is read.
"""

from __future__ import annotations

import hashlib
import os
import struct

from mistique.errors import ChunkCorruptError, StoreError
from mistique.storage.generic_tiles import CHUNK, HEAD, MAX_TILE_NBYTES, is_sealed_chunk, unpacked_tile, why_no_tile

_CHECKSUMS = struct.Struct("<IIQ16sQ16s")
_MAX_CHUNK_NBYTES = 2**20
_OF_GENERIC_TILES = ("__schema", "__meta", "__group")
_OF_FRAGMENT = "__fragment_metadata.tdb"
# When each cell of a merged fragment was written: TileDB's own column, with its own filters and no checksum. It is not
# asked, as arrays are read for all time.
_OF_TIMES = ("t.tdb", "dt.tdb")


def refuse_unsound(uri: str, *, below: bool = True, tiles: bool = True, contents: bool = True) -> None:
    """See that a part of a store on a local disk is no link, holds none, and that its small files are what they say.

    Parameters
    ----------
    uri : str
    below : bool, default True
        Look at all that lies below it, too.
    tiles : bool, default True
        Look into its small files, not for links only.
    contents : bool, default True
        Hold what has checksums against them. Without, sizes alone are looked at: for who takes what is left.

    Raises
    ------
    StoreError
        There is a link, or something that this user may not read.
    ChunkCorruptError
        A file is damaged.
    """
    path = uri.removeprefix("file://")
    if "://" in path:
        return
    if os.path.islink(path):
        raise _refused(path)
    waiting = [path] if below else []
    while waiting:
        folder = waiting.pop()
        has_tiles = tiles and os.path.basename(folder) in _OF_GENERIC_TILES
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise _refused(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif has_tiles:
                        _read(entry.path)
                    elif tiles and entry.name == _OF_FRAGMENT:
                        _read_tiles(entry.path)
                    elif tiles and entry.name.endswith(".tdb") and entry.name[0] in "adt":
                        _walk(entry.path, contents=contents)
        except (FileNotFoundError, NotADirectoryError):  # whoever opens it says so
            continue
        except OSError as error:
            raise StoreError(f"cannot look at a part of the store at {path}: {error}") from error


def _read(path: str) -> None:
    with open(path, "rb") as file:
        content = file.read(MAX_TILE_NBYTES)
    if not path.endswith(".vac") and (why := why_no_tile(content)):
        raise ChunkCorruptError(where=path, expected="a tile of TileDB", got=why)


def _read_tiles(path: str) -> None:
    """See that tiles follow one another up to a footer that fits them, and the files and schemas that there are."""
    fragment = os.path.dirname(path)
    # Before it is committed a writer may be in the middle of it, or was killed there: nobody reads it.
    if not _is_committed(fragment):
        return
    with open(path, "rb") as file:
        content = file.read(MAX_TILE_NBYTES)
    at, why, starts = 0, "", []
    try:
        expected = int(fragment.rpartition("_")[2])  # its name says so
        (n_footer,) = struct.unpack("<Q", content[-8:])
        end = len(content) - 8 - n_footer
        while at < end and not why:
            version, n_bytes, _, _, _, _, n_filter_bytes = HEAD.unpack_from(content, at)
            if version != expected:
                why = f"a tile of version {version} in a fragment of version {expected}"
            tile = content[at : at + HEAD.size + n_filter_bytes + n_bytes]
            starts.append(at)
            at, why = at + len(tile), why or why_no_tile(tile)
        if at != end:
            why = why or f"{at} bytes of tiles, where {end} are said"
        # The second tile: of each tile of the first column, where it begins, and before them how many they are.
        n_offsets = HEAD.unpack_from(content, starts[1])[2] // 8 - 1 if len(starts) > 1 else 0
        why = why or _why_no_footer(content[end:-8], starts, n_offsets, unpacked_tile(content), fragment)
    except (struct.error, ValueError, FileNotFoundError) as error:
        why = str(error)
    if why and _is_committed(fragment):  # else it is being removed, and its commit went first
        raise ChunkCorruptError(where=path, expected="the metadata of a fragment", got=why)


def _is_committed(fragment: str) -> bool:
    array, _, name = fragment.rpartition("/__fragments/")
    commits = f"{array}/__commits"
    if os.path.exists(f"{commits}/{name}.wrt"):
        return True
    return os.path.isdir(commits) and any(commit.endswith(".con") for commit in os.listdir(commits))


def _why_no_footer(footer: bytes, starts: list[int], n_offsets: int, tree: bytes | None, fragment: str) -> str:
    """What of a footer does not fit: the name of a schema, truth values, counts, bounds of cells, sizes of files, where
    tiles begin.
    """
    version, n_name = struct.unpack_from("<IQ", footer)
    if not fragment.endswith(f"_{version}"):
        return f"version {version}"
    name, rest = footer[12 : 12 + n_name], footer[12 + n_name :]
    schemas = os.listdir(os.path.join(os.path.dirname(os.path.dirname(fragment)), "__schema"))
    if name.decode(errors="replace") not in schemas:
        return f"a schema of {n_name} bytes that is not there"
    # Behind domain and counts: three sizes a column, eight tiles a column and three of all.
    n_columns, offsets = (len(starts) - 3) // 8, struct.pack(f"<{len(starts)}Q", *starts)
    if not rest.endswith(offsets) or len(starts) != 8 * n_columns + 3:
        return f"{len(starts)} tiles that it does not know"
    head = rest[: len(rest) - len(offsets) - 24 * n_columns]
    if len(head) < 20 or max(head[0], head[1], head[-2], head[-1]) > 1:
        return "truth values that are none"
    for has, name_of_file in zip(head[-2:], ("t.tdb", "dt.tdb"), strict=True):
        if has != os.path.exists(f"{fragment}/{name_of_file}"):
            return f"another truth of {name_of_file}"
    *bounds, n_tiles, n_last = struct.unpack_from(f"<{len(head) // 8}Q", head, 2)
    if len(head) % 16 != 4 or head[1] != (not bounds):
        return f"{len(bounds)} bounds"
    if n_tiles != (0 if head[0] else n_offsets):
        return f"{n_tiles} tiles of cells"
    if why := _why_no_bounds(bounds, n_last, n_offsets, tree, fragment, is_dense=bool(head[0])):
        return why
    said = struct.unpack_from(f"<{3 * n_columns}Q", rest, len(head))
    with os.scandir(fragment) as entries:
        found = [entry.stat().st_size for entry in entries if not entry.name.startswith("__")]
    return "" if sorted(filter(None, said)) == sorted(filter(None, found)) else "other sizes of its files"


def _why_no_bounds(
    bounds: list[int], n_last: int, n_offsets: int, tree: bytes | None, fragment: str, *, is_dense: bool
) -> str:
    """What of the first and last cell of each dimension does not fit, or of the number of cells in the last tile.

    TileDB passes over a fragment whose bounds do not touch what is asked for: records were gone without a word.
    """
    if is_dense:  # of one dimension, whose tiles have as many cells each
        n_tiles = bounds[1] // n_last - bounds[0] // n_last + 1 if len(bounds) == 2 and n_last else 0
        return "" if n_tiles == n_offsets else f"bounds {bounds} of {n_offsets} tiles of {n_last} cells"
    if tree is not None and bounds != _bounds_of(tree, len(bounds)):
        return f"bounds {bounds} around other tiles"
    n_cells = _last_tile_nbytes(f"{fragment}/d0.tdb") // 8
    return "" if n_cells == n_last else f"{n_last} cells in its last tile, where {n_cells} are"


def _bounds_of(tree: bytes, n_bounds: int) -> list[int]:
    """The first and last cell of each dimension around the tiles of an R-tree, on all of its levels."""
    _, n_levels = struct.unpack_from("<II", tree)
    at, found = 8, []
    for _ in range(n_levels):
        (n_boxes,) = struct.unpack_from("<Q", tree, at)
        words = struct.unpack_from(f"<{min(n_boxes, len(tree)) * n_bounds}Q", tree, at + 8)
        found += [words[i : i + n_bounds] for i in range(0, len(words), n_bounds)]
        at += 8 + 8 * len(words)
    return [(max if i % 2 else min)(box[i] for box in found) for i in range(n_bounds)]


def _last_tile_nbytes(path: str) -> int:
    """Bytes in the last tile of a file of cells, before any filter."""
    total, at, n_bytes = 0, 0, os.path.getsize(path)
    with open(path, "rb", buffering=4096) as file:
        while at < n_bytes:
            file.seek(at)
            (n_chunks,) = struct.unpack("<Q", file.read(8))
            at, total = at + 8, 0
            for _ in range(n_chunks):
                file.seek(at)
                n_original, n_filtered, n_metadata = CHUNK.unpack(file.read(CHUNK.size))
                at, total = at + CHUNK.size + n_metadata + n_filtered, total + n_original
    return total


def _walk(path: str, *, contents: bool) -> None:
    """See that the chunks of a file of cells lead to its end, and that each is what filters of its array make."""
    array = path.rpartition("/__fragments/")[0]
    is_sound = _OF_CELLS.get(os.path.basename(os.path.dirname(array)), _is_checksummed)
    if os.path.basename(path) in _OF_TIMES:
        is_sound = _is_compressed
    if is_sound is _is_checksummed and not contents:
        is_sound = _has_sizes_of_checksums
    if _is_encrypted(array):
        is_sound = _is_sealed  # its tags say what is wrong
    n_bytes, at = os.path.getsize(path), 0
    try:
        # Where contents are looked at, too, they are read on the way; where not, they are passed over.
        with open(path, "rb", buffering=2**20 if is_sound is _is_checksummed else 4096) as file:
            while at < n_bytes:
                (n_chunks,) = struct.unpack("<Q", file.read(8))
                at += 8
                while n_chunks and at < n_bytes:
                    n_original, n_filtered, n_metadata = CHUNK.unpack(file.read(CHUNK.size))
                    at += CHUNK.size + n_metadata + n_filtered
                    if max(n_original, n_metadata) > _MAX_CHUNK_NBYTES or at > n_bytes:
                        raise ValueError(f"a chunk of {n_filtered} bytes for {n_original}")
                    metadata = file.read(n_metadata)
                    content = file.read(n_filtered) if is_sound is _is_checksummed else b""
                    if not is_sound(metadata, content, n_original, n_filtered):
                        raise ValueError(f"a chunk of {n_filtered} bytes for {n_original} that no filter made")
                    n_chunks -= 1
                    file.seek(at)
                if n_chunks:
                    raise ValueError(f"{n_chunks} more chunks")
    except (struct.error, ValueError) as error:
        raise ChunkCorruptError(where=path, expected="cells in chunks", got=str(error)) from error


def _is_encrypted(array: str) -> bool:
    """Whether the schema of an array says so."""
    with os.scandir(f"{array}/__schema") as entries:
        for entry in entries:
            if entry.is_file():
                with open(entry.path, "rb") as file:
                    head = file.read(HEAD.size)
                if len(head) < HEAD.size:
                    raise ChunkCorruptError(where=entry.path, expected="a tile of TileDB", got=why_no_tile(head))
                return bool(HEAD.unpack(head)[5])
    return False


def _is_sealed(metadata: bytes, content: bytes, n_original: int, n_filtered: int) -> bool:
    return is_sealed_chunk(metadata, n_filtered)


def _is_plain(metadata: bytes, content: bytes, n_original: int, n_filtered: int) -> bool:
    return not metadata and n_original == n_filtered


def _is_compressed(metadata: bytes, content: bytes, n_original: int, n_filtered: int) -> bool:
    return metadata == struct.pack("<IIII", 0, 1, n_original, n_filtered)


def _is_checksummed(metadata: bytes, content: bytes, n_original: int, n_filtered: int) -> bool:
    """MD5 of what the compressor said, and of what it made."""
    said = metadata[56:]
    of_said, of_content = hashlib.md5(said, usedforsecurity=False), hashlib.md5(content, usedforsecurity=False)
    is_right = metadata[:56] == _CHECKSUMS.pack(1, 1, len(said), of_said.digest(), n_filtered, of_content.digest())
    # Behind double delta there is one part more, and no telling what it comes to.
    return is_right and (len(said) == 24 or _is_compressed(said, content, n_original, n_filtered))


def _has_sizes_of_checksums(metadata: bytes, content: bytes, n_original: int, n_filtered: int) -> bool:
    """As many checksums of as many bytes as there are: TileDB makes room for what is said here before it looks."""
    found = _CHECKSUMS.unpack(metadata[:56])
    return (*found[:3], found[4]) == (1, 1, len(metadata) - 56, n_filtered)


# By what holds an array: segments have no filters, artifacts zstd; all others have checksums.
_OF_CELLS = {"segments": _is_plain, "artifacts": _is_compressed}


def _refused(path: str) -> StoreError:
    return StoreError(f"{path} is a link: what lies outside of a store is not read. Copy what it leads to")
