"""The composition root: ``mistique.open(uri)`` gives a `Store`, in which every room is put together."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from mistique.codecs import Codec, Policy
from mistique.ingest.capture import Capture
from mistique.planner.index_build import IndexBuilder
from mistique.planner.index_byproduct import DEFAULT_INDEX_SHARE
from mistique.planner.recomputer import Trust
from mistique.planner.worth import DEFAULT_GAMMA_MIN
from mistique.schema import Index, Intermediate, Version, check_names
from mistique.storage.captures import Capture as Committed
from mistique.storage.encryption import KeySource
from mistique.storage.options import StorageOptions
from mistique.store.rooms import DEFAULT_MEMORY_NBYTES
from mistique.store.sinks import LaterSink, StoreSink
from mistique.store.upkeep import Upkeep
from mistique.store.versions import Versions


class Store(Versions, Upkeep):
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
    max_nbytes : float, optional
    index_share : float
    indexes : {"asked", "captured"}
    memory_nbytes : int
    """

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
        check_names(model=model, dataset=dataset)
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

    def taking(self, capture: Committed, node: Intermediate, rows: np.ndarray) -> Capture:
        """Something that takes rows of an intermediate, whole blocks, and at its commit makes them seen as stored."""
        self._check_writable(f"store {node.name}")
        sink = LaterSink(self, capture, node, rows)
        return Capture(sink, capture.version, capture.dataset, codec="raw", on_error="raise")

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
            "indexes": self.indexes,
            "memory_nbytes": self.memory_nbytes,
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


def open(
    uri: str | os.PathLike[str],
    *,
    mode: str = "a",
    trust: Trust = False,
    config: Mapping[str, str] | None = None,
    max_buffer_nbytes: int = 256 * 1024 * 1024,
    placement: str = "auto",
    gamma_min: float = DEFAULT_GAMMA_MIN,
    max_nbytes: float | None = None,
    index_share: float = DEFAULT_INDEX_SHARE,
    indexes: str = "asked",
    memory_nbytes: int = DEFAULT_MEMORY_NBYTES,
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
    max_nbytes : float, optional
        What the store may take: chunks in use and kept models. What saves least a byte is no longer stored, and is
        recomputed when it is asked for; never what is pinned, nor the last road to an answer.
    index_share : float, default 0.2
        A layer of which a few units are asked for often gets an index that takes no more than this share of its values
        as float32; 0: none but those that `mistique.index` makes.
    indexes : {"asked", "captured"}, default "asked"
        When: once questions took as long as making one, or with every capture, before the first question.
    memory_nbytes : int, default 256 MiB
        Of intermediates that were recomputed whole and stay in memory, those that were asked for last: they are likely
        to be asked for again. 0: none.
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
        indexes=indexes,
        memory_nbytes=memory_nbytes,
    )
