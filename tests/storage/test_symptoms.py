"""What users of other stores were hit by, each with the thread that tells of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.store import Store
from tests.capturing import capturing, put
from tests.storage import maintenance


@pytest.mark.slow
def test_maintenance_in_any_order_beside_a_reader_leaves_every_key_as_it_was(store: Store) -> None:
    # TileDB-Py #1885: consolidating and vacuuming in one order made an array unreadable. Fifty orders by
    # `python -m bench.safety orders`.
    wrong, n_read = maintenance.run(store.uri, "symptoms", 4)
    assert wrong == []
    assert n_read > 1


def test_null_text_comes_back_as_null_and_empty_text_as_empty(store: Store) -> None:
    # TileDB-SOMA #2861, TileDB-Py #1848 and #401: "None", "<NA>" and "nan" came back as text.
    values = ["", "B cell", None, pd.NA, float("nan")]
    with capturing(store) as capture:
        for dtype in ("str", "string"):
            capture.add(dtype, pd.DataFrame({"t": pd.array(values, dtype=dtype)}))
    for dtype in ("str", "string"):
        found = mistique.get(store, f"lab/model@1/train/{dtype}").to_frame()["t"]
        assert found.dtype == pd.array(values, dtype=dtype).dtype
        assert found.isna().tolist() == [False, False, True, True, True]
        assert found[:2].tolist() == ["", "B cell"]


def test_dtype_and_order_of_rows_are_as_captured_without_being_told(store: Store) -> None:
    # SAELens #216, #277, #612: written as float32 and read as float16; the shuffled rows came back unshuffled.
    labels = np.random.default_rng(0).permutation(500).tolist()
    for dtype in (np.float16, np.float32, np.float64, np.int8):
        values = (np.random.default_rng(1).normal(size=(500, 6)) * 9).astype(dtype)
        key = put(store, values, labels=labels)
        with mistique.open(store.uri, mode="r") as again:
            found = mistique.get(again, key)
        assert found.values.dtype == dtype
        assert found.values.tobytes() == values.tobytes()
        assert found.rows.tolist() == labels


def test_the_output_alone_can_be_captured(store: Store) -> None:
    # torchlens #46: asking for the output alone gave nothing.
    with capturing(store) as capture:
        capture.append("output", np.eye(5, dtype=np.float32))
    assert mistique.get(store, "lab/model@latest/train/output").values.tolist() == np.eye(5).tolist()
