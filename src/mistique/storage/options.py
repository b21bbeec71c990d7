"""Every default of the storage room, mapped to TileDB's configuration in one frozen class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import tiledb

from mistique.errors import ChunkCorruptError, MistiqueError, StoreError
from mistique.storage.contexts import UNTRIMMED, operation, shared
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
            **UNTRIMMED,
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
            return shared(whole)


@contextmanager
def translated(uri: str, action: str) -> Iterator[None]:
    """TileDB's and the file system's errors as a `StoreError` that says what was being done where."""
    try:
        with operation():
            yield
    except (tiledb.TileDBError, OSError) as error:
        raise StoreError(f"cannot {action} {uri}: {error}") from error


@contextmanager
def damage_as_error(where: str, expected: str) -> Iterator[None]:
    """Whatever damaged bytes make TileDB, or the parsing of what it gave, say: as a `ChunkCorruptError`."""
    try:
        with operation():
            yield
    except (tiledb.TileDBError, LookupError, ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, MistiqueError):
            raise
        raise ChunkCorruptError(where=where, expected=expected, got=str(error)) from error
