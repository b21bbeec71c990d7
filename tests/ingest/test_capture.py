"""A capture is seen whole or not at all, and what cannot be stored is named."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import (
    CaptureError,
    CaptureWarning,
    IntermediateNotFoundError,
    NotEncodableError,
    UnknownCodecError,
)
from mistique.store import Store
from tests.capturing import capturing, put, put_layer


class Gadget:
    """Something that no cell type holds."""


UNSTORABLE = {
    "objects": (pd.DataFrame({"fine": [1], "odd": [Gadget()]}), r"column 'odd'.*Gadget"),
    "complex numbers": (np.array([[1 + 2j]]), r"column 0.*complex128"),
    "bytes": (pd.DataFrame({"raw": [b"x"]}), r"column 'raw'.*bytes"),
    "a mixed column": (pd.DataFrame({"mix": ["a", 1]}), r"column 'mix'.*int"),
    "periods": (pd.DataFrame({"when": pd.period_range("2026", periods=1, freq="D")}), r"column 'when'.*period"),
    "intervals": (pd.DataFrame({"bin": pd.cut([1, 2], 2)}), r"column 'bin'.*categories of interval"),
    "datetimes without a unit": (np.array(["NaT"], "datetime64"), r"column 0.*datetime64"),
    "rows of different lengths": ([[1], [1, 2]], r"rows of different lengths"),
    "text that is not Unicode": (np.array(["\ud800"], object), r"column 0.*lone surrogate"),
    "a NUL": (np.array(["\0"], object), r"column 0.*NUL"),
    "a number": (5, r"builtins.int"),
    "a dict": ({"a": 1}, r"builtins.dict"),
}


@pytest.mark.parametrize(("value", "names"), UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_what_cannot_be_stored_is_refused_naming_stage_column_and_type(store: Store, value: object, names: str) -> None:
    with pytest.raises(NotEncodableError, match=f"(?s)stage 'clean'.*{names}"):
        put(store, value, name="clean")
    assert store.catalog.captures() == []


@pytest.mark.parametrize(("value", "names"), UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_with_warnings_the_other_stages_are_stored(store: Store, value: object, names: str) -> None:
    with (
        pytest.warns(CaptureWarning, match=f"(?s)clean was not stored.*{names}") as caught,
        capturing(store, on_error="warn") as capture,
    ):
        capture.add("before", np.arange(1.0))
        capture.add("clean", value)
        capture.add("after", np.arange(1.0) + 7)
    assert len(caught) == 1
    assert mistique.get(store, "lab/model@1/train/after").values.tolist() == [7]
    assert mistique.get(store, "lab/model@1/train/before").values.tolist() == [0]
    with pytest.raises(IntermediateNotFoundError):
        mistique.get(store, "lab/model@1/train/clean")


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_an_empty_table_is_refused(store: Store, shape: tuple[int, ...]) -> None:
    with pytest.raises(CaptureError, match="expected at least one"):
        put(store, np.empty(shape))
    assert store.catalog.captures() == []


def test_a_capture_of_nothing_is_refused(store: Store) -> None:
    with pytest.raises(CaptureError, match=r"nothing of lab/model .* 'train'"), capturing(store):
        pass


def test_a_stage_with_other_rows_is_left_out(store: Store) -> None:
    with (
        pytest.warns(CaptureWarning, match="'short' has 2 rows, expected 3"),
        capturing(store, on_error="warn") as capture,
    ):
        capture.add("input", np.arange(3.0), role="input")
        capture.add("short", np.arange(2.0))
        capture.add("last", np.arange(3.0))
    found = store.catalog.captures()[0].intermediates
    assert list(found) == ["input", "last"]


def test_a_stage_with_other_rows_is_an_error_when_errors_are_asked_for(store: Store) -> None:
    with pytest.raises(CaptureError, match="'short' has 2 rows"), capturing(store) as capture:
        capture.add("input", np.arange(3.0), role="input")
        capture.add("short", np.arange(2.0))
    assert store.catalog.captures() == []


def test_labels_with_other_rows_are_left_out(store: Store) -> None:
    with pytest.warns(CaptureWarning, match="row_label"):
        key = put(store, np.arange(3.0), labels=["a", "b"], on_error="warn")
    assert mistique.get(store, key).rows.tolist() == [0, 1, 2]


def test_an_exception_inside_a_capture_leaves_nothing_to_see(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), capturing(store) as capture:
        capture.add("stage", np.arange(5000.0))
        capture.append("layer", np.zeros((5000, 64), np.float32))
        raise KeyboardInterrupt
    assert store.catalog.captures() == []
    assert mistique.open(store.uri, mode="r").catalog.captures() == []


def test_a_capture_after_a_failed_one_is_version_1(store: Store) -> None:
    with pytest.raises(NotEncodableError):
        put(store, np.array([Gadget()], object))
    assert put(store, np.arange(3.0)) == "lab/model@1/train/stage"


def test_nothing_is_seen_before_the_capture_ends(store: Store) -> None:
    reader = mistique.open(store.uri, mode="r")
    with capturing(store) as capture:
        capture.append("layer", np.zeros((3000, 8), np.float32))
        assert reader.catalog.captures() == []
    assert len(reader.catalog.captures()) == 1


@pytest.mark.parametrize("is_layer", [True, False], ids=["layer", "table"])
def test_an_array_changed_in_place_afterwards_changes_nothing_captured(store: Store, is_layer: bool) -> None:
    values = np.arange(30.0).reshape(10, 3)
    before = values.copy()
    with capturing(store) as capture:
        capture.append("x", values) if is_layer else capture.add("x", values)
        values[:] = -1
    assert mistique.get(store, "lab/model@1/train/x").values.tolist() == before.tolist()


def test_a_frame_changed_in_place_afterwards_changes_nothing_captured(store: Store) -> None:
    frame = pd.DataFrame(
        {"t": pd.array(["a", "b"], dtype="str"), "n": [1.0, 2.0], "i": pd.array([1, None], dtype="Int64")}
    )
    before = frame.copy(deep=True)
    with capturing(store) as capture:
        capture.add("x", frame)
        frame.loc[:, "n"] = -1.0
        frame.loc[:, "t"] = "changed"
        frame.loc[0, "i"] = 9
    pd.testing.assert_frame_equal(mistique.get(store, "lab/model@1/train/x").to_frame(), before)


def test_a_value_already_taken_is_left_as_it_was(store: Store) -> None:
    values = np.arange(12.0).reshape(4, 3)
    values.flags.writeable = False
    put(store, values)
    put_layer(store, values)
    assert values.tolist() == np.arange(12.0).reshape(4, 3).tolist()


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 1000, 1024, 3000])
def test_the_batches_of_a_layer_do_not_show_in_the_answer(store: Store, batch_rows: int) -> None:
    values = np.random.default_rng(1).normal(size=(2100 if batch_rows > 1 else 65, 5)).astype(np.float32)
    found = mistique.get(store, put_layer(store, values, batch_rows=batch_rows)).values
    assert found.tobytes() == values.tobytes()


def test_a_batch_of_another_shape_is_refused(store: Store) -> None:
    with (
        pytest.raises(CaptureError, match=r"'layer': expected rows of shape \(4,\).* got \(5,\)"),
        capturing(store) as c,
    ):
        c.append("layer", np.zeros((2, 4)))
        c.append("layer", np.zeros((2, 5)))


def test_two_stages_of_one_name_are_refused(store: Store) -> None:
    with pytest.raises(CaptureError, match="two intermediates are named 'a'"), capturing(store) as capture:
        capture.add("a", np.zeros(2))
        capture.add("a", np.zeros(2))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"codec": "zip"}, UnknownCodecError),
        ({"on_error": "ignore"}, CaptureError),
        ({"dataset": "a/b"}, CaptureError),
        ({"dataset": ""}, CaptureError),
        ({"model": ""}, CaptureError),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_written(store: Store, options: dict, error: type) -> None:
    with pytest.raises(error):
        put(store, np.zeros(2), **options)
    assert store.catalog.captures() == []


def test_a_quantizer_leaves_what_is_no_float_and_what_is_no_stage_exact(store: Store) -> None:
    frame = pd.DataFrame({"f": np.linspace(0, 1, 50), "i": np.arange(50), "t": pd.array(["x"] * 50, dtype="str")})
    with capturing(store, codec="power") as capture:
        capture.add("input", frame, role="input")
        capture.add("stage", frame)
    given, coded = (mistique.get(store, f"lab/model@1/train/{name}") for name in ("input", "stage"))
    pd.testing.assert_frame_equal(given.to_frame(), frame)
    pd.testing.assert_frame_equal(coded.to_frame()[["i", "t"]], frame[["i", "t"]])
    assert given.max_abs_error == 0.0
    error = np.abs(coded.to_frame()["f"] - frame["f"]).max()
    assert 0 < error <= coded.max_abs_error


def test_names_with_slashes_ats_spaces_and_accents_are_found_by_their_keys(store: Store) -> None:
    from mistique.schema import Key, join_path

    path = join_path("scale / café@2", "50%")
    with capturing(store, model="my lab/modèle home") as capture:
        capture.add(path, np.arange(3.0))
    key = Key("my lab/modèle home", "latest", "train", path)
    assert mistique.get(store, key).values.tolist() == [0, 1, 2]
    assert mistique.get(store, str(key)).values.tolist() == [0, 1, 2]
    assert Key.parse(str(key)) == key


def test_no_warning_comes_of_a_capture_that_went_well(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put(store, pd.DataFrame({"a": [1.0, np.nan, np.inf]}), on_error="warn")


def test_a_number_for_each_row_is_an_intermediate(store: Store) -> None:
    key = put_layer(store, np.arange(70.0))
    assert (mistique.get(store, key).values == np.arange(70.0)).all()
