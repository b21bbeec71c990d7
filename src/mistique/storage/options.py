"""Every default of the storage room, mapped to TileDB's configuration in one frozen class."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import tiledb

from mistique.errors import ChunkCorruptError, MistiqueError, StoreError
from mistique.storage.encryption import KeySource, encryption_config


@dataclass(frozen=True)
class StorageOptions:
    """How a store is read and written.

    Parameters
    ----------
    config : mapping of str to str
        TileDB parameters, passed through: ``{"vfs.s3.endpoint_override": "127.0.0.1:5000"}``. Credentials come from
        the usual environment and files, or from here; they are never written into a store, and not printed.
    key : str, path or callable, optional
        Where the key of an encrypted store comes from.
    compact_fragments : int, default 50
        The catalog is compacted when it has more fragments than this: 50 fragments of records are read in 37 ms, one
        in 4 (measured).
    """

    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: KeySource | None = field(default=None, repr=False)
    compact_fragments: int = 50

    def context(self, uri: str = "") -> tiledb.Ctx:
        """A TileDB context for the store at that URI.

        Raises
        ------
        StoreKeyError
        """
        settings = {
            # TileDB batches scattered reads and reads all between them; on a local disk that costs 5 times the time.
            "vfs.min_batch_size": "0",
            "vfs.min_batch_gap": "0",
            # Compacting 30 fragments took 3.5 s with the default budget of most of the memory, 0.03 s with this one.
            "sm.mem.total_budget": str(512 * 1024 * 1024),
            # Merging tiles beforehand in tasks of their own kills the process: when such a read fails, because a
            # compaction has just taken its files away, TileDB leaves tasks behind that point to what it has freed, and
            # the next thread that waits for anything runs them.
            "sm.query.sparse_global_order.preprocess_tile_merge": "0",
        }
        encryption = encryption_config(self.key, uri=uri)
        whole = {**settings, **self.config, **encryption}
        with translated("TileDB", "start"):  # it may find no threads left, or a parameter that it does not know
            return _shared(whole)


# Contexts live as long as the process, and are not taken apart at its end either. What TileDB-Py leaves behind of a
# read that failed, a query in the frames of the error, points to its context without holding it; whoever frees the
# context first, the garbage collector or the interpreter that ends, kills the process.
_contexts: dict[tuple[object, ...], tiledb.Ctx] = {}
_lock = Lock()


def _shared(settings: Mapping[str, str]) -> tiledb.Ctx:
    """The context with these settings, and the credentials that the environment has now."""
    clouds = ("AWS_", "GOOGLE_", "AZURE_")
    around = sorted((name, value) for name, value in os.environ.items() if name.startswith(clouds))
    wanted = (*sorted(settings.items()), None, *around)
    with _lock:
        if wanted not in _contexts:
            _contexts[wanted] = tiledb.Ctx(dict(settings))
            _never_free(_contexts[wanted])
        return _contexts[wanted]


def _never_free(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


# TileDB keeps the timers of each query as long as its context lives, 13 kB a read, and nothing turns them off; emptied,
# 3 kB of each are left. The longer it has gone on, the longer emptying takes: so it is done ever less often.
_EMPTY_EVERY = 512
_n_operations, _empty_at = 0, float(_EMPTY_EVERY)


def _empty_timers() -> None:
    global _n_operations, _empty_at
    _n_operations += 1
    if _n_operations >= _empty_at:
        _empty_at = _n_operations + max(_EMPTY_EVERY, _n_operations // 8)
        tiledb.stats_reset()


def _after_fork_in_child() -> None:
    # The threads of these contexts are not there: they are neither used nor ended, and may hold the locks of timers.
    global _lock, _empty_at
    _lock, _empty_at = Lock(), float("inf")
    _contexts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def translated(uri: str, action: str) -> Iterator[None]:
    """TileDB's and the file system's errors as a `StoreError` that says what was being done where."""
    try:
        yield
    except (tiledb.TileDBError, OSError) as error:
        raise StoreError(f"cannot {action} {uri}: {error}") from error
    finally:
        _empty_timers()


@contextmanager
def damage_as_error(where: str, expected: str) -> Iterator[None]:
    """Whatever damaged bytes make TileDB, or the parsing of what it gave, say: as a `ChunkCorruptError`."""
    try:
        yield
    except (tiledb.TileDBError, LookupError, ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, MistiqueError):
            raise
        raise ChunkCorruptError(where=where, expected=expected, got=str(error)) from error
    finally:
        _empty_timers()
