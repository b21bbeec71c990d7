"""The array that says where a chunk with a given digest lies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple, TypeVar

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, StoreError
from mistique.kernels.distinct import distinct
from mistique.storage.digests import Digest
from mistique.storage.fragments import ALL_TIME, fragment_timestamps, list_commits, remove_fragments
from mistique.storage.making import make_array
from mistique.storage.options import damage_as_error, translated
from mistique.storage.soundness import refuse_unsound

T = TypeVar("T")
_TRIES = 5
_WORDS = ("digest_first", "digest_second", "segment_first", "segment_second", "unit", "place")


class Place(NamedTuple):
    """Where a chunk lies."""

    segment: str
    unit: int
    place: int


def create_digests(uri: str, ctx: tiledb.Ctx) -> None:
    """Make an empty index of digests."""
    zstd = tiledb.FilterList([tiledb.ZstdFilter(level=3), tiledb.ChecksumMD5Filter()])
    # Half a digest, less a bit so that the domain fits, is the coordinate; the other half decides.
    half = tiledb.Dim("digest_high", domain=(0, 2**63 - 1), tile=2**62, dtype=np.uint64, filters=zstd)
    attrs = [
        tiledb.Attr(name, dtype=dtype, filters=zstd)
        for name, dtype in [
            ("digest_first", np.uint64),
            ("digest_second", np.uint64),
            ("segment_first", np.uint64),
            ("segment_second", np.uint64),
            ("unit", np.uint32),
            ("place", np.uint32),
        ]
    ]
    schema = tiledb.ArraySchema(
        domain=tiledb.Domain(half), attrs=attrs, sparse=True, allows_duplicates=True, capacity=10_000
    )
    make_array(uri, schema, ctx)


class DigestIndex:
    """Where the chunks of a store lie, by digest of their values.

    It is written after the commit and is only advice: an entry that is missing costs a chunk stored twice, and one
    that is found is held against the segment's own table before it is used. Half of each digest is kept in memory (8
    bytes a chunk), so that what is new, nearly always, is known to be new without a look.
    """

    def __init__(self, uri: str, ctx: tiledb.Ctx) -> None:
        self._uri, self._ctx = uri, ctx
        self._fragments: frozenset[str] = frozenset()
        self._halves = np.empty(0, np.uint64)
        self._lock = Lock()

    def use(self, ctx: tiledb.Ctx) -> None:
        """Read and write in another context from now on."""
        self._ctx = ctx

    def refresh(self) -> None:
        """See what others have written since.

        Raises
        ------
        StoreError
            It cannot be read.
        """
        with self._lock:
            self._retry(self._refresh)

    def forget(self) -> None:
        """Take nothing for sound that was read before: the next `refresh` looks at all of it."""
        with self._lock:
            self._fragments, self._halves = frozenset(), np.empty(0, np.uint64)

    def _refresh(self) -> None:
        present = list_commits(self._uri, self._ctx)
        if not self._fragments:
            refuse_unsound(self._uri)
        if not present and tiledb.object_type(self._uri, ctx=self._ctx) != "array":
            raise ChunkCorruptError(where=self._uri, expected="an index of digests", got="no array")
        new = present - self._fragments
        stamps = [fragment_timestamps(name) for name in new]
        if not new:
            return
        if len(new) > 8 or not self._fragments or not all(stamps):
            self._halves = distinct(self._read_halves(None))
        else:
            fresh = distinct(np.concatenate([self._read_halves(stamp) for stamp in stamps]))
            # Put between those that are known: a store of many chunks is not sorted again for each capture.
            self._halves = np.insert(self._halves, np.searchsorted(self._halves, fresh), fresh)
        self._fragments = present

    @property
    def n_fragments(self) -> int:
        """Of the array."""
        return len(list_commits(self._uri, self._ctx))

    def may_hold(self, digests: np.ndarray) -> np.ndarray:
        """Which of some digests, shape (n, 2), are worth looking up: bool of shape (n,)."""
        halves = self._halves
        if not len(halves):
            return np.zeros(len(digests), bool)
        wanted = digests[:, 0] >> np.uint64(1)
        found: np.ndarray = halves[np.minimum(np.searchsorted(halves, wanted), len(halves) - 1)] == wanted
        return found

    def find(self, digests: np.ndarray) -> dict[Digest, Place]:
        """The places of those digests, shape (n, 2), that are known."""
        digests = digests[self.may_hold(digests)]
        if not len(digests):
            return {}
        wanted = {(first, second) for first, second in digests.tolist()}
        points = distinct(digests[:, 0] >> np.uint64(1))

        def read() -> Mapping[str, np.ndarray]:
            with (
                damage_as_error(self._uri, "digests"),
                translated(self._uri, "look up digests in"),
                tiledb.open(self._uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array,
            ):
                cells: Mapping[str, np.ndarray] = array.multi_index[points.tolist()]
            return cells

        found = self._retry(read)
        with damage_as_error(self._uri, "places of digests"):
            columns = [found[name].tolist() for name in _WORDS]
        return {
            (first, second): Place(f"{high:016x}{low:016x}", unit, place)
            for first, second, high, low, unit, place in zip(*columns, strict=True)
            if (first, second) in wanted
        }

    def add(self, places: Mapping[Digest, Place], *, timestamp: int) -> None:
        """Make chunks findable.

        Raises
        ------
        StoreError
            They could not be written.
        """
        if not self._fragments:  # it is empty, or damaged: then a fragment that is whole is still worth having
            refuse_unsound(self._uri, tiles=False)
            refuse_unsound(f"{self._uri}/__schema")
        digests = np.array(list(places), np.uint64).reshape(-1, 2)
        units = np.array([place.unit for place in places.values()], np.uint32)
        numbers = np.array([place.place for place in places.values()], np.uint32)
        self._write(digests, [place.segment for place in places.values()], units, numbers, timestamp=timestamp)

    def entries(self) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
        """All of it: digests of shape (n, 2), ids of segments, units, places."""

        def read() -> Mapping[str, np.ndarray]:
            refuse_unsound(self._uri)
            with (
                translated(self._uri, "read digests of"),
                tiledb.open(self._uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array,
            ):
                cells: Mapping[str, np.ndarray] = array[:]
            return cells

        found = self._retry(read)
        with damage_as_error(self._uri, "places of digests"):
            words = (found[name].tolist() for name in _WORDS[2:4])
            ids = [f"{high:016x}{low:016x}" for high, low in zip(*words, strict=True)]
            digests = np.stack([found["digest_first"], found["digest_second"]], axis=1)
            return digests, ids, found["unit"], found["place"]

    def rewrite(
        self,
        change: Callable[
            [np.ndarray, list[str], np.ndarray, np.ndarray], tuple[np.ndarray, list[str], np.ndarray, np.ndarray]
        ],
        *,
        timestamp: int,
    ) -> None:
        """Put other entries in the place of those that are there; what others add meanwhile stays.

        Parameters
        ----------
        change : callable
            From and to what `entries` gives.
        timestamp : int
        """
        before = list_commits(self._uri, self._ctx)
        self._write(*change(*self.entries()), timestamp=timestamp)
        # Two who do this at once leave both their fragments: entries come twice, and nobody minds.
        remove_fragments(self._uri, before, self._ctx)

    def _write(
        self, digests: np.ndarray, ids: list[str], units: np.ndarray, places: np.ndarray, *, timestamp: int
    ) -> None:
        if not ids:
            return
        segments = np.array([(int(name[:16], 16), int(name[16:], 16)) for name in ids], np.uint64)
        with (
            translated(self._uri, "write digests to"),
            tiledb.open(self._uri, "w", ctx=self._ctx, timestamp=timestamp) as array,
        ):
            array[digests[:, 0] >> np.uint64(1)] = {
                "digest_first": digests[:, 0],
                "digest_second": digests[:, 1],
                "segment_first": segments[:, 0],
                "segment_second": segments[:, 1],
                "unit": units.astype(np.uint32),
                "place": places.astype(np.uint32),
            }

    def _retry(self, read: Callable[[], T]) -> T:
        """A compaction in another process may take a fragment away between listing and reading: then read again."""
        for attempt in range(_TRIES):
            before = list_commits(self._uri, self._ctx)
            try:
                return read()
            except StoreError:
                if attempt == _TRIES - 1 or list_commits(self._uri, self._ctx) == before:
                    raise
                time.sleep(0.02 * 2**attempt)
        raise AssertionError("unreachable")

    def _read_halves(self, timestamps: tuple[int, int] | None) -> np.ndarray:
        stamp = timestamps or ALL_TIME
        with (
            damage_as_error(self._uri, "digests"),
            translated(self._uri, "look up digests in"),
            tiledb.open(self._uri, "r", ctx=self._ctx, timestamp=stamp) as array,
        ):
            halves: np.ndarray = array.query(attrs=[], dims=["digest_high"])[:]["digest_high"]
        return halves
