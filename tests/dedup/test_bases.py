"""A column that is a function of one that is stored is a table of its values over the numbers that are there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mistique
from mistique.dedup.bases import Bases, first_rows
from mistique.dedup.dictionary import Numbered, numbered
from mistique.store import Store
from tests.capturing import capturing, put

RNG = np.random.default_rng(0)
AREAS = RNG.integers(0, 2000, 20_000) * 10.0


def _numbered(cells: np.ndarray) -> Numbered:
    taken = numbered(cells)
    assert taken is not None
    return taken


def _bases(*columns: np.ndarray) -> Bases:
    bases = Bases()
    for number, column in enumerate(columns):
        bases.remember(b"%d" % number, _numbered(column))
    return bases


@pytest.mark.parametrize("function", [np.log1p, lambda x: x.clip(900, 15_000), lambda x: np.where(x < 400, np.nan, x)])
def test_what_was_made_of_a_column_is_told_by_its_numbers(function: np.ufunc) -> None:
    column = function(AREAS)
    found = _bases(AREAS).find(_numbered(column), column)
    assert found is not None
    assert found.numbers is not None
    np.testing.assert_array_equal(found.numbers, _numbered(AREAS).numbers)
    assert found.values[found.numbers].tobytes() == column.tobytes()


def test_one_cell_that_differs_is_no_function() -> None:
    column = np.log1p(AREAS)
    column[19_999] += 1
    assert _bases(AREAS).find(_numbered(column), column) is None


def test_a_rare_category_is_told_by_the_base_with_the_fewest_values() -> None:
    code = RNG.integers(0, 70, 20_000) * 1.0
    pairs = code * 10 + RNG.integers(0, 3, 20_000)
    column = (code == 69).astype(float)
    found = _bases(AREAS, pairs, code).find(_numbered(column), column)
    assert found is not None
    assert len(found.values) == 70


def test_text_tells_its_categories() -> None:
    texts = np.array(["flat", "house", "", "boat"], object)[RNG.integers(0, 4, 1000)]
    column = (texts == "boat").astype(float)
    found = _bases(texts).find(_numbered(column), column)
    assert found is not None
    assert len(found.values) == 4


def test_a_few_values_are_not_told_by_a_long_table() -> None:
    column = (AREAS > 10_000).astype(float)  # 2 of them, over 2,000 of 20,000 rows
    assert _bases(AREAS).find(_numbered(column), column) is None


@given(st.lists(st.integers(0, 9), min_size=64, max_size=90))
def test_first_rows_are_where_numbers_come_first(cells: list[int]) -> None:
    numbers = _numbered(np.array(cells)).numbers
    assert first_rows(numbers).tolist() == [numbers.tolist().index(n) for n in range(max(numbers) + 1)]


def test_columns_of_all_kinds_come_back_from_a_store_that_tells_them_by_others(store: Store) -> None:
    pd = pytest.importorskip("pandas")
    code = RNG.integers(0, 70, 9000)
    frame = pd.DataFrame(
        {
            "code": code * 1.0,
            "text": pd.Series(code.astype(str)).where(code > 3),
            "is 5": code == 5,
            "small": (code % 7).astype(np.int8),
            "half": (code / 7).astype(np.float32),
            "nullable": pd.array(np.where(code > 60, None, code), "Int64"),
            "category": pd.Categorical(code.astype(str)),
            "day": np.datetime64("2020-01-01", "s") + code.astype("timedelta64[s]"),
            "missing": np.where(code < 9, np.nan, code),
        }
    )
    for part in (frame, frame[::-1].reset_index(drop=True)):
        answer = mistique.get(store, put(store, part), exact=True).to_frame()
        pd.testing.assert_frame_equal(answer, part)


def test_a_later_capture_adds_only_tables_of_values(store: Store) -> None:
    first = put(store, AREAS)
    with capturing(store, model="lab/other") as capture:
        capture.add("log", np.log1p(AREAS))
    later = f"{capture.committed}/train/log"
    sizes = [store.catalog.find(key)[1].stored_nbytes for key in (first, later)]
    assert sizes[1] < 0.75 * sizes[0]
    assert mistique.get(store, later, exact=True).values.tobytes() == np.log1p(AREAS).tobytes()
