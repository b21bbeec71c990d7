"""The composition root: ``mistique.open(uri)`` gives a `Store`, in which every room is put together."""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import warnings
import weakref
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

import numpy as np

from mistique.codecs import Codec, Policy
from mistique.dedup.compaction import Compaction, Compactor
from mistique.dedup.exact import ExactDedup
from mistique.dedup.placement import Placement
from mistique.errors import BudgetError, CaptureError, CaptureWarning, StoreClosedError, StoreReadOnlyError
from mistique.ingest.capture import Capture
from mistique.planner.budget import evict
from mistique.planner.calibration import Calibration
from mistique.planner.index_build import IndexBuilder
from mistique.planner.index_byproduct import DEFAULT_INDEX_SHARE, ColumnReads
from mistique.planner.models import Models
from mistique.planner.question import StageGraph
from mistique.planner.recomputer import Trust
from mistique.planner.worth import DEFAULT_GAMMA_MIN, Worth
from mistique.schema import Index, Intermediate, Key, Version
from mistique.sinks import LaterSink, StoreSink
from mistique.storage.artifacts import Artifacts
from mistique.storage.captures import Capture as Committed
from mistique.storage.catalog import Catalog
from mistique.storage.checking import look_through, look_twice
from mistique.storage.damage import Health
from mistique.storage.digest_index import DigestIndex, Place
from mistique.storage.encryption import KeySource
from mistique.storage.facts import CaptureId
from mistique.storage.layout import open_layout
from mistique.storage.options import StorageOptions
from mistique.storage.record_cells import Order
from mistique.storage.records import RecordLog
from mistique.storage.remains import Remains
from mistique.storage.repair import repair as repair_store
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.segments import SegmentReader
from mistique.storage.usage import Observation, UsageLog
from mistique.versions import Versions


