"""Fragments of an array: how they are named, listed, looked at one by one, and taken away."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import tiledb

from mistique.errors import StoreError
from mistique.storage.options import damage_as_error, translated
from mistique.storage.soundness import refuse_unsound

_TRIES = 5
# All that is there: TileDB shows a reader what was written before now by the clock of the reader, and clocks differ.
ALL_TIME = (0, 2**63 - 1)


def random_timestamp() -> int:
    """A number for a fragment's timestamp: in the past of every reader, and drawn after any fork."""
    return 1 + secrets.randbelow(1_500_000_000_000)


def fragment_timestamps(name: str) -> tuple[int, int] | None:
    """The timestamps in a fragment's name; None: it has none."""
    parts = name.split("_")
    try:
        return int(parts[2]), int(parts[3])
    except (IndexError, ValueError):
        return None


def list_commits(uri: str, ctx: tiledb.Ctx, vfs: tiledb.VFS | None = None) -> frozenset[str]:
    """Names of an array's commits; TileDB's listing asks for sizes, and fails when a compaction removes one."""
    with translated(uri, "list"):
        for attempt in range(_TRIES):
            try:
                return frozenset(map(os.path.basename, (vfs or tiledb.VFS(ctx=ctx)).ls(f"{uri}/__commits")))
            except tiledb.TileDBError:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(0.02 * 2**attempt)
    raise AssertionError("unreachable")


def list_fragments(uri: str, ctx: tiledb.Ctx) -> frozenset[str]:
    """Names of the fragments that lie in an array, committed or not."""
    vfs = tiledb.VFS(ctx=ctx)
    with translated(uri, "list"):
        if not vfs.is_dir(f"{uri}/__fragments"):
            return frozenset()
        return frozenset(path.rstrip("/").rpartition("/")[2] for path in vfs.ls(f"{uri}/__fragments"))


def remove_fragments(uri: str, names: Iterable[str], ctx: tiledb.Ctx) -> None:
    """Take fragments away, by the names of their commits or their own; one that is gone already does no harm.

    The commit goes first: a fragment without one is not looked at.
    """
    vfs = tiledb.VFS(ctx=ctx)
    for name in names:
        stem = name.partition(".")[0]
        # What a consolidation took in comes to light again where only its list was left.
        for path in (f"{uri}/__commits/{stem}.wrt", f"{uri}/__commits/{stem}.vac", f"{uri}/__commits/{name}"):
            with suppress(tiledb.TileDBError):
                if vfs.is_file(path):
                    vfs.remove_file(path)
        with suppress(tiledb.TileDBError):
            vfs.remove_dir(f"{uri}/__fragments/{stem}")


def fresh_schema(create: Callable[[str, tiledb.Ctx], None], ctx: tiledb.Ctx) -> bytes:
    """The file of the schema that arrays of a kind have, to stand in for one that is damaged."""
    with TemporaryDirectory(prefix="mistique-") as folder, translated(folder, "make an array in"):
        create(f"{folder}/array", ctx)
        (schema,) = (path for path in (Path(folder) / "array" / "__schema").iterdir() if path.is_file())
        return schema.read_bytes()


def refuse_passed_over(uri: str, ctx: tiledb.Ctx) -> None:
    """Refuse an encrypted array of which TileDB would pass over cells: a fragment says narrower bounds than its tiles.

    Of others `refuse_unsound` sees that by itself; here the bounds of tiles need the key.

    Raises
    ------
    ChunkCorruptError
    """
    if ctx.config()["sm.encryption_type"] == "NO_ENCRYPTION":
        return
    with damage_as_error(uri, "fragments that can be read"):
        for fragment in tiledb.FragmentInfoList(uri, include_mbrs=True, ctx=ctx):
            dimensions = zip(fragment.nonempty_domain, zip(*fragment.mbrs, strict=True), strict=True)
            for bounds, tiles in dimensions:
                around = min(low for low, _ in tiles), max(high for _, high in tiles)
                if tuple(bounds) != around:
                    raise ValueError(f"a fragment with bounds {bounds} around tiles of {around}")


def has_schema(uri: str, ctx: tiledb.Ctx) -> bool:
    """Whether the schema of an array can be read."""
    try:
        refuse_unsound(f"{uri}/__schema")
        tiledb.ArraySchema.load(uri, ctx=ctx)
    except (tiledb.TileDBError, StoreError):
        return False
    return True


def replace_schema(uri: str, content: bytes, ctx: tiledb.Ctx) -> None:
    """Put a file of a schema in the place of those that an array has; fragments know them by their names."""
    vfs = tiledb.VFS(ctx=ctx)
    with translated(uri, "mend the schema of"):
        for path in vfs.ls(f"{uri}/__schema"):
            if not vfs.is_dir(path):
                with vfs.open(path, "wb") as file:
                    file.write(content)


@contextmanager
def alone(uri: str, commit: str, ctx: tiledb.Ctx, *, schema: bytes | None = None) -> Iterator[str]:
    """The URI of an array that has one fragment only: a copy.

    TileDB opens arrays by ranges of timestamps, and one fragment that cannot be read makes all of a range fail.

    Parameters
    ----------
    uri, commit : str
    ctx : tiledb.Ctx
    schema : bytes, optional
        The file of its schema, where that of the array is damaged.
    """
    vfs = tiledb.VFS(ctx=ctx)
    stem = commit.partition(".")[0]
    with TemporaryDirectory(prefix="mistique-") as folder:
        target = Path(folder) / "array"
        with translated(uri, f"copy fragment {stem} of"):
            _copy(vfs, f"{uri}/__schema", target / "__schema")
            _copy(vfs, f"{uri}/__fragments/{stem}", target / "__fragments" / stem)
            (target / "__commits").mkdir()
            (target / "__commits" / f"{stem}.wrt").touch()
            if schema is not None:
                for path in (target / "__schema").iterdir():
                    if path.is_file():
                        path.write_bytes(schema)
        yield str(target)


def _copy(vfs: tiledb.VFS, source: str, target: Path) -> None:
    target.mkdir(parents=True)
    for path in vfs.ls(source):
        name = path.rstrip("/").rpartition("/")[2]
        if vfs.is_dir(path):
            _copy(vfs, path, target / name)
        else:
            with vfs.open(path, "rb") as file:
                (target / name).write_bytes(file.read())
