"""Faults on purpose: the n-th operation of TileDB in a piece of work, or look at its files, fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import tiledb

from mistique.storage import soundness

# Every way in which the storage room changes or reads something.
_FUNCTIONS = ("open", "group_create", "consolidate", "vacuum", "object_type")
_METHODS = {
    tiledb.DenseArray: ("__setitem__", "read_subarray", "__getitem__", "close"),
    tiledb.SparseArray: ("__setitem__", "__getitem__", "query", "close"),
    tiledb.Array: ("nonempty_domain",),
    tiledb.VFS: ("remove_file", "remove_dir", "ls", "dir_size", "is_dir", "is_file", "open"),
    tiledb.FileIO: ("read", "write"),
    tiledb.Group: ("__init__", "add", "close"),
    tiledb.Metadata: ("__setitem__", "__getitem__"),
    tiledb.FragmentInfoList: ("__init__",),
}


@dataclass
class Faults:
    """Counts operations and lets some fail.

    Parameters
    ----------
    at : int
        The first that fails, from 1 on; 0: none.
    is_after : bool
        It is done, and fails nevertheless.
    is_lasting : bool
        All that follow fail, too.
    """

    at: int = 0
    is_after: bool = False
    is_lasting: bool = False
    names: list[str] = field(default_factory=list)

    def wrap(self, name: str, right: Callable[..., Any]) -> Callable[..., Any]:
        """That operation, counted."""

        def operation(*arguments: Any, **more: Any) -> Any:
            self.names.append(name)
            fails = self.at and (len(self.names) == self.at or (self.is_lasting and len(self.names) > self.at))
            if fails and not self.is_after:
                raise tiledb.TileDBError(f"no {name}: a fault on purpose")
            result = right(*arguments, **more)
            if fails:
                raise tiledb.TileDBError(f"{name} done: a fault on purpose")
            return result

        return operation


@contextmanager
def failing(*, at: int = 0, is_after: bool = False, is_lasting: bool = False) -> Iterator[Faults]:
    """Let operations of TileDB fail within the block."""
    faults = Faults(at, is_after, is_lasting)
    with ExitStack() as stack:

        def put(owner: Any, name: str, operation: Any) -> None:
            stack.enter_context(patch.object(owner, name, operation))

        for name in _FUNCTIONS:
            put(tiledb, name, faults.wrap(name, getattr(tiledb, name)))
        for owner, names in _METHODS.items():
            for name in names:
                put(owner, name, faults.wrap(f"{owner.__name__}.{name}", getattr(owner, name)))
        create, delete = tiledb.Array.create, tiledb.Array.delete_array
        put(tiledb.Array, "create", staticmethod(faults.wrap("Array.create", create)))
        put(tiledb.Array, "delete_array", staticmethod(faults.wrap("Array.delete_array", delete)))
        load = tiledb.ArraySchema.load
        put(tiledb.ArraySchema, "load", staticmethod(faults.wrap("ArraySchema.load", load)))
        # Reads of records and digests by place: a property.
        by_index = tiledb.SparseArray.multi_index
        put(tiledb.SparseArray, "multi_index", property(faults.wrap("SparseArray.multi_index", by_index.fget)))
        yield faults


@contextmanager
def unreadable(*, at: int = 0) -> Iterator[Faults]:
    """Let the operating system refuse, within the block, what is looked at before TileDB reads it."""
    faults = Faults(at)

    def refusing(name: str, right: Callable[..., Any]) -> Callable[..., Any]:
        counted = faults.wrap(name, right)

        def operation(*arguments: Any, **more: Any) -> Any:
            try:
                return counted(*arguments, **more)
            except tiledb.TileDBError as error:
                raise OSError(str(error)) from error

        return operation

    with (
        patch.object(os, "scandir", refusing("scandir", os.scandir)),
        patch.object(soundness, "open", refusing("open", open), create=True),
    ):
        yield faults
