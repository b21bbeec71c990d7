"""One capture: the intermediates of one model version over one dataset, seen all at once or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from mistique.codecs import Codec, Policy, Pool, Raw, Summary, codec_from_config, resolve_codec, stored_form
from mistique.errors import (
    CaptureError,
    CaptureLostError,
    CaptureWarning,
    MistiqueError,
    StoreClosedError,
    StoreError,
)
from mistique.ingest.buffer import Buffered, SegmentBuffer
from mistique.ingest.columns import Described, describe, describe_array, describe_labels
from mistique.ingest.sparse_rows import SparseColumns, as_texts
from mistique.ingest.summarizing import summarized
from mistique.schema import ROW_LABEL, ColumnType, Intermediate, Version
from mistique.storage.artifacts import Artifact
from mistique.storage.captures import Capture as Committed

_RAW = Raw()
_MASK = ColumnType("uint8", "|u1")
Asked = str | Codec | Policy
# What a user says is stored of stages and layers, and what is said of each: "auto" is decided one by one.
KEEP: Mapping[str, bool | str] = {"all": True, "none": False, "auto": "auto"}


class Sink(Protocol):
    """What a capture needs of a store."""

    def check(self) -> None:
        """Raise `StoreClosedError` if the store was closed, or a fork carried it into another process."""

    def held(self, lineage: str, is_wanted: Callable[[Intermediate], bool]) -> Intermediate | None:
        """An intermediate of that lineage that the store holds and that is wanted, with its references."""

    def derived(self, lineage: str) -> Intermediate | None:
        """An intermediate of that lineage that was not stored as it follows from another."""

    def pays(self, intermediate: Intermediate, *, row_seconds: float, row_nbytes: float) -> bool:
        """Whether storing it is predicted to pay, if running the model for a row of it takes so long."""

    def buffer(self) -> SegmentBuffer:
        """A buffer whose segments lie in the store."""

    def keep(self, artifact: Artifact) -> str:
        """Put an artifact; its digest."""

    def commit(
        self, version: Version, dataset: str, intermediates: Sequence[Intermediate], buffered: Buffered
    ) -> Committed:
        """Make the capture seen."""


@dataclass
class _Open:
    """An intermediate while its rows come in."""

    intermediate: Intermediate
    codec: Codec
    keep: bool
    is_derived: bool = False
    waiting: list[np.ndarray] = field(default_factory=list)
    n_waiting: int = 0
    n_blocks: int = 0

    @property
    def is_answered(self) -> bool:
        """Without the model: its values are kept, held already, or follow from such."""
        return self.keep or self.is_derived or self.intermediate.is_stored

    def codec_for(self, column_type: ColumnType) -> Codec:
        """What encodes such columns: its codec, after a pool that of the pooled values; raw if it cannot."""
        codec = self.codec.values_codec if isinstance(self.codec, Pool) else self.codec
        return codec if codec.applies_to(column_type) else _RAW

    def wait(self, cells: np.ndarray) -> None:
        """Keep rows until they fill a block; nobody may change them any more."""
        self.waiting.append(cells)
        self.n_waiting += len(cells)


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
        self._codec, self._on_error = resolve_codec(codec), on_error
        self._open: dict[str, _Open] = {}
        self._left_out: set[str] = set()
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
            described = describe(value, what=f"{facts.get('role', 'stage')} {name!r}")
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
                opened.wait(self._as_stored(opened, described.parts, values))
                self._put_waiting(opened, whole_blocks=True)

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
            role = facts.get("role", "stage")
            held = self._sink.held(lineage, lambda found: self._is_wanted(found, role, codec))
            is_derived = False
            if held is None and self._leaves_out(role, codec):
                held = self._sink.derived(lineage)
                is_derived = held is not None and self._follows({"parents": held.parents, **facts})
                held = held if is_derived else None
            if held is None:
                return False
            self._check_new(name)
            intermediate = replace(held, name=name, **facts)
            kept_by = codec_from_config(held.codec)
            self._open[name] = _Open(intermediate, kept_by, keep=False, is_derived=is_derived)
            return True
        return False

    def carry_on(self, intermediate: Intermediate) -> None:
        """Record an intermediate of an earlier capture of the same rows again, with its references, as it is."""
        with self._storing(intermediate.name):
            self._check_new(intermediate.name)
            codec = codec_from_config(intermediate.codec)
            self._open[intermediate.name] = _Open(intermediate, codec, keep=False)

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
            self._check_rows()
            self._check_derived()
            for opened in self._open.values():
                self._put_waiting(opened, whole_blocks=False)
            buffered = self._segments().finish()
            intermediates = [
                replace(
                    opened.intermediate,
                    references=buffered.references.get(name, opened.intermediate.references),
                    stored_nbytes=buffered.new_nbytes.get(name, 0) if name in buffered.references else 0,
                )
                for name, opened in self._open.items()
            ]
            done = self._sink.commit(self._version, self._dataset, intermediates, buffered)
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

    def _declare(
        self,
        name: str,
        described: Described,
        *,
        keep: bool | str = True,
        codec: Asked | None = None,
        **facts: Any,
    ) -> None:
        self._check_new(name)
        role = facts.get("role", "stage")
        is_table = described.container != "array" or len(described.types) > 1
        chosen = self._codec_for(role, codec, described.types, described.shape, is_table=is_table)
        has_rule = facts.get("derivation") is not None
        is_derived = has_rule and self._leaves_out(role, codec) and self._follows(facts)
        intermediate = Intermediate(
            name=name,
            n_rows=described.n_rows,
            shape=described.shape,
            types=described.types,
            columns=described.columns,
            container=described.container,
            codec=chosen.config(),
            is_by_column=described.is_by_column,
            raw_nbytes=described.raw_nbytes,
            **{"role": role, **facts},
        )
        is_kept = role != "stage" or (self._pays(intermediate) if keep == "auto" else bool(keep))
        self._open[name] = _Open(intermediate, chosen, is_kept and not is_derived, is_derived)

    def _pays(self, intermediate: Intermediate) -> bool:
        """Recomputing it, and all that it is computed from, takes so long that its bytes are worth it."""
        if intermediate.recompute_difference is None:
            return True
        seconds = intermediate.pass_seconds_per_row
        seen: set[str] = set()
        waiting = list(intermediate.parents if intermediate.parents is not None else self._open)
        while waiting:
            parent = waiting.pop()
            if parent in seen or parent not in self._open:
                continue
            seen.add(parent)
            node = self._open[parent].intermediate
            seconds += node.pass_seconds_per_row
            waiting += node.parents if node.parents is not None else self._open
        row_nbytes = intermediate.raw_nbytes / max(intermediate.n_rows, 1)
        if not row_nbytes:
            row_nbytes = intermediate.n_columns * np.dtype(intermediate.types[0].cell).itemsize
        return self._sink.pays(intermediate, row_seconds=seconds, row_nbytes=row_nbytes)

    def _check_new(self, name: str) -> None:
        if name in self._open:
            raise CaptureError(f"two intermediates are named {name!r}; give each stage or layer a name of its own")

    def _codec_for(
        self, role: str, codec: Asked | None, types: Sequence[ColumnType], shape: tuple[int, ...], *, is_table: bool
    ) -> Codec:
        asked = self._asked(role, codec)
        chosen = asked.codec_for(types, shape=shape, is_table=is_table) if isinstance(asked, Policy) else asked
        if isinstance(chosen, Summary):
            chosen = chosen.for_shape(shape)
        # Where it takes no column at all everything is exact, and is recorded as that.
        return chosen if any(map(chosen.applies_to, types)) else _RAW

    def _asked(self, role: str, codec: Asked | None) -> Codec | Policy:
        return _RAW if role != "stage" else self._codec if codec is None else resolve_codec(codec)

    def _is_wanted(self, held: Intermediate, role: str, codec: Asked | None) -> bool:
        """It is kept by the codec that it would get now; or exactly, where a policy chooses."""
        asked = self._asked(role, codec)
        now = self._codec_for(role, codec, held.types, held.shape, is_table=held.is_table)
        exact = [c for c in asked.codecs if not c.is_lossy] if isinstance(asked, Policy) else []
        return any(dict(held.codec) == wanted.config() for wanted in (now, *exact))

    def _leaves_out(self, role: str, codec: Asked | None) -> bool:
        asked = self._asked(role, codec)
        return isinstance(asked, Policy) and asked.leaves_out_derived

    def _follows(self, facts: Mapping[str, Any]) -> bool:
        """Its one parent is answered without the model, by values and not by a summary of them.

        Parents are taken before what is computed from them.
        """
        parents = facts.get("parents")
        return (
            parents is not None
            and len(parents) == 1
            and parents[0] in self._open
            and self._open[parents[0]].is_answered
            and not isinstance(self._open[parents[0]].codec, Summary)
        )

    def _put_blocks(self, opened: _Open, described: Described) -> None:
        if not opened.keep:
            return
        if isinstance(described.parts, np.ndarray):
            opened.wait(self._as_stored(opened, described.parts, described.parts))
            self._put_waiting(opened, whole_blocks=False)
            return
        node, buffer = stored_form(opened.intermediate), self._segments()
        parts = as_texts(described.parts.matrix) if isinstance(described.parts, SparseColumns) else described.parts
        for group, part in enumerate(parts):
            buffer.put_column(node, group, part.cells, part.type, opened.codec_for(part.type))
        masks = [part.valid for part in parts if part.valid is not None]
        for group, valid in enumerate(masks, start=node.n_groups):
            buffer.put_column(node, group, valid.view(np.uint8), _MASK, _RAW)

    def _as_stored(self, opened: _Open, cells: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The next rows as they are cut into blocks: pooled, or as they are; a copy of what the caller could change."""
        if not isinstance(opened.codec, Pool):
            return _unchanging(cells, values)
        node = opened.intermediate
        pooled, error = summarized(opened.codec, cells, node.types[0])
        opened.intermediate = replace(node, summary_error=max(node.summary_error, error))
        return pooled

    def _put_waiting(self, opened: _Open, *, whole_blocks: bool) -> None:
        """Hand on the rows that make up whole blocks; at the end, those of the last one too."""
        node = stored_form(opened.intermediate)
        while opened.n_waiting >= (node.block_rows if whole_blocks else 1):
            rows: list[np.ndarray] = []
            missing = node.block_rows
            while missing and opened.waiting:
                piece = opened.waiting.pop(0)
                rows.append(piece[:missing])
                if len(piece) > missing:
                    opened.waiting.insert(0, piece[missing:])
                missing -= len(rows[-1])
            opened.n_waiting -= node.block_rows - missing
            self._segments().put_block(node, opened.n_blocks, rows, opened.codec_for(node.types[0]))
            opened.n_blocks += 1

    def _segments(self) -> SegmentBuffer:
        self._sink.check()
        if self._buffer is None:
            self._buffer = self._sink.buffer()
        return self._buffer

    def _check_rows(self) -> None:
        """Every intermediate has the rows of the input; one that has not is left out."""
        counts = {name: opened.intermediate.n_rows for name, opened in self._open.items()}
        if not counts:
            raise CaptureError(f"nothing of {self._version.model} was captured over dataset {self._dataset!r}")
        n_rows = next((n for name, n in counts.items() if name != ROW_LABEL), counts.get(ROW_LABEL, 0))
        for name, found in counts.items():
            with self._storing(name):
                if found != n_rows:
                    raise CaptureError(f"{name!r} has {found} rows, expected {n_rows} as in the input")

    def _check_derived(self) -> None:
        """What follows from what was left out after all is run again; what cannot be is left out too."""
        for name, opened in list(self._open.items()):
            if not opened.is_derived or self._follows({"parents": opened.intermediate.parents}):
                continue
            opened.is_derived = False
            with self._storing(name):
                if self._version.artifact is None or opened.intermediate.recompute_difference is None:
                    (parent,) = opened.intermediate.parents or ("",)
                    raise CaptureError(f"it follows from {parent!r}, which was not stored, and cannot be recomputed")


def _unchanging(parts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`parts`, of the memory of `values` or not: as it is if nobody can change it, else a copy."""
    is_own = not np.shares_memory(parts, values) if values.flags.writeable else True
    return parts if is_own else parts.copy()
