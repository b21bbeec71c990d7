"""A row through every stage, and the first stage at which two part."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import IntermediateNotFoundError, QueryError
from mistique.store import Store
from tests.capturing import capturing, put


def captured(
    store: Store, *, scale: float = 1.0, dataset: str = "train", model: str = "lab/model", **more: object
) -> None:
    """Four rows of a frame through two stages and a prediction."""
    given = pd.DataFrame({"zone": pd.array(["n", "s", "n", None], dtype="str"), "sqft": [10.0, 20.0, 10.0, np.nan]})
    with capturing(store, model=model, dataset=dataset) as capture:
        capture.set_labels(["a", "b", "c", "d"])
        capture.add("input", given, role="input")
        capture.add("scale", pd.DataFrame({"sqft": given["sqft"] * scale, "one": np.ones(4)}))
        for name, value in more.items():
            capture.add(name, value)
        capture.add("prediction", given["sqft"].to_numpy() * scale + 1, role="prediction")
        capture.add("target", np.array([1.0, 2.0, 3.0, 4.0]), role="target")


def test_a_row_alone_shows_names_and_values_of_every_stage(store: Store) -> None:
    captured(store, scale=3.0)
    answer = mistique.trace(store, "lab/model@1/train", row="b")
    assert answer.rows.tolist() == ["input/zone", "input/sqft", "scale/sqft", "scale/one", "prediction/0", "target/0"]
    assert answer.values[:, 0].tolist() == ["s", 20.0, 60.0, 1.0, 61.0, 2.0]
    assert (answer.columns, answer.parted_at, answer.is_beside) == (("b",), None, False)
    frame = answer.to_frame()
    assert frame.columns.tolist() == ["stage", "column", "b"]
    assert frame[frame["stage"] == "scale"]["b"].tolist() == [60.0, 1.0]


def test_two_rows_part_where_their_values_do(store: Store) -> None:
    captured(store)
    answer = mistique.trace(store, "lab/model@1/train", row="a", other_row="b")
    assert answer.parted_at == "input"
    assert answer.stage("input").parts.tolist() == [True, True]
    assert answer.stage("scale").parts.tolist() == [True, False]
    assert answer.stage("scale").differences.tolist() == [10.0, 0.0]
    assert answer.to_frame()["difference"].dropna().tolist() == [10.0, 10.0, 0.0, 10.0, 1.0]


def test_rows_that_are_alike_part_nowhere_though_their_targets_do(store: Store) -> None:
    captured(store)
    answer = mistique.trace(store, "lab/model@1/train", row="a", other_row="c")
    assert answer.parted_at is None
    assert answer.stages[-1].name == "target"
    assert answer.stages[-1].parts.tolist() == [True]
    assert "they part nowhere" in repr(answer)


def test_null_and_nan_are_alike_and_part_from_values(store: Store) -> None:
    captured(store)
    assert mistique.trace(store, "lab/model@1/train", row="d", other_row="d").parted_at is None
    answer = mistique.trace(store, "lab/model@1/train", row="a", other_row="d")
    assert answer.stage("input").parts.tolist() == [True, True]


def test_two_versions_part_at_the_stage_that_changed(store: Store) -> None:
    captured(store)
    captured(store, scale=2.0)
    answer = mistique.trace(store, "lab/model@1/train", other="lab/model@2/train", row="b")
    assert (answer.parted_at, answer.columns) == ("scale", ("model@1", "model@2"))
    assert answer.stage("scale").relative_distance == pytest.approx(20 / np.hypot(40, 1))
    assert "they part first at scale" in repr(answer)


def test_two_datasets_are_matched_by_label_and_called_by_their_names(store: Store) -> None:
    captured(store)
    captured(store, dataset="valid", scale=2.0)
    answer = mistique.trace(store, "lab/model@1/train", other="lab/model@latest/valid", row="b")
    assert (answer.parted_at, answer.columns) == ("scale", ("train", "valid"))


def test_a_stage_of_one_side_is_shown_and_does_not_count(store: Store) -> None:
    captured(store)
    captured(store, model="lab/two", clip=np.zeros(4))
    answer = mistique.trace(store, "lab/model@1/train", other="lab/two@1/train", row="b")
    assert answer.parted_at is None
    assert answer.stage("clip").values.tolist() == [[None, 0.0]]
    assert "only one has clip" in repr(answer)


def test_a_column_of_one_side_parts_its_stage(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("input", pd.DataFrame({"a": [1.0], "b": [1.0]}), role="input")
    with capturing(store) as capture:
        capture.add("input", pd.DataFrame({"a": [1.0], "c": [1.0]}), role="input")
    answer = mistique.trace(store, "lab/model@1/train", other="lab/model@2/train", row=0)
    assert answer.parted_at == "input"
    assert answer.stage("input").parts.tolist() == [False, True, True]


def test_values_within_their_error_bounds_do_not_part(store: Store) -> None:
    maps = np.random.default_rng(0).random((50, 4, 4, 3), np.float32)
    for codec in ("raw", "power"):
        with capturing(store, codec=codec) as capture:
            capture.append("maps", maps)
    alike = mistique.trace(store, "lab/model@1/train", other="lab/model@2/train", row=3)
    assert alike.parted_at is None
    assert np.abs(alike.stages[0].differences).max() > 0
    apart = mistique.trace(store, "lab/model@1/train", row=3, other_row=4)
    assert apart.parted_at == "maps"
    flat = maps.transpose(0, 3, 1, 2).reshape(50, -1).astype(float)
    assert apart.stages[0].differences.tolist() == (flat[4] - flat[3]).tolist()
    assert apart.stages[0].columns == tuple(map(str, range(48)))


def test_a_question_that_makes_no_sense_says_what_was_expected(store: Store) -> None:
    captured(store)
    with pytest.raises(QueryError, match="expected a dataset of a version"):
        mistique.trace(store, "lab/model@1/train/scale", row="a")
    with pytest.raises(QueryError, match="no row is labelled 'z'"):
        mistique.trace(store, "lab/model@1/train", row="z")
    with pytest.raises(QueryError, match="the label of one row"):
        mistique.trace(store, "lab/model@1/train", row=["a", "b"])
    with pytest.raises(QueryError, match="no stage 'scael'; there are: input, scale"):
        mistique.trace(store, "lab/model@1/train", row="a").stage("scael")
    with pytest.raises(IntermediateNotFoundError, match="nearest: lab/model@1"):
        mistique.trace(store, "lab/model@7/train", row="a")


def test_of_rows_with_one_label_the_first_is_taken_and_that_is_said(store: Store) -> None:
    key = put(store, np.array([1.0, 2.0]), labels=["a", "a"]).rpartition("/")[0]
    answer = mistique.trace(store, key, row="a")
    assert answer.values.tolist() == [[1.0]]
    assert "the first of 2 rows labelled a" in repr(answer)
