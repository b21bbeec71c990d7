"""How far two samples of one column lie apart: Kolmogorov-Smirnov, population stability, shift."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, sqrt

import numpy as np

_MAX_VALUES, _N_TERMS = 50, 100


@dataclass(frozen=True)
class Distance:
    """Two samples compared.

    Parameters
    ----------
    ks : float
        Largest distance of their distribution functions, 0 to 1; NaN for texts.
    psi : float
        Population stability index, over deciles of the first, or values of a text.
    shift : float
        Difference of the means in standard deviations of the first; NaN for texts.
    p : float
        That they come from one distribution; not corrected.
    certain_ks : float
        What `ks` is at least, whatever the errors of the values within their bounds; NaN for texts.
    """

    ks: float
    psi: float
    shift: float
    p: float
    certain_ks: float


def distance(
    first: np.ndarray, second: np.ndarray, *, bins: int = 10, bounds: tuple[float, float] = (0.0, 0.0)
) -> Distance:
    """How far two samples lie apart.

    Parameters
    ----------
    first, second : ndarray of shape (n,) and (m,)
        Numbers, dates, or anything else as texts. Nulls and NaN count in `psi` alone, as a bin of their own.
    bins : int, default 10
        Between quantiles of the first, for `psi`.
    bounds : tuple of float, default (0.0, 0.0)
        Largest absolute errors of the values of either: quantized values have steps that are no drift.

    Notes
    -----
    The p of numbers is that of the limit of Kolmogorov's distribution with the correction for finite samples of
    Stephens, J. R. Stat. Soc. B 32, 1970; of texts, of Pearson's chi-squared by the approximation of Wilson and
    Hilferty, PNAS 17, 1931, doi 10.1073/pnas.17.12.684. PSI is the sum of ``(q - p) ln(q / p)`` over the shares of the
    bins, an empty bin counting as half a row (Siddiqi, Credit Risk Scorecards, 2006: below 0.1 little, from 0.25 on
    much). Between samples of one distribution it is about ``(bins - 1) (1 / n + 1 / m)``. Held against SciPy by
    ``tests/queries/test_drift.py``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> far = distance(rng.normal(size=1000), rng.normal(1.0, size=1000))
    >>> round(far.ks, 2), round(far.psi, 2), round(far.shift, 2), far.p < 1e-9
    (0.4, 1.01, 1.06, True)
    """
    if _is_number(first) and _is_number(second):
        return _of_numbers(_as_numbers(first), _as_numbers(second), bins, bounds)
    texts = [np.array([None if _is_null(v) else str(v) for v in sample], object) for sample in (first, second)]
    counts = _counts_of_texts(*texts)
    return Distance(np.nan, _psi(*counts), np.nan, _chi_squared_p(*counts), np.nan)


def _of_numbers(first: np.ndarray, second: np.ndarray, bins: int, bounds: tuple[float, float]) -> Distance:
    a, b = np.sort(first[~np.isnan(first)]), np.sort(second[~np.isnan(second)])
    counts = [_counts_of_numbers(a, sample, bins) for sample in (a, b)]
    for count, sample, known in ((counts[0], first, a), (counts[1], second, b)):
        count[-1] = len(sample) - len(known)
    psi = _psi(*counts)
    if not len(a) or not len(b):
        return Distance(np.nan, psi, np.nan, _chi_squared_p(*counts), np.nan)
    ks = max(_gap(a, b), _gap(b, a))
    # A value that was read is off by its bound at most, so all of them may lie that much nearer to the others.
    slack = bounds[0] + bounds[1]
    certain_ks = ks if not slack else max(_gap(a, b, slack), _gap(b, a, slack), 0.0)
    finite_a, finite_b = a[np.isfinite(a)], b[np.isfinite(b)]
    spread = finite_a.std() if len(finite_a) else 0.0
    moved = finite_b.mean() - finite_a.mean() if len(finite_a) and len(finite_b) else 0.0
    shift = float(moved / spread) if spread else float(np.copysign(np.inf, moved)) if moved else 0.0
    # Columns may also part in what is missing, of which the distribution functions know nothing.
    is_missing = [np.array([count[:-1].sum(), count[-1]]) for count in counts]
    p = _kolmogorov_p(certain_ks, len(a), len(b))
    if counts[0][-1] or counts[1][-1]:
        p = min(1.0, 2 * min(p, _chi_squared_p(*is_missing)))
    return Distance(ks, psi, shift, p, certain_ks)


def _gap(first: np.ndarray, second: np.ndarray, slack: float = 0.0) -> float:
    """By how much the share of the first that is not above some value exceeds that of the second, `slack` above it."""
    # The share of the first steps up at its values: nowhere between them is the gap wider.
    below = np.arange(1, len(first) + 1) / len(first)
    return float((below - np.searchsorted(second, first + slack, side="right") / len(second)).max())


def _counts_of_numbers(reference: np.ndarray, sample: np.ndarray, bins: int) -> np.ndarray:
    """Counts below, between and above the quantiles of the reference, and a place for the nulls."""
    if not len(reference):
        return np.array([len(sample), 0], float)
    ends = np.unique(reference[(np.arange(bins + 1) / bins * (len(reference) - 1)).astype(int)])
    # The smallest value of the reference belongs to its lowest bin; what is below or above all, to bins of its own.
    places = np.maximum(np.searchsorted(ends, sample, side="left"), 1)
    places = np.where(sample < ends[0], 0, np.where(sample > ends[-1], len(ends) + 1, places))
    return np.append(np.bincount(places, minlength=len(ends) + 2), 0).astype(float)


def _counts_of_texts(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = [sample[[value is not None for value in sample]].astype(str) for sample in (first, second)]
    names, totals = np.unique(np.concatenate(known), return_counts=True)
    kept = np.sort(names[np.argsort(-totals, kind="stable")[:_MAX_VALUES]])
    counts = []
    for sample, values in zip((first, second), known, strict=True):
        found, n = np.unique(values, return_counts=True)
        of = dict(zip(found.tolist(), n.tolist(), strict=True))
        of_kept = [of.get(name, 0) for name in kept.tolist()]
        counts.append(np.array([*of_kept, len(values) - sum(of_kept), len(sample) - len(values)], float))
    return counts[0], counts[1]


def _psi(first: np.ndarray, second: np.ndarray) -> float:
    is_used = (first + second) > 0
    if not is_used.any() or not first.sum() or not second.sum():
        return 0.0
    p = np.maximum(first[is_used], 0.5) / first.sum()
    q = np.maximum(second[is_used], 0.5) / second.sum()
    return float(((q - p) * np.log(q / p)).sum())


def _kolmogorov_p(ks: float, n: int, m: int) -> float:
    root = sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * ks
    if x < 0.2:
        return 1.0  # the series no longer converges, and the sum is 1 to 12 digits
    terms = [(-1.0) ** (j - 1) * exp(-2.0 * (j * x) ** 2) for j in range(1, _N_TERMS)]
    return float(min(max(2.0 * sum(terms), 0.0), 1.0))


def _chi_squared_p(first: np.ndarray, second: np.ndarray) -> float:
    total = first + second
    first, second, total = first[total > 0], second[total > 0], total[total > 0]
    freedom = len(total) - 1
    if freedom < 1 or not first.sum() or not second.sum():
        return 1.0
    squared = 0.0
    for sample in (first, second):
        expected = total * sample.sum() / total.sum()
        squared += float(((sample - expected) ** 2 / expected).sum())
    spread = 2.0 / (9.0 * freedom)
    return 0.5 * erfc(float(((squared / freedom) ** (1 / 3) - (1.0 - spread)) / sqrt(2.0 * spread)))


def _is_number(values: np.ndarray) -> bool:
    return values.dtype.kind in "iufbmM" or values.dtype.name == "bfloat16"


def _as_numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "mM":
        return values.astype(np.float64)
    return np.where(
        np.isnat(values), np.nan, values.astype("M8[us]" if values.dtype.kind == "M" else "m8[us]").astype(float)
    )


def _is_null(value: object) -> bool:
    return value is None or value != value