class Store(Versions):
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
    gamma_min : float
    max_nbytes : int, optional
    index_share : float
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
        gamma_min: float = DEFAULT_GAMMA_MIN,
        max_nbytes: int | None = None,
        index_share: float = DEFAULT_INDEX_SHARE,
    ) -> None:
        if mode not in ("a", "r"):
            raise ValueError(f'mode: expected "a" to read and write or "r" to look only, got {mode!r}')
        if not gamma_min >= 0:
            raise ValueError(f"gamma_min: expected seconds a GB, at least 0, or infinity, got {gamma_min!r}")
        if max_nbytes is not None and not max_nbytes > 0:
            raise ValueError(f"max_nbytes: expected a number of bytes above 0, or None, got {max_nbytes!r}")
        if not index_share >= 0:
            raise ValueError(f"index_share: expected a share of the float32 bytes, at least 0, got {index_share!r}")
        self.uri, self.mode, self.trust = uri, mode, trust
        self.index_share = index_share
        self.gamma_min, self.max_nbytes = gamma_min, max_nbytes
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
        self._known: tuple[Calibration, Worth] | None = None
        self._models = Models(self._artifacts, trust=self.trust)
        self._warm: set[str] = set()
        self._graphs: dict[CaptureId, StageGraph] = {}
        self.labels: dict[Order, Any] = {}
        self.column_reads = ColumnReads()
        self.row_graphs: dict[tuple[Any, ...], Any] = {}

    @property
    def catalog(self) -> Catalog:
        """What was captured."""
        self._check()
        return self._catalog

    @property
    def calibration(self) -> Calibration:
        """What reads and recomputations were measured to cost."""
        return self._learned()[0]

    @property
    def worth(self) -> Worth:
        """What was asked for, and what storing it saved or would have."""
        return self._learned()[1]

    @property
    def runnable(self) -> Models:
        """The models that were loaded to be run again."""
        self._check()
        return self._models

    @property
    def learns(self) -> bool:
        """What is asked for often is stored when it is recomputed."""
        return self.mode == "a" and self.gamma_min < float("inf")

    @property
    def makes_indexes(self) -> bool:
        """A layer of which columns are asked for often gets an index."""
        return self.mode == "a" and self.index_share > 0

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
        params: Mapping[str, str] | None = None,
        source: Mapping[str, str] | None = None,
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
        params, source : mapping, optional
            As in `mistique.schema.Version`.
        """
        self._check_writable(f"capture {model}")
        for what, name in (("model", model), ("dataset", dataset)):
            if not isinstance(name, str) or not name or (what == "dataset" and "/" in name):
                raise CaptureError(f"{what}: expected a name such as 'homes/ridge' or 'train', got {name!r}")
        versions = {"python": ".".join(map(str, sys.version_info[:3])), **(environment or {})}
        version = Version(
            model,
            run_id or secrets.token_hex(16),
            epoch,
            framework,
            batch_rows=batch_rows,
            environment=versions,
            params=params or {},
            source=source or {},
            began=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return Capture(StoreSink(self), version, dataset, codec=codec, on_error=on_error)

    def drop(self, key: str | Key) -> None:
        """Forget where an intermediate is stored; asked again, it is recomputed.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._check_writable(f"drop {key}")
        capture, intermediate = self._catalog.find(key)
        self._catalog.drop(capture, intermediate.name)

    def pin(self, key: str | Key) -> None:
        """Keep an intermediate stored, whatever the budget: it is stored the next time it is recomputed, if it is not.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._pin(key, is_pinned=True)

    def unpin(self, key: str | Key) -> None:
        """Let an intermediate go again when there is no room for it.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._pin(key, is_pinned=False)

    def evict(self, *, max_nbytes: int) -> list[str]:
        """Stop storing what saves least a byte, until what is in use takes no more than so many bytes.

        What was evicted is recomputed when it is asked for. Its bytes are freed by `compact`.

        Parameters
        ----------
        max_nbytes : int
            Of all chunks in use and of the kept models.

        Returns
        -------
        list of str
            The keys of what is no longer stored.

        Raises
        ------
        BudgetError
            What is left is pinned, or the last road to an answer; nothing was evicted.
        StoreReadOnlyError
        """
        self._check_writable("evict")
        return evict(self, max_nbytes)

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

    def graph(self, capture: Committed) -> StageGraph:
        """The intermediates of a capture, with references of those that are stored; kept until that changes."""
        capture = self.catalog.current(capture)
        known = self._graphs.get(capture.id)
        if known is None or known.capture is not capture or known.n_moves != self._catalog.moves.n_records:
            references = self.catalog.references(capture)
            nodes = {
                name: replace(node, references=references.get(name)) for name, node in capture.intermediates.items()
            }
            indexes = self._catalog.sound_indexes(capture)
            known = self._graphs[capture.id] = StageGraph(
                capture, self._catalog.moves.n_records, nodes, indexes=indexes
            )
        return known

    def make_index(self, capture: Committed, node: Intermediate, *, max_share: float) -> Index:
        """Build the index of a stored layer, with its references, and make it seen.

        Raises
        ------
        IndexTooLargeError, StoreError, StoreReadOnlyError
        """
        self._check_writable(f"index {node.name}")
        index = IndexBuilder(self.segments, node).build(self._make_writer, max_share=max_share)
        self._catalog.add_index(capture, index)
        return index

    def drop_index(self, key: str | Key) -> None:
        """Forget the index of an intermediate; its questions are answered as before there was one.

        Its bytes are freed by `compact`.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._check_writable(f"drop the index of {key}")
        capture, intermediate = self._catalog.find(key)
        self._catalog.drop_index(capture, intermediate.name)

    def taking(self, capture: Committed, node: Intermediate, rows: np.ndarray) -> Capture:
        """Something that takes rows of an intermediate, whole blocks, and at its commit makes them seen as stored."""
        self._check_writable(f"store {node.name}")
        sink = LaterSink(self, capture, node, rows)
        return Capture(sink, capture.version, capture.dataset, codec="raw", on_error="raise")

    def has_room(self, nbytes: float, gamma: float, spared: str) -> bool:
        """Whether so many bytes more fit the budget, once what saves less a byte has gone."""
        if self.max_nbytes is None:
            return True
        try:
            evict(self, self.max_nbytes - nbytes, below_gamma=gamma, spared=spared)
        except BudgetError:
            return False
        return True

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
            "gamma_min": self.gamma_min,
            "max_nbytes": self.max_nbytes,
            "index_share": self.index_share,
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

    def observe(self, observation: Observation) -> None:
        """Keep what was measured, without reading what was measured before."""
        if self._known is None:
            self._usage.observe(observation)
        else:
            self.calibration.add(observation)

    def _learned(self) -> tuple[Calibration, Worth]:
        self._check()
        if self._known is None:
            observations, demands = self._usage.load()
            calibration = Calibration(observations, self._usage.observe)
            self._known = calibration, Worth(demands, calibration, self._usage.ask)
        return self._known

    def _pin(self, key: str | Key, *, is_pinned: bool) -> None:
        self._check_writable(f"{'pin' if is_pinned else 'unpin'} {key}")
        capture, intermediate = self._catalog.find(key)
        self._catalog.pin(capture, intermediate.name, is_pinned=is_pinned)

    def is_cold(self, subject: str) -> bool:
        """Whether nothing of the kind was read yet in this process; asked again, it was."""
        is_cold = subject not in self._warm
        self._warm.add(subject)
        return is_cold

    def _hold_budget(self) -> None:
        """After a capture: what is over the budget goes; what cannot go is said."""
        if self.max_nbytes is None:
            return
        try:
            evict(self, self.max_nbytes)
        except BudgetError as error:
            warnings.warn(str(error), CaptureWarning, stacklevel=5)

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


def open(
    uri: str | os.PathLike[str],
    *,
    mode: str = "a",
    trust: Trust = False,
    config: Mapping[str, str] | None = None,
    max_buffer_nbytes: int = 256 * 1024 * 1024,
    placement: str = "auto",
    gamma_min: float = DEFAULT_GAMMA_MIN,
    max_nbytes: int | None = None,
    index_share: float = DEFAULT_INDEX_SHARE,
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
    gamma_min : float, default 1000
        In seconds a GB: an intermediate that is recomputed is stored once so many seconds were lost to that for each GB
        that it takes. ``float("inf")``: nothing is stored but by captures.
    max_nbytes : int, optional
        What the store may take: chunks in use and kept models. What saves least a byte is no longer stored, and is
        recomputed when it is asked for; never what is pinned, nor the last road to an answer.
    index_share : float, default 0.2
        A layer of which a few units are asked for often gets an index that takes no more than this share of its values
        as float32; 0: none but those that `mistique.index` makes.
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
        gamma_min=gamma_min,
        max_nbytes=max_nbytes,
        index_share=index_share,
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
