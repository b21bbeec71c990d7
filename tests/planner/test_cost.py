"""Predicted costs are arithmetic, and calibration finds the costs that observations were made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.planner.calibration import Calibration
from mistique.planner.cost import Cost, ReadWork, gamma
from mistique.planner.fit import fitted
from mistique.storage.backend import backend_of
from mistique.storage.usage import Observation

FINE = st.floats(1e-5, 1e-1)
PER_BYTE = st.floats(1e-11, 1e-7)


def work(nbytes: int, n_ranges: int) -> tuple[float, ...]:
    return ReadWork(n_ranges, 0, nbytes, 0).amounts


def read(nbytes: int, n_ranges: int, seconds: float) -> Observation:
    return Observation("read", "raw", work(nbytes, n_ranges), 0.0, seconds)


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


def test_work_costs_each_of_its_kinds() -> None:
    cost = Cost((0.5, 0.25, 0.0), 1)
    assert cost.seconds((1, 3, 8)) == 1.25
    counted = ReadWork(2, 5, 10, 100, 3, 7, 6, 8, 9)
    assert counted.amounts == (1.0, 2.0, 5.0, 10.0, 100.0, 3.0, 7.0, 6.0, 8.0, 9.0)


def test_gamma_is_what_a_stored_gigabyte_saves() -> None:
    assert gamma(3.0, 2e9) == 1.5
    assert gamma(-1.0, 10) == 0.0


@given(range_seconds=FINE, byte_seconds=PER_BYTE)
def test_calibration_finds_the_true_costs(range_seconds: float, byte_seconds: float) -> None:
    cost = calibrated(reads_at(range_seconds, byte_seconds)).read_cost("raw")
    for nbytes, n_ranges in ((10**6, 2), (10**8, 4), (10**4, 30)):
        true = n_ranges * range_seconds + nbytes * byte_seconds
        assert cost.seconds(work(nbytes, n_ranges)) == pytest.approx(true, rel=0.25)


@pytest.mark.parametrize("slower_by", [10, 1_000, 100_000])
def test_one_read_that_was_slow_does_not_turn_it(slower_by: float) -> None:
    reads = reads_at(1e-3, 1e-9, noise=0.1)
    before = calibrated(reads).read_cost("raw").seconds(work(10**7, 5))
    slow = read(10**7, 5, (5e-3 + 1e-2) * slower_by)
    after = calibrated([*reads, slow]).read_cost("raw").seconds(work(10**7, 5))
    assert after == pytest.approx(before, rel=0.1)


def test_a_quarter_of_slow_reads_does_not_double_the_cost() -> None:
    reads = reads_at(1e-3, 1e-9)
    slow = [read(int(one.work[3]), int(one.work[1]), one.seconds * 20) for one in reads[:16]]
    cost = calibrated([*slow, *reads[16:]]).read_cost("raw")
    assert cost.seconds(work(10**7, 5)) < 2 * (5e-3 + 1e-2)


@pytest.mark.parametrize("slower_by", [0.01, 2.9, 3.1, 1_000])
def test_one_measurement_alone_far_above_what_is_assumed_waits_for_a_second(slower_by: float) -> None:
    assumed, once = (1e-3, 1e-6), (1.0, 1_000.0)
    slow = Observation("memory", "layer", once, 0.0, 2e-3 * slower_by)
    alone, twice = (calibrated([slow] * n).cost("memory", "layer", assumed) for n in (1, 2))
    is_believed = slower_by < 3
    assert alone.n_observations == is_believed
    assert alone.seconds(once) == pytest.approx(2e-3 * slower_by if is_believed else 2e-3)
    assert twice.seconds(once) == pytest.approx(2e-3 * slower_by, rel=0.05)
    quick = Observation("memory", "layer", once, 0.0, 2e-3)
    assert calibrated([slow, quick]).cost("memory", "layer", assumed).seconds(once) < 2 * 2e-3


def test_costs_follow_when_the_machine_has_changed() -> None:
    cost = calibrated([*reads_at(1e-3, 1e-9), *reads_at(1e-2, 1e-8)]).read_cost("raw")
    assert cost.seconds(work(10**7, 5)) == pytest.approx(0.05 + 0.1, rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 1000), st.floats(1e-9, 1e3)), max_size=20))
def test_no_observation_makes_a_cost_that_is_not_a_time(seen: list[tuple[int, int, float]]) -> None:
    cost = calibrated([read(*one) for one in seen]).read_cost("raw")
    assert all(0 < seconds < np.inf for seconds in cost.seconds_each)
    assert cost.n_observations == len(seen) or len(seen) == 1  # which may wait for a second


def test_codecs_are_calibrated_apart() -> None:
    calibration = calibrated(reads_at(1e-3, 1e-9))
    assert calibration.read_cost("raw").n_observations == 64
    assert calibration.read_cost("power").n_observations == 0


def test_reads_of_one_back_end_say_nothing_of_another_and_runs_are_the_same_on_both() -> None:
    seen: list[Observation] = []
    disk = Calibration([], seen.append, backend="file ext4")
    for observation in reads_at(1e-3, 1e-9):
        disk.add(observation)
    disk.add(Observation("stage", "m\tlayer", (1.0, 10.0), 0.0, 2.0))
    again, bucket = (Calibration(seen, seen.append, backend=name) for name in ("file ext4", "s3"))
    assert disk.read_cost("raw") == again.read_cost("raw")
    assert disk.is_known("read", "raw")
    assert bucket.read_cost("raw").n_observations == 0
    assert not bucket.is_known("read", "raw")
    assert bucket.is_known("stage", "m\tlayer")


def test_a_path_is_on_its_file_system_and_object_storage_at_its_endpoint(tmp_path: Path) -> None:
    assert backend_of(str(tmp_path / "store"), {}) == backend_of(tmp_path.as_uri(), {})
    assert backend_of(str(tmp_path), {}).startswith("file")
    local = {"vfs.s3.endpoint_override": "127.0.0.1:5000"}
    assert (backend_of("s3://b/s", local), backend_of("s3://b/s", {})) == ("s3 127.0.0.1:5000", "s3")
    assert backend_of("mem://s", local) == "mem"


def test_a_read_of_no_time_is_no_observation() -> None:
    assert calibrated([read(10, 1, 0.0)]).read_cost("raw").n_observations == 0


def test_what_is_known_of_other_stages_is_the_median_of_their_ratios_and_1_before() -> None:
    kept: list[Observation] = []
    calibration = Calibration([], kept.append)
    assert calibration.stage_ratio("m") == 1.0
    for seconds in (2.0, 4.0, 1000.0):
        calibration.add(Observation("stage", "m\tlayer", (1.0, 10.0), 2.0, seconds))
    assert calibration.stage_ratio("m") == 2.0
    assert len(kept) == 3


def test_one_run_of_a_model_that_was_far_slower_than_at_the_capture_says_nothing_of_its_other_stages() -> None:
    calibration = calibrated([])
    for n_runs in (1, 2):
        for name in "abc":
            calibration.add(Observation("stage", f"m\t{name}", (1.0, 10.0), 0.1, 2.0))
        calibration.add(Observation("run", "m\tc\tinput", (1.0, 10.0), 0.0, 6.0))
        assert calibration.stage_ratio("m") == (1.0 if n_runs == 1 else 20.0)


def test_a_stage_seen_at_two_sizes_has_a_fixed_part_and_a_slope() -> None:
    seen = [Observation("stage", "m\tb", (1.0, n), 0.0, 0.02 + 1e-4 * n) for n in (10.0, 1000.0, 10.0, 1000.0)]
    cost = calibrated(seen).cost("stage", "m\tb", (1e-4, 1e-6))
    assert cost.seconds((1, 100)) == pytest.approx(0.03, rel=0.1)
    assert cost.seconds_each[1] == pytest.approx(1e-4, rel=0.1)


def test_a_run_of_one_row_says_nothing_of_what_many_rows_take() -> None:
    # A call took fifty times as long as at the capture; made as much slower, 58,722 rows would take 3 s.
    cost = calibrated([Observation("stage", "m\tb", (1.0, 1.0), 0.0, 5e-3)] * 3).cost("stage", "m\tb", (1e-4, 1e-6))
    assert cost.seconds((1, 1)) == pytest.approx(5e-3, rel=0.15)
    assert cost.seconds((1, 58_722)) == pytest.approx(5e-3 + 58_722e-6, rel=0.15)


def test_chance_in_runs_of_few_rows_is_not_taken_for_what_rows_take() -> None:
    runs = [Observation("stage", "m\tb", (1.0, n), 0.0, s) for n, s in ((1000, 4.2e-3), (1, 2.9e-3), (1, 3.6e-3))]
    cost = calibrated(runs).cost("stage", "m\tb", (1.6e-3, 1.5e-7))
    assert cost.seconds((1, 58_722)) < 1.5 * (3.5e-3 + 58_722 * 1.5e-7)


@pytest.mark.parametrize("times", [1 / 4, 1 / 2.5, 2.5])
def test_a_run_of_all_rows_stands_in_the_place_of_what_the_capture_took(times: float) -> None:
    assumed = 2e-3 + 58_722 * 1e-5
    seen = [Observation("stage", "m\tb", (1.0, 58_722.0), 0.0, times * assumed)]
    cost = calibrated(seen).cost("stage", "m\tb", (2e-3, 1e-5))
    assert cost.seconds((1, 58_722)) == pytest.approx(times * assumed, rel=0.15)


def test_the_fit_of_nothing_to_tell_apart_stays_near_what_is_assumed() -> None:
    found = fitted(np.array([[1.0, 100.0]] * 8), np.full(8, 0.2), np.array([0.1, 0.001]))
    assert found == pytest.approx([0.1, 0.001], rel=0.05)


def test_costs_are_fitted_anew_after_an_eighth_more_observations_or_a_surprise() -> None:
    calibration = calibrated(reads_at(1e-3, 1e-9))
    before = calibration.read_cost("raw")
    usual = read(10**7, 5, before.seconds(work(10**7, 5)) * 1.2)
    for _ in range(7):
        calibration.add(usual)
        assert calibration.read_cost("raw") is before
    calibration.add(usual)
    after = calibration.read_cost("raw")
    assert after is not before
    calibration.add(read(10**7, 5, 1.0))
    assert calibration.read_cost("raw") is not after


def test_as_many_reads_take_longer_than_predicted_as_take_less() -> None:
    rng = np.random.default_rng(0)
    amounts = np.column_stack([np.ones(400), 10 ** rng.uniform(3, 6, 400)])
    seconds = amounts @ np.array([1e-3, 1e-8]) * np.exp(rng.normal(0, 0.5, 400))
    off = np.log(amounts @ fitted(amounts, seconds, np.array([1e-2, 1e-9])) / seconds)
    assert abs(np.median(off)) < 0.07
    assert abs(off.mean()) < 0.05
