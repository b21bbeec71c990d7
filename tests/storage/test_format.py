"""docs/format.md is true to the bytes: a reader that knows nothing but what it says reads what was captured."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.store import Store
from tests.capturing import capturing
from tests.reference.raw_reader import columns

RNG = np.random.default_rng(0)
N = 4200  # two row blocks
TABLES = {
    "integers": RNG.integers(-(2**40), 2**40, (N, 3)),
    "small": RNG.integers(0, 7, (N, 2)).astype(np.int16),
    "counting": np.stack([np.arange(N) * 3 - 50, np.full(N, 9)], axis=1),
    "whole": RNG.integers(0, 10_000, (N, 2)).astype(np.float64),
    "texts": np.array([[f"café {i}", ("low", "high", "")[i % 3]] for i in range(N)], "U9"),
}


@pytest.mark.parametrize("is_compacted", [False, True])
def test_another_program_reads_columns_of_numbers_and_texts(store: Store, is_compacted: bool) -> None:
    with capturing(store) as capture:
        for name, table in TABLES.items():
            capture.add(name, table)
    if is_compacted:
        store._usage.compact()
        store._catalog.compact()
    for name, table in TABLES.items():
        found = columns(store.uri, model="lab/model", dataset="train", name=name)
        assert found.dtype == (object if table.dtype.kind == "U" else table.dtype)
        assert np.array_equal(found.T, table), name
