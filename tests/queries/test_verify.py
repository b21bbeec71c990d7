"""A capture proves itself: what is stored is what the model gives again, or the first stage that differs is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from typer.testing import CliRunner

import mistique
from mistique.cli import app
from mistique.sklearn import Pipeline
from mistique.sklearn.recomputer import recomputer
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["sqft_living", "grade", "lat"]


@pytest.fixture
def fitted(store: Store, homes: pd.DataFrame) -> Pipeline:
    steps = [("scale", StandardScaler()), ("twice", FunctionTransformer(_twice)), ("ridge", Ridge())]
    return Pipeline(steps).set_capture(store, model="homes/m").fit(homes[COLUMNS], homes["price"])


def _twice(X: np.ndarray) -> np.ndarray:
    return X * 2


def changed(store: Store, change: object) -> None:
    """Let the model that lies in the store be another one from now on."""
    from mistique.planner.measured import Took

    (capture,) = store.catalog.captures()
    model = store.runnable.get(capture.version, took=Took(), calibration=store.calibration)
    change(model)  # type: ignore[operator]


def test_a_capture_that_is_sound_says_so_of_each_stage(store: Store, fitted: Pipeline) -> None:
    found = mistique.verify(store, "homes/m@1/train")
    assert [(stage.name, stage.result, stage.n_rows) for stage in found.stages] == [
        ("scale", "equal", 1500),
        ("twice", "equal", 1500),
        ("prediction", "equal", 1500),
    ]
    assert found.is_sound
    assert found.to_dict()["is_sound"] is True
    assert "3 equal, none differs" in repr(found)
    assert "<table>" in found._repr_html_()


def test_a_transformer_that_changed_is_named_and_what_comes_after_it_is_not(store: Store, fitted: Pipeline) -> None:
    changed(store, lambda model: setattr(model[1], "func", lambda X: X * 3))
    found = mistique.verify(store, "homes/m@1/train")
    assert [stage.result for stage in found.stages] == ["equal", "differs", "equal"]
    assert found.first_difference == "twice"
    assert found.stages[1].difference > 1
    assert "the model gives other values than then" in repr(found)


def test_a_stage_with_chance_in_it_is_said_to_have(store: Store, fitted: Pipeline) -> None:
    rng = np.random.default_rng()
    changed(store, lambda model: setattr(model[1], "func", lambda X: X + rng.normal(size=X.shape)))
    stage = mistique.verify(store, "homes/m@1/train/twice").stages[0]
    assert (stage.result, stage.note) == ("differs", "it gives other values each time it runs")


def test_what_cannot_be_recomputed_is_not_checked_and_says_why(store: Store, homes: pd.DataFrame) -> None:
    rng = np.random.default_rng()
    noise = FunctionTransformer(lambda X: X + rng.normal(size=X.shape))
    Pipeline([("noise", noise), ("ridge", Ridge())]).set_capture(store, model="homes/m").fit(
        homes[COLUMNS], homes["price"]
    )
    found = mistique.verify(store, "homes/m@1/train")
    assert found.stages[0].result == "not checked"
    assert "chance in it" in found.stages[0].note
    assert found.is_sound


def test_another_version_of_a_library_is_named(store: Store, fitted: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(recomputer), "environment", lambda _: {"scikit-learn": "0.1"})
    with pytest.warns(mistique.errors.EnvironmentWarning):
        found = mistique.verify(store, "homes/m@1/train")
    assert found.changed[0].endswith("became 0.1")
    assert "since the capture: scikit-learn" in repr(found)


def test_text_and_nulls_are_compared_too(store: Store, homes: pd.DataFrame) -> None:
    frame = homes[["zipcode"]].astype("str")
    steps = [("text", FunctionTransformer(lambda X: X + "!")), ("onehot", OneHotEncoder()), ("ridge", Ridge())]
    Pipeline(steps).set_capture(store, model="homes/m").fit(frame, homes["price"])
    assert mistique.verify(store, "homes/m@1/train").is_sound
    changed(store, lambda model: setattr(model[0], "func", lambda X: X + "?"))
    assert mistique.verify(store, "homes/m@1/train/text").first_difference == "text"


def test_the_command_verifies_every_capture_and_fails_where_something_differs(
    store: Store, fitted: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CliRunner()
    store.close()
    done = run.invoke(app, ["verify", store.uri])
    assert done.exit_code == 0, done.output
    assert "homes/m@1/train" in done.output
    monkeypatch.setattr("tests.queries.test_verify._twice", lambda X: X)
    monkeypatch.setattr("sklearn.preprocessing.StandardScaler.transform", lambda _, X: np.asarray(X) * 1.0)
    done = run.invoke(app, ["verify", store.uri, "homes/m@1/train", "--sample", "10"])
    assert done.exit_code == 1
    assert "the first that differs: scale" in done.output


def test_the_command_explains_a_question(store: Store, fitted: Pipeline) -> None:
    store.close()
    arguments = ["explain", store.uri, "homes/m@1/train/scale", "--rows", "0:10", "--columns", "grade,0"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "10 of 1500 rows, 2 of 3 columns" in done.output
    assert "recompute" in done.output
