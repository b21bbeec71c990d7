"""What roads cost: the kinds of work that each is made of, and what is assumed of them before any was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Of a machine like ours, a local disk; a few reads replace them.
READ_START = (4e-4, 5e-5, 3e-5, 3e-9, 5e-10, 3e-3, 5e-10, 1e-9, 6e-4, 3e-5)
DERIVE_START = (3e-4, 7e-9)
# Of what is in memory: to give it, a value of it.
MEMORY_START = (5e-5, 2e-9)
# To read the labels of rows, that a pipeline is given again: once, and a row.
LABELS_START = (3e-3, 3e-7)
# To read what was counted: once, and its bytes.
SUMMARY_START = (3e-3, 1e-8)
WRITE_START = (3e-2, 1.5e-8)
# Of a network that runs as a graph: to trace one, and a layer of it.
TRACE_START = (4e-2, 1e-2)
# Around a run: once, a column that pandas hands over by itself, a value in, a value out, a text, a value of a layer
# that is given, a batch that is not whole.
AROUND_START = (1e-3, 1e-4, 1e-9, 1e-9, 2e-8, 2e-9, 1e-2)
# A step of a pipeline checks what it is given; a layer is dispatched.
CALL_START = 1e-4
IMPORT_START = 3.0


@dataclass(frozen=True, slots=True)
class ReadWork:
    """What a read is made of.

    Parameters
    ----------
    n_ranges : int
        Contiguous runs of chunks.
    n_units : int
        Payloads: each is verified and decoded whole.
    encoded_nbytes : int
        Bytes on disk, after every codec: reading, verifying, decoding.
    n_cells : int
        Values that are decoded, of four bytes each: wider ones count twice, texts sixty times.
    n_opened : int
        Segments that no one has opened yet in this process.
    n_given : int
        Values of the answer: a chunk is decoded whole for a few of its rows.
    n_turned : int
        Those of them that are laid out by rows, as a layer's are unless its columns may lie together as they are
        stored: what a rule derives from them takes them so.
    n_segments : int
        Those that chunks are fetched from: each is a query.
    n_columns : int
        Of a table, and masks of its nullable columns: each is put together by itself.
    """

    n_ranges: int
    n_units: int
    encoded_nbytes: int
    n_cells: int
    n_opened: int = 0
    n_given: int = 0
    n_turned: int = 0
    n_segments: int = 1
    n_columns: int = 0

    @property
    def amounts(self) -> tuple[float, ...]:
        """In the order of `READ_START`: the read itself is one more."""
        of_chunks = self.n_ranges, self.n_units, self.encoded_nbytes, self.n_cells, self.n_opened
        of_answer = self.n_given, self.n_turned, self.n_segments, self.n_columns
        return 1.0, *map(float, (*of_chunks, *of_answer))

    def share(self, part: float) -> tuple[float, ...]:
        """The amounts of a part of it, in one read."""
        return 1.0, *(part * amount for amount in self.amounts[1:])


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that each kind of work takes.

    Parameters
    ----------
    seconds_each : tuple of float
    n_observations : int
        Runs that it rests on; 0: nothing was measured, it is a starting point.
    """

    seconds_each: tuple[float, ...]
    n_observations: int

    def seconds(self, amounts: Sequence[float]) -> float:
        """Predicted time of some work, in seconds, never negative.

        Notes
        -----
        A fixed part and slopes, as the paper's measurements have them (figure 8b: 0.45 s + bytes / rho_d); its formula
        has no fixed term.
        """
        return sum(a * s for a, s in zip(amounts, self.seconds_each, strict=True))


def gamma(saved_seconds: float, nbytes: float) -> float:
    """What a stored byte saves, in seconds a GB: the paper's gamma (section 5), over the questions that were asked.

    Parameters
    ----------
    saved_seconds : float
        The sum, over the questions, of what recomputing takes more than reading: the paper's (t_rerun - t_read) times
        n_query, where each question counts for the rows and columns that it asked.
    nbytes : float
        That storing takes.

    Examples
    --------
    >>> gamma(2.0, 10_000_000)
    200.0
    """
    return max(saved_seconds, 0.0) / max(nbytes, 1.0) * 1e9
