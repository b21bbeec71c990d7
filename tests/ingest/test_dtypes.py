"""What goes in comes out: every dtype with its nulls, every kind of row label, every size around a row block."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pandas.testing import assert_frame_equal

import mistique
from mistique.store import Store
from tests.capturing import put, put_layer

NUMBERS = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def extremes(dtype: str) -> np.ndarray:
    """The ends of a type, and for floats all that is odd in it."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        info = np.finfo(kind)
        odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.min, info.tiny, info.smallest_subnormal]
        return np.array(odd, kind)
    return np.array([np.iinfo(kind).min, np.iinfo(kind).max, 0, 1], kind)


def back(store: Store, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, captured and asked for again."""
    return mistique.get(store, put(store, frame, labels=frame.index)).to_frame()


def frame_of(values: object) -> pd.DataFrame:
    return pd.DataFrame({"a": values})


@pytest.mark.parametrize("dtype", [*NUMBERS, "bool"])
def test_a_numpy_column_comes_back_bit_by_bit(store: Store, dtype: str) -> None:
    values = np.array([True, False, False]) if dtype == "bool" else extremes(dtype)
    answer = mistique.get(store, put(store, frame_of(values)))
    assert answer.to_frame()["a"].dtype == dtype
    assert answer.values.dtype == dtype
    assert answer.values.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", [*NUMBERS, "bool", "bfloat16"])
@pytest.mark.parametrize("is_layer", [True, False], ids=["layer", "table"])
def test_an_array_comes_back_bit_by_bit(store: Store, dtype: str, is_layer: bool) -> None:
    numpy_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    values = np.random.default_rng(0).integers(0, 256, (5, 4 * numpy_dtype.itemsize), np.uint8)
    values = (values % 2).astype(bool) if dtype == "bool" else values.view(numpy_dtype)
    key = put_layer(store, values) if is_layer else put(store, values)
    found = mistique.get(store, key).values
    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i4"])
def test_the_other_byte_order_keeps_its_values(store: Store, dtype: str) -> None:
    values = np.array([1, -2, 300]).astype(dtype)
    assert mistique.get(store, put(store, values)).values.tolist() == values.tolist()


@pytest.mark.parametrize("dtype", ["str", "string"])
def test_nulls_in_text_stay_null_and_empty_text_stays_empty(store: Store, dtype: str) -> None:
    frame = frame_of(pd.array(["", "B cell", None, pd.NA, np.nan], dtype=dtype))
    key = put(store, frame)
    assert_frame_equal(mistique.get(store, key).to_frame(), frame)
    assert mistique.get(store, key).values.tolist() == [[""], ["B cell"], [None], [None], [None]]


def test_nulls_in_a_column_of_text_objects_stay_null(store: Store) -> None:
    found = back(store, frame_of(pd.Series(["", "None", None, pd.NA, np.nan], dtype=object)))
    assert found["a"].dtype == object
    assert found["a"].isna().tolist() == [False, False, True, True, True]
    assert found["a"].tolist()[:2] == ["", "None"]


@pytest.mark.parametrize("texts", [["", "", ""], [None, None], ["a\0b", "\0\0", "x\0"], ["é\u2028", "🦔", "e\u0301"]])
def test_odd_text_comes_back(store: Store, texts: list[str | None]) -> None:
    frame = frame_of(pd.array(texts, dtype="str"))
    assert_frame_equal(back(store, frame), frame)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)), min_size=1, max_size=30
    )
)
def test_any_text_comes_back(store: Store, texts: list[str | None]) -> None:
    frame = frame_of(pd.array([None if text == "\0" else text for text in texts], dtype="str"))
    assert_frame_equal(back(store, frame), frame)


def test_an_array_of_numpy_text_comes_back(store: Store) -> None:
    values = np.array([["a", "bbb"], ["", "é"]])
    found = mistique.get(store, put(store, values)).values
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("dtype", ["Int8", "Int64", "UInt16", "Float32", "Float64", "boolean"])
@pytest.mark.parametrize("values", [[1, 0, None], [1, 0, 1], [None, None]], ids=["some null", "none null", "all null"])
def test_pandas_nullable_columns_come_back(store: Store, dtype: str, values: list[int | None]) -> None:
    frame = frame_of(pd.array(values, dtype=dtype))
    assert_frame_equal(back(store, frame), frame)


def test_nullable_integers_beyond_what_a_float_holds_come_back(store: Store) -> None:
    frame = frame_of(pd.array([2**62 + 1, None, -(2**63), 2**63 - 1], dtype="Int64"))
    assert_frame_equal(back(store, frame), frame)


@pytest.mark.parametrize(
    "categories",
    [["z", "y", "x", "unused"], [2, 1, 3], [1.5, 0.5], [True, False]],
    ids=["text", "int", "float", "bool"],
)
@pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "unordered"])
def test_categories_come_back_with_nulls_order_and_unused_ones(
    store: Store, categories: list, is_ordered: bool
) -> None:
    values = [categories[0], None, categories[1], categories[0]]
    frame = frame_of(pd.Categorical(values, categories=categories, ordered=is_ordered))
    assert_frame_equal(back(store, frame), frame)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris", "Asia/Kolkata"])
def test_datetimes_come_back_with_nat_unit_and_zone(store: Store, unit: str, zone: str | None) -> None:
    times = pd.to_datetime(["1903-07-01 00:00", None, "2026-03-29 00:59", "2026-10-25 04:00"]).as_unit(unit)
    frame = frame_of(times.tz_localize(zone))
    assert_frame_equal(back(store, frame), frame)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_time_differences_come_back_with_nat_and_unit(store: Store, unit: str) -> None:
    frame = frame_of(pd.to_timedelta([1, None, -86_400], unit="s").as_unit(unit))
    assert_frame_equal(back(store, frame), frame)


@pytest.mark.parametrize("n_rows", [1, 1023, 1024, 1025, 2049])
def test_sizes_around_a_row_block_come_back(store: Store, n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=n_rows),
            "text": pd.array(rng.choice(["", "a", "bb"], n_rows), dtype="str").astype("str"),
            "nullable": pd.array(rng.integers(0, 9, n_rows), dtype="Int64"),
            "kind": pd.Categorical(rng.choice(["u", "v"], n_rows)),
            "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**9, n_rows), unit="s"),
        },
        index=[f"id-{i}" for i in range(n_rows)],
    )
    frame.loc[frame.index[::3], ["number", "text", "nullable", "kind", "at"]] = None
    assert_frame_equal(back(store, frame), frame)


COLUMNS = {
    "f8": lambda n: hnp.arrays(np.float64, n),
    "f2": lambda n: hnp.arrays(np.float16, n),
    "i8": lambda n: hnp.arrays(np.int64, n),
    "u1": lambda n: hnp.arrays(np.uint8, n),
    "bool": lambda n: hnp.arrays(np.bool_, n),
    "Int64": lambda n: lists(st.integers(-(2**63), 2**63 - 1), n).map(lambda v: pd.array(v, dtype="Int64")),
    "boolean": lambda n: lists(st.booleans(), n).map(lambda v: pd.array(v, dtype="boolean")),
    "str": lambda n: lists(st.text("aé \n", max_size=3), n).map(lambda v: pd.array(v, dtype="str")),
    "category": lambda n: lists(st.sampled_from("xyz"), n).map(lambda v: pd.Categorical(v, categories=list("zyx"))),
    "datetime": lambda n: lists(st.integers(-(2**40), 2**40), n).map(lambda v: pd.to_datetime(v, unit="s")),
}


def lists(values: st.SearchStrategy, n: int) -> st.SearchStrategy:
    return st.lists(st.one_of(st.none(), values), min_size=n, max_size=n)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    n_rows = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=5))
    return pd.DataFrame({f"{kind} {i}": draw(COLUMNS[kind](n_rows)) for i, kind in enumerate(kinds)})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames())
def test_any_frame_comes_back(store: Store, frame: pd.DataFrame) -> None:
    assert_frame_equal(back(store, frame), frame)


LABELS = {
    "text": pd.Index(list("abcd")),
    "numbers": pd.Index([7, 3, -1, 3]),
    "floats with nan": pd.Index([1.5, np.nan, 2.0, 3.0]),
    "named": pd.Index(list("abcd"), name="home"),
    "repeated": pd.Index(list("aabb")),
    "datetimes": pd.date_range("2026-01-01", periods=4),
    "datetimes in a zone": pd.date_range("2026-01-01", periods=4, tz="Europe/Paris"),
    "several levels": pd.MultiIndex.from_product([["u", "v"], [1, 2]], names=["zone", None]),
    "categories": pd.CategoricalIndex(list("abab")),
    "a range from elsewhere": pd.RangeIndex(10, 18, 2),
    "a named range": pd.RangeIndex(4, name="n"),
}


@pytest.mark.parametrize("index", LABELS.values(), ids=LABELS.keys())
def test_row_labels_come_back(store: Store, index: pd.Index) -> None:
    frame = pd.DataFrame({"a": np.arange(4.0)}, index=index)
    assert_frame_equal(back(store, frame), frame, check_freq=False)


@pytest.mark.parametrize("index", LABELS.values(), ids=LABELS.keys())
def test_row_labels_come_back_with_a_part_of_the_rows(store: Store, index: pd.Index) -> None:
    frame = pd.DataFrame({"a": np.arange(4.0)}, index=index)
    key = put(store, frame, labels=frame.index)
    found = mistique.get(store, key, rows=slice(1, 3)).to_frame()
    assert_frame_equal(found, frame.iloc[1:3], check_freq=False)


def test_a_label_that_occurs_twice_gives_both_rows(store: Store) -> None:
    key = put(store, np.arange(4.0), labels=pd.Index(list("abab")))
    answer = mistique.get(store, key, rows=["b", "a"])
    assert (answer.values.tolist(), answer.rows.tolist()) == ([1, 3, 0, 2], ["b", "b", "a", "a"])


@pytest.mark.parametrize("make", ["csr_matrix", "csc_matrix", "coo_array"])
def test_a_sparse_matrix_comes_back(store: Store, make: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    values = np.zeros((1030, 7), np.float32)
    values[3, 2], values[1029, 6], values[0, 0] = 1.5, np.nan, -np.inf
    answer = mistique.get(store, put(store, getattr(sparse, make)(values)))
    np.testing.assert_array_equal(answer.values, values)
    assert answer.values.dtype == np.float32


def test_two_columns_of_one_name_both_come_back(store: Store) -> None:
    frame = pd.DataFrame(np.arange(6).reshape(3, 2), columns=["x", "x"])
    assert_frame_equal(back(store, frame), frame)


def test_a_series_and_a_vector_come_back_in_one_dimension(store: Store) -> None:
    assert mistique.get(store, put(store, pd.Series([1, 2, 3], name="y"))).values.tolist() == [1, 2, 3]
    assert mistique.get(store, put(store, [1.5, 2.5])).values.tolist() == [1.5, 2.5]
