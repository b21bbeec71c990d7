"""One capture: the intermediates of one model version over one dataset, seen all at once or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from types import TracebackType
from typing import Any

import numpy as np

from mistique.codecs import codec_from_config, stored_form
from mistique.errors import CaptureError, CaptureLostError, CaptureWarning, MistiqueError, StoreClosedError, StoreError
from mistique.ingest.buffer import SegmentBuffer
from mistique.ingest.cells import with_masks
from mistique.ingest.choosing import Asked, Choosing
from mistique.ingest.columns import Described, describe, describe_array, describe_labels
from mistique.ingest.committing import lost_parents, rows_that_differ, stored
from mistique.ingest.opened import Opened
from mistique.ingest.sink import Sink
from mistique.ingest.sparse_rows import SparseColumns, as_texts
from mistique.ingest.texts import SeenTexts
from mistique.schema import ROW_LABEL, Intermediate, Version
from mistique.storage.artifacts import Artifact


class Capture:
    """Takes intermediates from a framework and commits them together.

    Used as a context manager: a normal exit commits, an exception leaves nothing behind. With ``on_error="warn"`` what
    cannot be stored is left out with a `CaptureWarning` that names it, and the model goes on.

    Parameters
    ----------
    sink : Sink
    version : Version
    dataset : str
    codec : str, Codec or Policy
        For the outputs of stages and layers. Input, target, prediction and row labels are always kept exactly.
        ``"auto"`` also leaves out what follows by a rule from an intermediate that is kept.
    on_error : {"warn", "raise"}
    """

    def __init__(self, sink: Sink, version: Version, dataset: str, *, codec: Asked, on_error: str) -> None:
        if on_error not in ("warn", "raise"):
            raise CaptureError(f'on_error: expected "warn" or "raise", got {on_error!r}')
        self._sink, self._version, self._dataset = sink, version, dataset
        self._on_error = on_error
        self._open: dict[str, Opened] = {}
        self._choosing = Choosing(sink, codec, self._open)
        self._left_out: set[str] = set()
        self._texts = SeenTexts()
        self._failure: MistiqueError | None = None
        self._buffer: SegmentBuffer | None = None
        self.committed: str | None = None

    @property
    def run_id(self) -> str:
        """The run that this capture belongs to."""
        return self._version.run_id

    def set_labels(self, labels: Any) -> None:
        """Label the rows, by a pandas index or an array; None, or a default index, numbers them from 0."""
        with self._storing("row labels"):
            described = None if labels is None else describe_labels(labels)
            if described is not None:
                self._declare(ROW_LABEL, described, role="row_label", parents=())
                self._put_blocks(self._open[ROW_LABEL], described)

    def add(self, name: str, value: Any, *, columns: Sequence[str] | None = None, **facts: Any) -> None:
        """Take a table whole.

        Parameters
        ----------
        name : str
        value : ndarray, DataFrame, Series or sparse matrix
        columns : sequence of str, optional
            Names for the columns of a value that has none.
        **facts
            Fields of `Intermediate` (``role``, ``parents``, ``detail``, ...), ``codec``, and ``keep``: false declares
            the intermediate without storing it, ``"auto"`` stores it if that is predicted to pay.

        Raises
        ------
        MistiqueError
            With ``on_error="raise"``: what cannot be stored, and why.
        """
        if self._gave_up(name):
            return
        with self._storing(name):
            described = describe(value, what=f"{facts.get('role', 'stage')} {name!r}", texts=self._texts)
            if described.columns is None and columns is not None and len(columns) == described.shape[-1]:
                described = replace(described, columns=tuple(map(str, columns)))
            self._declare(name, described, **facts)
            self._put_blocks(self._open[name], described)

    def append(self, name: str, values: np.ndarray, **facts: Any) -> None:
        """Take the next rows of a layer's output, shape (n_rows, ...); `facts` as in `add`, from the first call."""
        if self._gave_up(name):
            return
        with self._storing(name):
            described = describe_array(values, what=f"{facts.get('role', 'stage')} {name!r}")
            if name not in self._open:
                self._declare(name, replace(described, n_rows=0, raw_nbytes=0), **facts)
            opened = self._open[name]
            expected = opened.intermediate
            if (described.shape, described.types) != (expected.shape, expected.types):
                raise CaptureError(
                    f"{name!r}: expected rows of shape {expected.shape} and type {expected.types[0].dtype} as in the "
                    f"first batch, got {described.shape} and {described.types[0].dtype}"
                )
            opened.intermediate = replace(
                expected,
                n_rows=expected.n_rows + described.n_rows,
                raw_nbytes=expected.raw_nbytes + described.raw_nbytes,
            )
            if opened.keep and described.n_rows:
                assert isinstance(described.parts, np.ndarray)
                opened.wait(opened.as_stored(described.parts, values))
                self._put_waiting(opened, is_whole=True)

    def reuse(self, name: str, *, lineage: str, codec: Asked | None = None, **facts: Any) -> bool:
        """Record an intermediate that the store already holds under this lineage: nothing of it is run or read.

        Parameters
        ----------
        name : str
        lineage : str
        codec : str or Codec, optional
            As in `add`.
        **facts
            Fields of `Intermediate` that are of this capture: ``aliases``, ``parents``, ``detail``, ``role``.

        Returns
        -------
        bool
            False: the store does not hold it; compute it, and give `lineage` to `add` or `append`.
        """
        if self._gave_up(name):
            return False
        with self._storing(name):
            held = self._choosing.held(name, lineage, codec=codec, facts=facts)
            if held is not None:
                self._check_new(name)
                self._open[name] = held
            return held is not None
        return False

    def carry_on(self, intermediate: Intermediate) -> None:
        """Record an intermediate of an earlier capture of the same rows again, with its references, as it is."""
        with self._storing(intermediate.name):
            self._check_new(intermediate.name)
            codec = codec_from_config(intermediate.codec)
            self._open[intermediate.name] = Opened(intermediate, codec, keep=False)

    def settle(self) -> None:
        """Say that all but a little was taken: that is encoded beside what the model does next."""
        if self._buffer is not None and self._failure is None:
            self._buffer.settle()

    def takes(self, name: str) -> bool:
        """Whether it stores the values of an intermediate that was declared; if not, `annotate` its rows instead."""
        return name in self._open and self._open[name].keep

    def columns_of(self, name: str) -> tuple[str, ...] | None:
        """Names of the columns of an intermediate that was taken; None: it has none, or was not."""
        return self._open[name].intermediate.columns if name in self._open else None

    def annotate(self, name: str, **facts: Any) -> None:
        """Change facts of an intermediate that was taken before."""
        if name in self._open:
            opened = self._open[name]
            opened.intermediate = replace(opened.intermediate, **facts)

    def keep_model(self, artifact: Artifact, *, load_seconds: float = 0.0) -> None:
        """Keep the model, so that it can be run again."""
        with self._storing("the model"):
            digest = self._sink.keep(artifact)
            self._version = replace(
                self._version,
                artifact=digest,
                artifact_nbytes=len(artifact.payload),
                load_seconds=load_seconds,
            )

    def describe_version(self, **facts: Any) -> None:
        """Set fields of the version: ``params``, ``source``, ``states``."""
        self._version = replace(self._version, **facts)

    def skip_model(self, note: str) -> None:
        """Say why the model is not kept."""
        self._version = replace(self._version, artifact=None, artifact_note=note)

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        else:
            self.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._open.clear()
        # In a forked child the segments belong to the parent, which goes on writing them.
        with suppress(StoreClosedError):
            self._sink.check()
            if self._buffer is not None:
                self._buffer.discard()

    def commit(self) -> None:
        """Make everything seen at once; ``committed`` is then the version's name, or None if that failed."""
        try:
            self._sink.check()
            if self._failure is not None:
                raise self._failure
            other_rows = rows_that_differ(self._open, model=self._version.model, dataset=self._dataset)
            lost = lost_parents(self._open, self._choosing, has_model=self._version.artifact is not None)
            for name, fault in chain(other_rows, lost):
                with self._storing(name):
                    raise fault
            for opened in self._open.values():
                self._put_waiting(opened, is_whole=False)
            buffered = self._segments().finish()
            done = self._sink.commit(self._version, self._dataset, stored(self._open, buffered), buffered)
            self.committed = f"{done.version.model}@{done.number}"
        except MistiqueError as error:
            if isinstance(error, CaptureLostError):
                self._buffer = None  # others may see it yet, and then it is right; if they do not, it is garbage
            self.abort()
            if self._on_error == "raise":
                raise
            warnings.warn(
                f"nothing of {self._version.model} over dataset {self._dataset!r} was stored: {error}",
                CaptureWarning,
                stacklevel=3,
            )

    @contextmanager
    def _storing(self, name: str) -> Iterator[None]:
        """The one place where a failed capture becomes a warning, unless errors were asked for."""
        try:
            yield
        except MistiqueError as error:
            if self._on_error == "raise":
                raise
            if isinstance(error, StoreError):
                self._failure = error  # said once, at the commit
                return
            self._left_out.add(name)
            self._open.pop(name, None)
            if self._buffer is not None:
                self._buffer.forget(name)
            warnings.warn(f"{name} was not stored: {error}", CaptureWarning, stacklevel=4)

    def _gave_up(self, name: str) -> bool:
        return self._failure is not None or name in self._left_out

    def _declare(self, name: str, described: Described, **facts: Any) -> None:
        self._check_new(name)
        self._open[name] = self._choosing.opened(name, described, **facts)

    def _check_new(self, name: str) -> None:
        if name in self._open:
            raise CaptureError(f"two intermediates are named {name!r}; give each stage or layer a name of its own")

    def _put_blocks(self, opened: Opened, described: Described) -> None:
        if not opened.keep:
            return
        if isinstance(described.parts, np.ndarray):
            opened.wait(opened.as_stored(described.parts, described.parts))
            self._put_waiting(opened, is_whole=False)
            return
        node, buffer = stored_form(opened.intermediate), self._segments()
        parts = as_texts(described.parts.matrix) if isinstance(described.parts, SparseColumns) else described.parts
        for group, column in enumerate(with_masks(parts)):
            buffer.put_column(node, group, column.cells, column.type, opened.codec_for(column.type))

    def _put_waiting(self, opened: Opened, *, is_whole: bool) -> None:
        """Hand on the rows that make up whole blocks; at the end, those of the last one too."""
        node = stored_form(opened.intermediate)
        for block, rows in opened.blocks(is_whole=is_whole):
            self._segments().put_block(node, block, rows, opened.codec_for(node.types[0]))

    def _segments(self) -> SegmentBuffer:
        self._sink.check()
        if self._buffer is None:
            self._buffer = self._sink.buffer()
        return self._buffer
