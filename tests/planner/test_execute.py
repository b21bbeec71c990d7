"""What a read leaves behind, and what a small buffer does not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mistique
from tests.capturing import capturing, put


@pytest.mark.parametrize("max_buffer_nbytes", [0, 500_000, 700_000, 1_300_000, 2_000_000, 5_000_000])
def test_a_layer_larger_than_the_buffer_is_written_in_parts_and_read_whole(
    tmp_path: Path, max_buffer_nbytes: int
) -> None:
    # Six groups a block: a buffer that is full within a block must not write a part of it.
    values = np.random.default_rng(0).random((5000, 8, 8, 6), np.float32)
    with mistique.open(tmp_path / "s", max_buffer_nbytes=max_buffer_nbytes) as store:
        with capturing(store) as capture:
            for start in range(0, 5000, 256):
                capture.append("first", values[start : start + 256])
                capture.append("second", values[start : start + 256] + 1)
        assert np.array_equal(mistique.get(store, "lab/model@1/train/first").values, values)
        assert np.array_equal(mistique.get(store, "lab/model@1/train/second").values, values + 1)


def test_reads_are_measured_and_the_next_process_knows(tmp_path: Path) -> None:
    with mistique.open(tmp_path / "s") as store:
        key = put(store, np.arange(100.0))
        for _ in range(3):
            mistique.get(store, key)
    with mistique.open(tmp_path / "s", mode="r") as store:
        assert store.calibration.read_cost("raw").n_observations == 3
        assert "3 reads measured" in repr(mistique.explain(store, key))
