"""Faults on purpose: the n-th operation of TileDB in a piece of work, or look at its files, fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import tiledb

from mistique.storage import soundness

# Every way in which the storage room changes or reads something.
_FUNCTIONS = ("open", "group_create", "consolidate", "vacuum", "object_type")
_METHODS = {
    tiledb.DenseArray: ("__setitem__", "read_subarray", "__getitem__", "close"),
    tiledb.SparseArray: ("__setitem__", "__getitem__", "query", "close"),
    tiledb.VFS: ("remove_file", "remove_dir", "ls", "dir_size", "is_dir", "is_file", "open"),
    tiledb.Group: ("__init__", "add", "close"),
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
    with pytest.MonkeyPatch.context() as patch:
        for name in _FUNCTIONS:
            patch.setattr(tiledb, name, faults.wrap(name, getattr(tiledb, name)))
        for owner, names in _METHODS.items():
            for name in names:
                patch.setattr(owner, name, faults.wrap(f"{owner.__name__}.{name}", getattr(owner, name)))
        create, delete = tiledb.Array.create, tiledb.Array.delete_array
        patch.setattr(tiledb.Array, "create", staticmethod(faults.wrap("Array.create", create)))
        patch.setattr(tiledb.Array, "delete_array", staticmethod(faults.wrap("Array.delete_array", delete)))
        load = tiledb.ArraySchema.load
        patch.setattr(tiledb.ArraySchema, "load", staticmethod(faults.wrap("ArraySchema.load", load)))
        # Reads of records and digests by place: a property.
        by_index = tiledb.SparseArray.multi_index
        patch.setattr(
            tiledb.SparseArray, "multi_index", property(faults.wrap("SparseArray.multi_index", by_index.fget))
        )
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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", refusing("scandir", os.scandir))
        patch.setattr(soundness, "open", refusing("open", open), raising=False)
        yield faults
