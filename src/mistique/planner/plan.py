"""Plans: a frozen choice of road, with what it was predicted to cost and what it did cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from math import isinf

INDEX, INDEX_OF_LARGEST = "index", "index of largest"
MEMORY = "memory"
SUMMARY = "summary"


@dataclass(frozen=True)
class Candidate:
    """One road to an answer.

    Parameters
    ----------
    road : str
        ``read``, ``derive from conv1``, ``recompute``, ``recompute from scale``, ``read 1024 rows, recompute``,
        ``index``, ``index of largest``, ``memory``, or ``summary``.
    sources : tuple of str
        Intermediates that it reads: the one asked, the input, or ancestors.
    is_possible : bool
    reason : str
        Why it is not possible, or what its figures rest on.
    predicted_seconds : float
    predicted_nbytes : int
        Encoded bytes that it reads.
    """

    road: str
    sources: tuple[str, ...]
    is_possible: bool
    reason: str
    predicted_seconds: float = float("inf")
    predicted_nbytes: int = 0

    @property
    def runs_model(self) -> bool:
        """It needs the model."""
        return "recompute" in self.road.split(" from ")[0]

    @property
    def reads_target(self) -> bool:
        """It reads what was asked for, all or some of it."""
        return self.road.startswith("read")

    @property
    def is_index(self) -> bool:
        """It reads an index of what was asked for."""
        return self.road.startswith("index")

    @property
    def is_memory(self) -> bool:
        """It gives what was recomputed before in this process."""
        return self.road == MEMORY

    @property
    def is_summary(self) -> bool:
        """It gives what was counted over all rows before."""
        return self.road == SUMMARY

    @property
    def is_index_of_largest(self) -> bool:
        """It gives the largest of the positions of each unit alone."""
        return self.road == INDEX_OF_LARGEST


@dataclass(frozen=True)
class Plan:
    """Which road answers a question, why, and, after the run, what it took.

    Parameters
    ----------
    key : str
    n_rows, n_columns : int
        Asked for.
    of_rows, of_columns : int
        That there are.
    candidates : tuple of Candidate
    chosen : Candidate
    reason : str
    seconds : float, optional
        Measured; None before the run.
    max_abs_error : float, optional
        Largest absolute error of the answer; None before the run.
    took : mapping of str to float, optional
        Seconds of its parts: ``read``, ``derive``, ``import`` (of the framework), ``load`` (the model), ``labels``,
        ``setup``, ``run``, ``memory``, ``write`` (of what was stored beside the answer).
    read_nbytes : int, optional
        Encoded bytes that were read.
    stored : str
        What was stored beside the answer.
    """

    key: str
    n_rows: int
    n_columns: int
    of_rows: int
    of_columns: int
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    reason: str
    seconds: float | None = None
    max_abs_error: float | None = None
    took: Mapping[str, float] | None = None
    read_nbytes: int | None = None
    stored: str = ""

    def to_dict(self) -> dict[str, object]:
        """The plan for a program."""
        return {
            "key": self.key,
            "chosen": self.chosen.road,
            "reason": self.reason,
            "seconds": self.seconds,
            "max_abs_error": self.max_abs_error,
            "took": None if self.took is None else dict(self.took),
            "bytes": self.read_nbytes,
            "stored": self.stored,
            "candidates": [dict(zip(("road", "seconds", "bytes", "note"), row, strict=True)) for row in self._rows()],
        }

    def __str__(self) -> str:
        """One sentence."""
        took = "" if self.seconds is None else f"; took {format_seconds(self.seconds)}"
        return f"{self.reason}{took}"

    def __repr__(self) -> str:
        lines = [self._title()]
        rows = [("", "road", "predicted", "bytes", "note"), *(self._cells(c) for c in self.candidates)]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        for row in rows:
            cells = "  ".join(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True))
            lines.append(f"{cells}  {row[4]}".rstrip())
        lines.append(f"chosen: {self.reason}")
        if self.seconds is not None:
            lines.append(f"measured: {self._measured()}")
        return "\n".join(lines)

    def _measured(self) -> str:
        """What it really took, in parts, and what it gave."""
        parts = [f"{name} {format_seconds(seconds)}" for name, seconds in (self.took or {}).items()]
        total = format_seconds(self.seconds or 0.0)
        notes = [f"{total} ({', '.join(parts)})" if parts else total]
        if self.read_nbytes is not None:
            notes.append(f"{format_nbytes(self.read_nbytes)} read")
        if self.max_abs_error:
            notes.append(format_bound(self.max_abs_error))
        return "; ".join([*notes, *([self.stored] if self.stored else [])])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("", "road", "predicted", "bytes", "note"))
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in self._cells(c)) + "</tr>" for c in self.candidates
        )
        said = [f"chosen: {self.reason}", *([f"measured: {self._measured()}"] if self.seconds is not None else [])]
        foot = "".join(f"<p>{escape(line)}</p>" for line in said)
        return f"<p>{escape(self._title())}</p><table><tr>{head}</tr>{body}</table>{foot}"

    def _title(self) -> str:
        return f"{self.key}: {self.n_rows} of {self.of_rows} rows, {self.n_columns} of {self.of_columns} columns"

    def _rows(self) -> Iterable[tuple[str, float | None, int, str]]:
        for c in self.candidates:
            yield c.road, c.predicted_seconds if c.is_possible else None, c.predicted_nbytes, c.reason

    def _cells(self, candidate: Candidate) -> tuple[str, str, str, str, str]:
        mark = ">" if candidate is self.chosen or candidate == self.chosen else ""
        if not candidate.is_possible:
            return mark, candidate.road, "-", "-", candidate.reason
        return (
            mark,
            candidate.road,
            format_seconds(candidate.predicted_seconds),
            format_nbytes(candidate.predicted_nbytes),
            candidate.reason,
        )


def format_seconds(seconds: float) -> str:
    """Seconds as people say them.

    Examples
    --------
    >>> format_seconds(0.0042), format_seconds(12.3)
    ('4.2 ms', '12.3 s')
    """
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"


def format_bound(max_abs_error: float) -> str:
    """An error bound as people say it.

    Examples
    --------
    >>> format_bound(0.0), format_bound(0.01234), format_bound(float("inf"))
    ('exact', 'each value within 0.0123', 'without a bound on the error')
    """
    if not max_abs_error:
        return "exact"
    return "without a bound on the error" if isinf(max_abs_error) else f"each value within {max_abs_error:.3g}"


def format_nbytes(nbytes: float) -> str:
    """Bytes as people say them, in powers of 1,000.

    Examples
    --------
    >>> format_nbytes(512), format_nbytes(1_234_567)
    ('512 B', '1.23 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"
