"""The composition root: ``mistique.open(uri)`` gives a `Store`, in which every room is put together."""

from __future__ import annotations

import atexit
import importlib
import os
import secrets
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from mistique.codecs import Codec, Policy
from mistique.dedup.compaction import Compaction, Compactor
from mistique.dedup.exact import ExactDedup
from mistique.dedup.placement import Placement
from mistique.errors import CaptureError, StoreClosedError, StoreError, StoreReadOnlyError
from mistique.ingest.buffer import Buffered, SegmentBuffer
from mistique.ingest.capture import Capture
from mistique.planner.calibration import Calibration
from mistique.planner.recomputer import Recomputer, Trust
from mistique.schema import Intermediate, Key, Version
from mistique.storage.artifacts import Artifact, Artifacts
from mistique.storage.catalog import Catalog
from mistique.storage.checking import look_through, look_twice
from mistique.storage.damage import Health
from mistique.storage.digest_index import DigestIndex, Place
from mistique.storage.digests import content_key
from mistique.storage.encryption import KeySource
from mistique.storage.facts import Capture as Committed
from mistique.storage.fragments import random_timestamp
from mistique.storage.layout import open_layout
from mistique.storage.options import StorageOptions
from mistique.storage.record_cells import Order
from mistique.storage.records import RecordLog
from mistique.storage.remains import Remains
from mistique.storage.repair import repair as repair_store
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.segments import SegmentReader
from mistique.storage.usage import UsageLog

_RECOMPUTERS = {"sklearn": "mistique.sklearn.recomputer", "keras": "mistique.keras.recomputer"}


