"""get: rows, columns and units as people name them; what it says when they do not exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import IntermediateNotFoundError, InvalidKeyError, NoPlanError, QueryError
from mistique.schema import join_path
from mistique.store import Store
from tests.capturing import capturing, put, put_layer


def test_rows_by_label_and_columns_by_name_come_in_the_order_asked(store: Store, homes: pd.DataFrame) -> None:
    key = put(store, homes, labels=homes.index)
    labels, columns = [homes.index[1200], homes.index[3], homes.index[1200]], ["lat", "price"]
    answer = mistique.get(store, key, rows=labels, columns=columns)
    assert answer.rows.tolist() == labels
    assert answer.to_frame().equals(homes.loc[labels, columns])


def test_a_repeated_label_gives_all_of_its_rows(store: Store) -> None:
    key = put(store, np.array([1.0, 2.0, 3.0]), labels=np.array(["a", "b", "a"]))
    assert mistique.get(store, key, rows="a").values.tolist() == [1.0, 3.0]


def test_a_mask_takes_rows_by_position_and_a_series_of_booleans_by_its_index(store: Store) -> None:
    with capturing(store) as capture:
        capture.set_labels(np.array([f"id-{i}" for i in range(5)]))
        capture.add("stage", np.arange(5.0)[:, None])
    key, mask = "lab/model@1/train/stage", np.array([False, True, False, True, False])
    assert mistique.get(store, key, rows=mask).values.tolist() == [[1.0], [3.0]]
    wrong = pd.Series([True, False, True], index=["id-4", "id-3", "id-0"])
    assert mistique.get(store, key, rows=wrong).values.tolist() == [[4.0], [0.0]]
    with pytest.raises(QueryError, match="a mask with a value for each of 5 rows, got 4"):
        mistique.get(store, key, rows=mask[:4])


@pytest.mark.parametrize("ask", [mistique.get, mistique.explain, mistique.topk, mistique.slices, mistique.dead_units])
def test_a_path_in_place_of_a_store_is_told(ask: Callable[[object, str], object], tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"expected a store, as mistique.open\(uri\) gives it"):
        ask(str(tmp_path), "lab/model@1/train")


def test_a_slice_takes_positions(store: Store) -> None:
    key = put(store, np.arange(10.0), labels=np.arange(10) * 100)
    assert mistique.get(store, key, rows=slice(-2, None)).rows.tolist() == [800, 900]


def test_a_unit_of_a_feature_map_keeps_its_positions(store: Store) -> None:
    maps = np.random.default_rng(0).random((30, 3, 5, 4), np.float32)
    key = put_layer(store, maps)
    assert np.array_equal(mistique.get(store, key).values, maps)
    assert np.array_equal(mistique.get(store, key, unit=[2, 0], rows=[7, 1]).values, maps[[7, 1]][..., [2, 0]])


def test_no_rows_give_an_empty_answer(store: Store) -> None:
    assert mistique.get(store, put(store, np.arange(10.0)), rows=[]).values.shape == (0,)


def test_intermediates_answer_to_name_alias_and_position(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("input", np.zeros(3), role="input")
        capture.add(join_path("scale / café@2"), np.ones(3), parents=("input",))
        capture.add("prediction", np.full(3, 2.0), role="prediction", aliases=("ridge",))
        capture.add("target", np.full(3, 9.0), role="target")
    for name, value in [("0", 0), ("-2", 1), ("-1", 2), ("ridge", 2), ("scale %2F café%402", 1), ("target", 9)]:
        assert mistique.get(store, f"lab/model@1/train/{name}").values.tolist() == [value] * 3


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lab/modle@1/train/stage", "no model 'lab/modle'; nearest: lab/model"),
        ("lab/model@7/train/stage", "no version 'lab/model@7'; nearest: lab/model@1"),
        ("lab/model@1/trian/stage", "'trian'; nearest: train"),
        ("lab/model@1/train/stgae", "'stgae'; nearest: stage"),
        ("lab/model@1/train/-9", "no intermediate"),
    ],
)
def test_an_unknown_key_names_the_nearest(store: Store, key: str, said: str) -> None:
    put(store, np.arange(4.0))
    with pytest.raises(IntermediateNotFoundError, match=said):
        mistique.get(store, key)


@pytest.mark.parametrize("key", ["lab/model/train/stage", "a@b@c/d/e", "lab/model@1/train", "", 3, None])
def test_what_is_no_key_says_what_one_looks_like(store: Store, key: object) -> None:
    with pytest.raises(InvalidKeyError, match="project/model@version/dataset/intermediate"):
        mistique.get(store, key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"rows": ["id-8"]}, "no row is labelled 'id-8'; nearest: id-"),
        ({"rows": ["zz"]}, "no row is labelled 'zz'; they begin with 'id-0', 'id-1', 'id-2'"),
        ({"columns": ["sqtf"]}, "has no column 'sqtf'; nearest: sqft"),
        ({"columns": [2]}, "has no column 2"),
        ({"unit": 2}, "unit: expected numbers from 0 to 1"),
        ({"unit": 0, "columns": [0]}, "give columns= or unit="),
    ],
)
def test_unknown_rows_columns_and_units_are_told(store: Store, asked: dict[str, object], said: str) -> None:
    with capturing(store) as capture:
        capture.set_labels(np.array([f"id-{i}" for i in range(5)]))
        capture.add("stage", np.zeros((5, 2)), columns=["sqft", "grade"])
    with pytest.raises(QueryError, match=said):
        mistique.get(store, "lab/model@1/train/stage", **asked)  # type: ignore[arg-type]


def test_a_row_number_beyond_the_last_is_told(store: Store) -> None:
    with pytest.raises(QueryError, match="expected numbers from 0 to 3"):
        mistique.get(store, put(store, np.arange(4.0)), rows=[4])


def test_what_is_neither_stored_nor_recomputable_says_why(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("input", np.arange(4.0), role="input")
        capture.add("stage", np.arange(4.0), keep=False)
    with pytest.raises(NoPlanError, match=r"read: it is not stored; recompute: the model was not kept"):
        mistique.get(store, "lab/model@1/train/stage")


def test_exact_never_gives_a_quantized_value(store: Store) -> None:
    key = put_layer(store, np.random.default_rng(0).random((20, 4), np.float32), codec="power")
    with pytest.raises(NoPlanError, match="lossy codec power"):
        mistique.get(store, key, exact=True)


def test_a_dropped_intermediate_is_not_read_again_and_others_are(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("one", np.arange(4.0))
        capture.add("two", np.arange(4.0) + 1)
    store.drop("lab/model@1/train/one")
    with pytest.raises(NoPlanError, match="not stored"):
        mistique.get(store, "lab/model@1/train/one")
    assert mistique.get(store, "lab/model@1/train/two").values.tolist() == [1, 2, 3, 4]


def test_answers_fit_80_columns_and_escape_html(store: Store, homes: pd.DataFrame) -> None:
    key = put(store, homes.rename(columns={"price": "<b>price</b>"}), labels=homes.index, name="<i>")
    answer = mistique.get(store, key.replace("<i>", "%3Ci%3E"), columns=["<b>price</b>", *homes.columns[3:]])
    table = repr(answer).splitlines()[1:12]
    assert max(map(len, table)) <= 80
    assert "<b>price" not in answer._repr_html_()
    assert "&lt;b&gt;" in answer._repr_html_()
    assert "<i>" not in store._repr_html_()


def test_explain_of_an_answer_tells_what_it_took(store: Store) -> None:
    key = put(store, np.arange(4.0))
    before, after = mistique.explain(store, key), mistique.explain(mistique.get(store, key))
    assert before.seconds is None
    assert after.seconds is not None
    assert "measured: " in repr(after)
    assert after.to_dict()["chosen"] == "read"


def test_a_table_of_feature_maps_shows_each_value_under_the_number_of_its_column(store: Store) -> None:
    maps = np.arange(2 * 2 * 3 * 4, dtype=np.float32).reshape(2, 2, 3, 4)
    answer = mistique.get(store, put_layer(store, maps), unit=[1, 2])
    head, first, *_ = [line.split() for line in repr(answer).splitlines()[1:]]
    frame = answer.to_frame()
    assert head[1:] == [str(name) for name in frame.columns[: len(head) - 1]]
    assert [float(cell) for cell in first[1:]] == frame.iloc[0, : len(head) - 1].tolist()
    assert first[1:3] == [f"{maps[0, 0, 0, 1]:g}", f"{maps[0, 0, 1, 1]:g}"]
