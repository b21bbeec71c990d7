"""From observed reads to costs: the affine law is found, and one slow read does not turn it."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.planner.calibration import Calibration
from mistique.planner.cost import ReadCost, recompute_seconds
from mistique.storage.usage import Observation

RANGE_SECONDS, BYTE_SECONDS = 2e-3, 4e-9


def reads(n: int, seed: int = 0) -> list[Observation]:
    """Reads that cost exactly what the law says."""
    random = np.random.default_rng(seed)
    observed = []
    for nbytes, n_ranges in zip(10 ** random.uniform(3, 8, n), random.integers(1, 50, n), strict=True):
        seconds = n_ranges * RANGE_SECONDS + nbytes * BYTE_SECONDS
        observed.append(Observation("read", "raw", int(nbytes), int(n_ranges), 0.0, seconds))
    return observed


def kept(observations: list[Observation]) -> Calibration:
    """A calibration from observations that were made before."""
    return Calibration(observations, lambda _: None)


def test_a_read_costs_its_ranges_and_its_bytes() -> None:
    assert ReadCost(2e-3, 4e-9, 9).seconds(1_000_000, n_ranges=3) == pytest.approx(0.01)


def test_a_recomputation_costs_loading_reading_and_every_stage_over_every_row() -> None:
    seconds = recompute_seconds(load_seconds=1.0, source_seconds=0.5, row_seconds=[1e-3, 2e-3], n_rows=100, factor=2.0)
    assert seconds == pytest.approx(1.0 + 0.5 + 2.0 * 100 * 3e-3)


def test_twenty_reads_are_enough_to_find_the_law_within_a_tenth() -> None:
    cost = kept(reads(20)).read_cost("raw")
    assert cost.range_seconds == pytest.approx(RANGE_SECONDS, rel=0.1)
    assert cost.byte_seconds == pytest.approx(BYTE_SECONDS, rel=0.1)
    assert cost.n_observations == 20


def test_one_read_that_took_a_hundred_times_as_long_moves_predictions_by_less_than_a_quarter() -> None:
    slow = Observation("read", "raw", 1_000_000, 1, 0.0, 100 * (RANGE_SECONDS + 1e6 * BYTE_SECONDS))
    before, after = kept(reads(20)).read_cost("raw"), kept([*reads(20), slow]).read_cost("raw")
    for nbytes, n_ranges in [(1_000, 1), (10_000_000, 20)]:
        predicted = before.seconds(nbytes, n_ranges=n_ranges)
        assert after.seconds(nbytes, n_ranges=n_ranges) == pytest.approx(predicted, rel=0.25)


def test_predictions_are_never_negative_after_contradictory_reads() -> None:
    odd = [Observation("read", "raw", 10**8, 1, 0.0, 1e-6), Observation("read", "raw", 10, 1, 0.0, 5.0)]
    cost = kept(odd).read_cost("raw")
    assert cost.range_seconds > 0
    assert cost.byte_seconds > 0


def test_a_codec_that_was_never_read_says_so() -> None:
    assert kept(reads(5)).read_cost("power").n_observations == 0


def test_a_model_is_corrected_by_the_median_of_its_runs() -> None:
    runs = [Observation("recompute", "m", 0, 0, 1.0, seconds) for seconds in (2.0, 2.2, 90.0)]
    assert kept(runs).recompute_factor("m") == 2.2
    assert kept(runs).recompute_factor("another") == 1.0


def test_new_observations_are_handed_on_to_be_kept() -> None:
    seen: list[Observation] = []
    calibration = Calibration([], seen.append)
    calibration.add(reads(1)[0])
    assert seen == reads(1)
    assert calibration.read_cost("raw").n_observations == 1
