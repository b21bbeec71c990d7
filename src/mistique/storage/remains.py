"""What lies in a store, used or not: names, ages, bytes; and how it is taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import tiledb

from mistique.errors import StoreError
from mistique.storage.fragments import fragment_timestamps, list_commits, list_fragments, remove_fragments
from mistique.storage.layout import Layout
from mistique.storage.options import translated

T = TypeVar("T")
_TRIES = 6
_MIN_GRACE_SECONDS = 600
_SEGMENT_DIGITS, _ARTIFACT_DIGITS = 32, 64


class Remains:
    """The segments and artifacts that lie in a store. A segment's name has 32 hex digits, an artifact's 64.

    Parameters
    ----------
    layout : Layout
    ctx : tiledb.Ctx
    """

    def __init__(self, layout: Layout, ctx: tiledb.Ctx) -> None:
        self._layout, self._ctx, self._vfs = layout, ctx, tiledb.VFS(ctx=ctx)

    def names(self) -> frozenset[str]:
        """Whatever is there, whole or not."""
        found = {*self._below("segments", _SEGMENT_DIGITS), *self._below("artifacts", _ARTIFACT_DIGITS)}
        return frozenset(found)

    def nbytes(self) -> int:
        """Of the whole store."""
        return self._persistently(lambda: int(self._vfs.dir_size(self._layout.uri)), "measure", self._layout.uri)

    def nbytes_of(self, name: str) -> int:
        """Of one of them; 0: it is gone."""
        try:
            n_bytes: int = self._vfs.dir_size(self._uri(name))
        except tiledb.TileDBError:
            return 0
        return n_bytes

    def age_seconds(self, name: str) -> float:
        """Since the last write to it, by the clocks of its writer and of this host; 0.0: it is gone, or just begun."""
        stamps: list[int] = []
        for part in ("__commits", "__schema", "__meta"):
            try:
                found = [
                    fragment_timestamps(path.rpartition("/")[2]) for path in self._vfs.ls(f"{self._uri(name)}/{part}")
                ]
            except tiledb.TileDBError:
                continue
            stamps += [stamp[1] for stamp in found if stamp is not None]
        return max(time.time() - max(stamps) / 1000, 0.0) if stamps else 0.0

    def remove_uncommitted(self, *, grace_seconds: float) -> int:
        """Remove what writers that were killed have left in the arrays of records and digests; how many fragments.

        A fragment is written, then committed. One that has not changed for so long is committed by nobody any more; ten
        minutes at least, as an array of which a committed fragment is missing cannot be read. On a local disk only: how
        old files of an object store are, TileDB does not say.
        """
        layout, n_removed = self._layout, 0
        if "://" in layout.uri:
            return 0
        for uri in (layout.catalog, layout.usage, layout.digests):
            there = list_fragments(uri, self._ctx)
            committed = {name.partition(".")[0] for name in list_commits(uri, self._ctx)}
            changed = {name: _changed_unix_seconds(Path(uri, "__fragments", name)) for name in there - committed}
            latest = time.time() - max(grace_seconds, _MIN_GRACE_SECONDS)
            left = [name for name, at in changed.items() if at < latest]
            remove_fragments(uri, left, self._ctx)
            n_removed += len(left)
        return n_removed

    def remove(self, name: str) -> None:
        """Take it away; that somebody else does so at the same time does no harm."""
        uri = self._uri(name)

        def remove() -> None:
            if self._vfs.is_dir(uri):
                self._vfs.remove_dir(uri)

        self._persistently(remove, "remove", uri)

    def _persistently(self, do: Callable[[], T], action: str, uri: str) -> T:
        """TileDB fails when files vanish under its hands, and somebody else may be removing them: then do it again."""
        for attempt in range(_TRIES):
            try:
                return do()
            except tiledb.TileDBError as error:
                if attempt == _TRIES - 1:
                    raise StoreError(f"cannot {action} {uri}: {error}") from error
                time.sleep(0.02 * 2**attempt)
        raise AssertionError("unreachable")

    def _below(self, folder: str, n_digits: int) -> Iterator[str]:
        with translated(self._layout.uri, "list"):
            paths = self._vfs.ls(f"{self._layout.uri}/{folder}")
        for path in paths:
            name = path.rstrip("/").rpartition("/")[2]
            if len(name) == n_digits and not set(name) - set("0123456789abcdef"):
                yield name

    def _uri(self, name: str) -> str:
        is_segment = len(name) == _SEGMENT_DIGITS
        return self._layout.segment(name) if is_segment else self._layout.artifact(name)


def _changed_unix_seconds(folder: Path) -> float:
    """When a folder or a file in it was changed last; now, where it is gone."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return time.time()
