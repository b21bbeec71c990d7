"""What roads cost: pure arithmetic over measured figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_DERIVE_SECONDS_PER_VALUE = 7e-9


@dataclass(frozen=True, slots=True)
class ReadCost:
    """The measured cost of reading what one codec wrote.

    Parameters
    ----------
    range_seconds : float
        For each contiguous run of chunks.
    byte_seconds : float
        For each encoded byte: reading, verifying, decoding.
    n_observations : int
        Reads that the two rest on; 0: nothing was measured, they are a starting point.
    """

    range_seconds: float
    byte_seconds: float
    n_observations: int

    def seconds(self, encoded_nbytes: int, *, n_ranges: int = 1) -> float:
        """Predicted time to read and decode stored column chunks, in seconds.

        Parameters
        ----------
        encoded_nbytes : int
            Bytes on disk, after every codec and filter.
        n_ranges : int, default 1
            Contiguous runs they lie in.

        Notes
        -----
        Affine, as the paper's measurements are (figure 8b: 0.45 s + bytes / rho_d); its formula has no fixed term.
        """
        return n_ranges * self.range_seconds + encoded_nbytes * self.byte_seconds


def derive_seconds(n_values: int) -> float:
    """Time to derive from so many values by a rule, in seconds, on a machine like ours; a measured factor corrects it.

    Parameters
    ----------
    n_values : int
        That every step of the way takes: 7 ns each, as a pool by maximum over 2 x 2 took.
    """
    return n_values * _DERIVE_SECONDS_PER_VALUE


def recompute_seconds(
    *, load_seconds: float, source_seconds: float, row_seconds: Iterable[float], n_rows: int, factor: float
) -> float:
    """Predicted time to run a model again, in seconds.

    Parameters
    ----------
    load_seconds : float
        To load the model; 0 when it is loaded.
    source_seconds : float
        To read the rows that it starts from.
    row_seconds : iterable of float
        Forward seconds a row of each stage that runs, measured at capture.
    n_rows : int
        Rows that run: whole batches.
    factor : float
        Measured over predicted, of this model's recomputations so far.

    Notes
    -----
    The paper's t_rerun (section 5), with per-stage times and an ancestor's read in place of the input's.
    """
    return load_seconds + source_seconds + factor * n_rows * sum(row_seconds)
