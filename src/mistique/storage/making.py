"""Arrays and groups that several processes may be making at one time."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

import tiledb

from mistique.errors import ChunkCorruptError
from mistique.storage.soundness import refuse_unsound

SECONDS_TO_MAKE = 3.0


def make_array(uri: str, schema: tiledb.ArraySchema, ctx: tiledb.Ctx) -> None:
    """Make an array that another process may be making: who comes second waits until it can be opened.

    One whose maker died before its schema was whole, so that nothing was written to it, is made anew.
    """

    def create(uri: str, ctx: tiledb.Ctx) -> None:
        tiledb.Array.create(uri, schema, ctx=ctx)

    if is_created(uri, create, ctx):
        return
    deadline = monotonic() + SECONDS_TO_MAKE
    while True:
        try:
            refuse_unsound(f"{uri}/__schema")  # half a schema is not given to TileDB
            tiledb.ArraySchema.load(uri, ctx=ctx)
            return
        except (tiledb.TileDBError, ChunkCorruptError):
            if monotonic() > deadline:
                break
        sleep(0.02)
    vfs = tiledb.VFS(ctx=ctx)
    if not any(vfs.is_dir(f"{uri}/{part}") and vfs.ls(f"{uri}/{part}") for part in ("__commits", "__meta")):
        vfs.remove_dir(uri)
        create(uri, ctx)


def is_created(uri: str, create: Callable[..., None], ctx: tiledb.Ctx) -> bool:
    """Whether it was this call that created it; if not, another process, which makes the same, came first."""
    try:
        create(uri, ctx=ctx)
    except tiledb.TileDBError:
        deadline = monotonic() + SECONDS_TO_MAKE
        while tiledb.object_type(uri, ctx=ctx) is None:
            # Its folder comes first, then what says of what kind it is.
            if not tiledb.VFS(ctx=ctx).is_dir(uri) or monotonic() > deadline:
                raise
            sleep(0.02)
        return False
    return True
