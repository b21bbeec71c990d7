"""What a read leaves behind, and what a small buffer does not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import mistique
from tests.capturing import put, put_layer


def test_a_layer_larger_than_the_buffer_is_written_in_parts_and_read_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((5000, 8, 8, 6), np.float32)
    with mistique.open(tmp_path / "s", max_buffer_nbytes=500_000) as store:
        key = put_layer(store, values, batch_rows=256)
        assert np.array_equal(mistique.get(store, key).values, values)


def test_reads_are_measured_and_the_next_process_knows(tmp_path: Path) -> None:
    with mistique.open(tmp_path / "s") as store:
        key = put(store, np.arange(100.0))
        for _ in range(3):
            mistique.get(store, key)
    with mistique.open(tmp_path / "s", mode="r") as store:
        assert store.calibration.read_cost("raw").n_observations == 3
        assert "3 reads measured" in repr(mistique.explain(store, key))
