"""What lies in a store, used or not: names, ages, bytes; and how it is taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import tiledb

from mistique.errors import StoreError
from mistique.storage.fragments import fragment_timestamps
from mistique.storage.layout import Layout
from mistique.storage.options import translated

T = TypeVar("T")
_TRIES = 6
_SEGMENT_DIGITS, _ARTIFACT_DIGITS = 32, 64


class Remains:
    """The segments and artifacts that lie in a store. A segment's name has 32 hex digits, an artifact's 64.

    Parameters
    ----------
    layout : Layout
    ctx : tiledb.Ctx
    """

    def __init__(self, layout: Layout, ctx: tiledb.Ctx) -> None:
        self._layout, self._vfs = layout, tiledb.VFS(ctx=ctx)

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