class Store:
    """A store of intermediates at one URI. Made by `mistique.open`.

    Threads may share one. A pickled store is its URI and opens again where it is unpickled. A process that was forked
    off cannot use the store of its parent and is told so.

    Parameters
    ----------
    uri : str
    mode : {"a", "r"}
    trust : bool or sequence of str
    options : StorageOptions
    max_buffer_nbytes : int
    placement : {"auto", "on", "off"}
    """

    _all: ClassVar[weakref.WeakSet[Store]] = weakref.WeakSet()

    def __init__(
        self,
        uri: str,
        *,
        mode: str,
        trust: Trust,
        options: StorageOptions,
        max_buffer_nbytes: int,
        placement: str = "auto",
    ) -> None:
        if mode not in ("a", "r"):
            raise ValueError(f'mode: expected "a" to read and write or "r" to look only, got {mode!r}')
        self.uri, self.mode, self.trust = uri, mode, trust
        self._options, self._max_buffer_nbytes = options, max_buffer_nbytes
        self._placement = Placement(placement)
        self._closed = ""
        self._ctx = options.context(uri)
        self._layout = open_layout(uri, ctx=self._ctx, create=mode == "a")
        self._open_rooms()
        Store._all.add(self)

    def _open_rooms(self) -> None:
        self.segments = SegmentReader(self._layout, self._ctx)
        self._catalog = Catalog(RecordLog(self._layout.catalog, self._ctx, self._options))
        self._usage = UsageLog(RecordLog(self._layout.usage, self._ctx, self._options), is_writable=self.mode == "a")
        self._digests = DigestIndex(self._layout.digests, self._ctx)
        # Not a method of this store: a store that nobody holds should go at once, not when the garbage is collected.
        self._dedup = ExactDedup(self._digests, self.segments, partial(_follow, self._catalog))
        self._n_moves = 0
        self._artifacts = Artifacts(self._layout, self._ctx)
        self._calibration: Calibration | None = None
        self._models: dict[str, Any] = {}
        self.labels: dict[Order, Any] = {}

    @property
    def catalog(self) -> Catalog:
        """What was captured."""
        self._check()
        return self._catalog

    @property
    def calibration(self) -> Calibration:
        """What reads and recomputations were measured to cost."""
        self._check()
        if self._calibration is None:
            self._calibration = Calibration(self._usage.observations(), self._usage.observe)
        return self._calibration

    def capture(
        self,
        *,
        model: str,
        dataset: str,
        framework: str,
        run_id: str | None = None,
        epoch: int | None = None,
        batch_rows: int = 0,
        codec: str | Codec | Policy = "auto",
        on_error: str = "raise",
        environment: Mapping[str, str] | None = None,
    ) -> Capture:
        """A capture of one model version over one dataset, to be filled by a framework's hook.

        Parameters
        ----------
        model, dataset : str
            Their names in keys.
        framework : str
            The room that can run the model again.
        run_id : str, optional
            Of the run to add to. None: a new run, so a new version.
        epoch : int, optional
        batch_rows : int, default 0
            Rows of one forward pass; 0: all at once.
        codec : str, Codec or Policy, default "auto"
        on_error : {"raise", "warn"}, default "raise"
        environment : mapping, optional
            Versions of the libraries that ran the model.
        """
        self._check_writable(f"capture {model}")
        for what, name in (("model", model), ("dataset", dataset)):
            if not isinstance(name, str) or not name or (what == "dataset" and "/" in name):
                raise CaptureError(f"{what}: expected a name such as 'homes/ridge' or 'train', got {name!r}")
        versions = {"python": ".".join(map(str, sys.version_info[:3])), **(environment or {})}
        version = Version(
            model, run_id or secrets.token_hex(16), epoch, framework, batch_rows=batch_rows, environment=versions
        )
        return Capture(_StoreSink(self), version, dataset, codec=codec, on_error=on_error)

    def drop(self, key: str | Key) -> None:
        """Forget where an intermediate is stored; asked again, it is recomputed.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._check_writable(f"drop {key}")
        capture, intermediate = self._catalog.find(key)
        self._catalog.drop(capture, intermediate.name)

    def compact(self, *, grace_seconds: float = 3600) -> Compaction:
        """Merge small segments, keep once what was stored twice, and remove what no record refers to.

        Others can read and write meanwhile, and compact. What a compaction takes out of use stays for the grace period,
        for readers and captures that have begun before; a later compaction removes it.

        Parameters
        ----------
        grace_seconds : float, default 3600
            Longer than any capture takes. A capture that began before what it refers to was removed is not stored, and
            says so. Times of several hosts are compared: it should be longer than their clocks differ, too.

        Raises
        ------
        StoreReadOnlyError

        Examples
        --------
        >>> import mistique, tempfile
        >>> store = mistique.open(tempfile.mkdtemp() + "/homes.mistique")
        >>> store.compact().n_segments_removed
        0
        """
        self._check_writable("compact")
        self._usage.compact()
        done = self._compactor().run(self.uri, grace_seconds=grace_seconds)
        self._notice_moves()
        return done

    def gc(self, *, grace_seconds: float = 3600) -> Compaction:
        """Remove what no record refers to, and write nothing again.

        What captures left that were killed, and what was dropped, goes when it is older than the grace period; what
        another process is writing is younger. A first call finds what is out of use, one after the grace period
        removes it.

        Parameters
        ----------
        grace_seconds : float, default 3600
            As in `compact`.

        Raises
        ------
        StoreReadOnlyError

        Examples
        --------
        >>> import mistique, tempfile
        >>> mistique.open(tempfile.mkdtemp() + "/homes.mistique").gc().n_segments_removed
        0
        """
        self._check_writable("gc")
        done = self._compactor().collect(self.uri, grace_seconds=grace_seconds)
        self._notice_moves()
        return done

    def check(self, *, repair: bool = False) -> Health:
        """Read all of the store and say what is damaged, what that costs, and what is whole.

        Parameters
        ----------
        repair : bool, default False
            Drop what is damaged, and nothing else, so that the rest opens and reads. It is looked at twice: what can be
            read the second time is not damaged.

        Raises
        ------
        StoreReadOnlyError
            It was opened to look only, and is to be repaired.
        StoreError
            It cannot be reached.

        Examples
        --------
        >>> import mistique, tempfile
        >>> mistique.open(tempfile.mkdtemp() + "/homes.mistique").check().is_whole
        True
        """
        self._check()
        if repair:
            self._check_writable("repair")
        self._usage.flush()
        found = look_twice(self._layout, self._ctx) if repair else look_through(self._layout, self._ctx)
        if found.health.is_whole or not repair:
            return found.health
        repair_store(found, self._layout, self._ctx, self._options)
        self.segments.close()
        self._open_rooms()
        return replace(found.health, is_repaired=True)

    def model(self, version: Version) -> tuple[Recomputer, Any]:
        """The recomputer of a version's framework, and its model, loaded once.

        Raises
        ------
        UntrustedArtifactError
        """
        self._check()
        recomputer: Recomputer = importlib.import_module(_RECOMPUTERS[version.framework]).recomputer
        digest = version.artifact or ""
        if digest not in self._models:
            artifact = self._artifacts.get(digest)
            self._models[digest] = recomputer.load(artifact, model=version.model, trust=self.trust)
        return recomputer, self._models[digest]

    def is_loaded(self, version: Version) -> bool:
        """Whether `model` need not load it."""
        return version.artifact in self._models

    def close(self) -> None:
        """Write what was measured and let go of the files. Closing twice does no harm."""
        if not self._closed:
            self._usage.flush()
            self.segments.close()
            self._closed = "it was closed"

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        arguments: dict[str, Any] = {
            "mode": self.mode,
            "trust": self.trust,
            "max_buffer_nbytes": self._max_buffer_nbytes,
            "placement": self._placement.mode,
            "key": self._options.key,
        }
        # Not the options: they may hold credentials. A worker takes them from its environment, as TileDB does. Of a key
        # it is said where it comes from.
        return partial(open, **arguments), (self.uri,)

    def __repr__(self) -> str:
        from mistique.queries.listing import listing

        return f"closed store {self.uri}" if self._closed else repr(listing(self))

    def _repr_html_(self) -> str:
        from mistique.queries.listing import listing

        return listing(self)._repr_html_()

    def _compactor(self) -> Compactor:
        return Compactor(
            self._catalog,
            self.segments,
            self._digests,
            Remains(self._layout, self._ctx),
            make_writer=self._make_writer,
            placement=Placement(),
        )

    def _make_writer(self) -> SegmentWriter:
        self._check()
        return SegmentWriter(self._layout, self._ctx, self._options)

    def _notice_moves(self) -> None:
        """Forget where chunks lay if a compaction, here or elsewhere, has moved some."""
        self._catalog.refresh()
        if self._catalog.moves.n_records != self._n_moves:
            self._n_moves = self._catalog.moves.n_records
            self._dedup.forget()

    def _check(self) -> None:
        if self._closed:
            raise StoreClosedError(uri=self.uri, reason=self._closed)

    def _check_writable(self, action: str) -> None:
        self._check()
        if self.mode == "r":
            raise StoreReadOnlyError(uri=self.uri, action=action)


class _StoreSink:
    """A store as its captures see it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self) -> None:
        self._store._check()

    def held(self, lineage: str, is_wanted: Callable[[Intermediate], bool]) -> Intermediate | None:
        return self._store.catalog.held(lineage, is_wanted)

    def derived(self, lineage: str) -> Intermediate | None:
        return self._store.catalog.derived(lineage)

    def buffer(self) -> SegmentBuffer:
        store = self._store
        store._notice_moves()
        return SegmentBuffer(
            store._make_writer, store._dedup, store._placement, key=content_key(), max_nbytes=store._max_buffer_nbytes
        )

    def keep(self, artifact: Artifact) -> str:
        self._store._check()
        self._store._catalog.refresh()
        return self._store._artifacts.put(artifact.outside(self._store._catalog.moves.going))

    def commit(
        self, version: Version, dataset: str, intermediates: Sequence[Intermediate], buffered: Buffered
    ) -> Committed:
        store = self._store
        store._check()
        committed = store._catalog.commit(version, dataset, intermediates)
        # After the commit: an index that pointed to what was never committed would outlive its segment. It is advice.
        with suppress(StoreError):
            store._digests.add(buffered.places, timestamp=random_timestamp())
        store._dedup.remember(buffered.columns)
        return committed


