"""What a read leaves behind, and what a small buffer does not change."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import mistique
from mistique.planner import probe
from mistique.planner.execute import question_of
from mistique.planner.measured import read_stored
from mistique.sklearn import Pipeline
from mistique.store import Store
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
        for _ in range(4):  # the first loads what decodes it
            mistique.get(store, key)
    with mistique.open(tmp_path / "s", mode="r") as store:
        assert store.calibration.read_cost("raw table").n_observations == 3
        assert "3 reads measured" in repr(mistique.explain(store, key))


def test_a_store_that_came_from_another_machine_is_measured_anew_within_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def captured(store: Store) -> None:
        rows = np.random.default_rng(0).random((5000, 3))
        steps = [("scale", StandardScaler()), ("ridge", Ridge())]
        Pipeline(steps).set_capture(store, model="lab/m").fit(rows, rows[:, 0])

    key = "lab/m@1/train/scale"
    with mistique.open(tmp_path / "s") as store:
        captured(store)
        assert "as measured at capture on" not in repr(mistique.explain(store, key))
        assert store.calibration.read_cost("raw table").n_observations > 0
    monkeypatch.setattr("mistique.storage.usage.host", lambda: "elsewhere")
    with mistique.open(tmp_path / "s") as moved:
        assert moved.calibration.read_cost("raw table").n_observations == 0
        monkeypatch.setattr("mistique.planner.probe.MAX_SECONDS", 0.0)
        plan = mistique.explain(moved, key)
        assert "on another machine: a guess here" in repr(plan)
    with mistique.open(tmp_path / "s") as again:
        monkeypatch.setattr("mistique.planner.probe.MAX_SECONDS", 2.0)
        plan = mistique.explain(again, key)
        assert "guess" not in repr(plan)
        assert again.calibration.n_runs(question_of(again, *again.catalog.find(key)).model) > 0


@pytest.mark.parametrize(("tick_seconds", "n_reads"), [(0.0, 4), (0.2, 2), (0.4, 1), (3.0, 0)])
def test_a_calibration_begins_no_read_that_may_go_beyond_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tick_seconds: float, n_reads: int
) -> None:
    rows = np.random.default_rng(0).random((5000, 3))
    steps = [("scale", StandardScaler()), ("ridge", Ridge())]
    with mistique.open(tmp_path / "s") as store:
        Pipeline(steps).set_capture(store, model="lab/m").fit(rows, rows[:, 0])
    monkeypatch.setattr("mistique.storage.usage.host", lambda: "elsewhere")
    # A clock that is so much later whenever it is looked at: a slow disk.
    clock, made = count(), []
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: next(clock) * tick_seconds))
    monkeypatch.setattr(probe, "read_stored", lambda *a, **k: made.append(a) or read_stored(*a, **k))
    with mistique.open(tmp_path / "s", mode="r") as moved:
        mistique.explain(moved, "lab/m@1/train/scale")
    assert len(made) == n_reads


def test_what_was_not_measured_on_this_machine_is_said_to_be_a_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).random((50, 3))
    with mistique.open(tmp_path / "s") as store:
        Pipeline([("ridge", Ridge())]).set_capture(store, model="lab/m", keep="none").fit(rows, rows[:, 0])
        plan = mistique.explain(store, "lab/m@1/train/prediction")
        assert "guess" not in repr(plan)
        monkeypatch.setattr(type(store.runnable), "is_imported", lambda *_: False)
        assert "guessed: importing sklearn" in repr(mistique.explain(store, "lab/m@1/train/prediction"))


def test_what_loading_and_running_a_model_took_is_known_to_the_next_process(tmp_path: Path) -> None:
    rows, key = np.random.default_rng(0).random((50, 3)), "lab/m@1/train/scale"
    steps = [("scale", StandardScaler()), ("ridge", Ridge())]
    with mistique.open(tmp_path / "s", gamma_min=float("inf"), memory_nbytes=0) as store:
        Pipeline(steps).set_capture(store, model="lab/m", keep="none").fit(rows, rows[:, 0])
        took = [mistique.get(store, key).plan.took for _ in range(2)]
    assert "load" in took[0]
    assert "load" not in took[1]
    with mistique.open(tmp_path / "s", mode="r") as store:
        capture, node = store.catalog.find(key)
        assert store.calibration.is_known("load", capture.version.artifact)
        assert store.calibration.n_runs(question_of(store, capture, node).model) == 2
        assert "2 such runs measured" in repr(mistique.explain(store, key))


def test_no_calibration_where_there_is_nothing_to_choose(store: Store) -> None:
    key = put(store, np.arange(100.0))
    plan = mistique.explain(store, key)
    assert "no read measured yet: a first guess" in repr(plan)


def test_a_plan_says_afterwards_what_it_really_took_and_read(store: Store) -> None:
    key = put(store, np.arange(100.0))
    before = mistique.explain(store, key)
    assert before.to_dict()["took"] is None
    assert "measured: " not in repr(before)
    plan = mistique.explain(mistique.get(store, key))
    said = plan.to_dict()
    assert said["took"] == {"read": plan.took["read"]}  # type: ignore[index]
    assert said["bytes"] == plan.candidates[0].predicted_nbytes
    assert plan.seconds is not None
    assert plan.seconds >= plan.took["read"] > 0  # type: ignore[index]
    for text in (repr(plan), plan._repr_html_()):
        assert "measured: " in text
        assert " read" in text


def test_a_plan_in_a_notebook_is_a_table_of_every_road_and_no_name_is_taken_for_html(store: Store) -> None:
    key = put(store, np.arange(100.0), name="<i>").replace("<i>", "%3Ci%3E")
    before, after = mistique.explain(store, key)._repr_html_(), mistique.get(store, key).plan._repr_html_()
    assert before.count("<tr>") == 1 + len(mistique.explain(store, key).candidates)
    assert "<td>></td>" not in before
    assert "&gt;" in before
    assert "<i>" not in before
    assert "measured: " not in before
    assert "measured: " in after


def test_a_capture_that_keeps_nothing_keeps_what_recomputing_needs(store: Store) -> None:
    rows = np.random.default_rng(0).random((50, 3))
    steps = [("scale", StandardScaler()), ("ridge", Ridge())]
    Pipeline(steps).set_capture(store, model="lab/m", keep="none").fit(rows, rows[:, 0])
    (capture,) = store.catalog.captures()
    assert capture.stored == {"input", "target", "prediction"}
    assert capture.version.artifact is not None
    assert np.array_equal(mistique.get(store, "lab/m@1/train/scale").values, StandardScaler().fit_transform(rows))
