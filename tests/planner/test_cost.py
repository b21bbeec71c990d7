"""Predicted costs are arithmetic, and calibration finds the costs that observations were made with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.planner.calibration import Calibration
from mistique.planner.cost import ReadCost, recompute_seconds
from mistique.storage.usage import Observation

# Up to a disk three times slower than the starting point; beyond, 64 reads still lean towards it by a fifth.
FINE = st.floats(1e-4, 1e-2)
PER_BYTE = st.floats(1e-10, 3e-8)


def read(nbytes: int, n_ranges: int, seconds: float) -> Observation:
    return Observation("read", "raw", nbytes, n_ranges, 0.0, seconds)


def reads_at(range_seconds: float, byte_seconds: float, n: int = 64, noise: float = 0.0) -> list[Observation]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        nbytes, n_ranges = int(10 ** rng.uniform(3, 8)), int(rng.integers(1, 40))
        seconds = n_ranges * range_seconds + nbytes * byte_seconds
        found.append(read(nbytes, n_ranges, seconds * (1 + noise * rng.uniform(-1, 1))))
    return found


def calibrated(observations: list[Observation]) -> Calibration:
    return Calibration(observations, lambda _: None)


def test_reading_costs_its_ranges_and_its_bytes() -> None:
    cost = ReadCost(0.5, 0.25, 1)
    assert cost.seconds(8, n_ranges=3) == 3.5
    assert cost.seconds(0, n_ranges=0) == 0.0
    assert cost.seconds(4) == 1.5


def test_recomputing_costs_the_load_the_source_and_the_rows() -> None:
    arguments = {"load_seconds": 1.0, "source_seconds": 2.0, "row_seconds": [0.5, 0.25], "n_rows": 4, "factor": 2.0}
    assert recompute_seconds(**arguments) == 1 + 2 + 2 * 4 * 0.75  # type: ignore[arg-type]


@given(range_seconds=FINE, byte_seconds=PER_BYTE)
def test_calibration_finds_the_true_costs(range_seconds: float, byte_seconds: float) -> None:
    cost = calibrated(reads_at(range_seconds, byte_seconds)).read_cost("raw")
    for nbytes, n_ranges in ((10**6, 1), (10**8, 4), (10**4, 30)):
        true = n_ranges * range_seconds + nbytes * byte_seconds
        assert cost.seconds(nbytes, n_ranges=n_ranges) == pytest.approx(true, rel=0.2)


@pytest.mark.parametrize("slower_by", [10, 1_000, 100_000])
def test_one_read_that_was_slow_does_not_turn_it(slower_by: float) -> None:
    reads = reads_at(1e-3, 1e-9, noise=0.1)
    before = calibrated(reads).read_cost("raw").seconds(10**7, n_ranges=5)
    slow = read(10**7, 5, (5e-3 + 1e-2) * slower_by)
    after = calibrated([*reads, slow]).read_cost("raw").seconds(10**7, n_ranges=5)
    assert after == pytest.approx(before, rel=0.1)


def test_costs_follow_when_the_machine_has_changed() -> None:
    cost = calibrated([*reads_at(1e-3, 1e-9), *reads_at(1e-2, 1e-8)]).read_cost("raw")
    assert cost.seconds(10**7, n_ranges=5) == pytest.approx(0.05 + 0.1, rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 1000), st.floats(1e-9, 1e3)), max_size=20))
def test_no_observation_makes_a_cost_that_is_not_a_time(seen: list[tuple[int, int, float]]) -> None:
    cost = calibrated([read(*one) for one in seen]).read_cost("raw")
    assert 0 < cost.range_seconds < np.inf
    assert 0 < cost.byte_seconds < np.inf
    assert cost.n_observations == len(seen)


def test_codecs_are_calibrated_apart() -> None:
    calibration = calibrated(reads_at(1e-3, 1e-9))
    assert calibration.read_cost("raw").n_observations == 64
    assert calibration.read_cost("power").n_observations == 0


def test_a_read_of_no_time_is_no_observation() -> None:
    assert calibrated([read(10, 1, 0.0)]).read_cost("raw").n_observations == 0


def test_the_factor_of_a_model_is_the_median_of_its_runs_and_1_before() -> None:
    kept: list[Observation] = []
    calibration = Calibration([], kept.append)
    assert calibration.recompute_factor("m") == 1.0
    for seconds in (2.0, 4.0, 1000.0):
        calibration.add(Observation("recompute", "m", 0, 0, 2.0, seconds))
    assert calibration.recompute_factor("m") == 2.0
    assert calibration.n_recomputations("m") == 3
    assert len(kept) == 3