def open(
    uri: str | os.PathLike[str],
    *,
    mode: str = "a",
    trust: Trust = False,
    config: Mapping[str, str] | None = None,
    max_buffer_nbytes: int = 256 * 1024 * 1024,
    placement: str = "auto",
    key: KeySource | None = None,
) -> Store:
    """A store at a URI, made when there is none.

    Parameters
    ----------
    uri : str or path
        A local path, ``s3://``, ``gs://`` or ``azure://``. A store is one TileDB group: it can be copied whole.
    mode : {"a", "r"}, default "a"
        Read and write, or look only.
    trust : bool or sequence of str, default False
        Whether models that this user did not sign may be loaded to recompute, or the types that may. What is stored can
        be read without it.
    config : mapping of str to str, optional
        TileDB parameters, for example ``{"vfs.s3.endpoint_override": "127.0.0.1:5000"}``.
    max_buffer_nbytes : int, default 256 MiB
        Of what a capture holds in memory: values that wait to be encoded and payloads that wait to be written. The
        model waits when it is full.
    placement : {"auto", "on", "off"}, default "auto"
        Whether new columns of tables that resemble one another are encoded together. "auto" does so where they would
        otherwise lie apart; answers are the same.
    key : str, path or callable, optional
        Where the key comes from of a store that is encrypted at rest (AES-256-GCM): ``"env:NAME"``, ``"file:PATH"``, a
        path, or a function that returns it; 16 random bytes at least. It is never stored, pickled or printed. A new
        store is encrypted if a key is given.

    Returns
    -------
    Store

    Raises
    ------
    StoreNotFoundError
        Something else is there, or nothing and ``mode="r"``.
    FormatVersionError
        A newer mistique wrote it.
    StoreKeyError
        It is encrypted with another key, or with none.

    Examples
    --------
    >>> import mistique, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> store = mistique.open(folder + "/homes.mistique")
    >>> mistique.open(folder + "/nothing", mode="r")
    Traceback (most recent call last):
    ...
    mistique.errors.StoreNotFoundError: expected a mistique store at ...
    """
    text = os.fspath(uri)
    if "://" not in text:
        text = os.path.abspath(os.path.expanduser(text))
    return Store(
        text,
        mode=mode,
        trust=trust,
        options=StorageOptions(config or {}, key=key),
        max_buffer_nbytes=max_buffer_nbytes,
        placement=placement,
    )


def _follow(catalog: Catalog, place: Place) -> Place | None:
    """Where a chunk lies that the index names; None: nobody should begin to use it."""
    moves = catalog.moves
    if not moves.n_records:
        return place
    names, points = moves.follow(place.segment, np.array([place.unit]), np.array([place.place]))
    number, unit, at = points[0].tolist()
    return None if moves.is_gone(names[number]) else Place(names[number], unit, at)


def _after_fork_in_child() -> None:
    # TileDB gives parent and child the same fragment names and hangs or loses writes: the child must open for itself.
    for store in Store._all:
        store._closed = "it was opened before this process was forked off"
        store.segments.abandon()


def _at_exit() -> None:
    # Few people close a store; what their reads took is worth a few milliseconds.
    for store in Store._all:
        if not store._closed:
            store._usage.flush()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
