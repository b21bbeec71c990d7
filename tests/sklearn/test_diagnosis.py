"""The questions of the diagnosis room over a real pipeline on real homes: what was planted is found."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import mistique
from mistique.sklearn import Pipeline, capture
from mistique.store import Store

COLUMNS = ["sqft_living", "grade", "lat", "yr_built", "waterfront"]


@pytest.fixture
def pipe(store: Store, all_homes: pd.DataFrame) -> Pipeline:
    """A ridge over 6,000 homes; served to the next 3,000 once as it was, once by a scaler that somebody refitted."""
    train, valid = all_homes[:6_000], all_homes[6_000:9_000]
    fitted = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/ridge")
    fitted.fit(train[COLUMNS], train["price"])
    capture(fitted, valid[COLUMNS], valid["price"], store=store, dataset="valid")
    return fitted


def test_a_ridge_is_most_wrong_on_the_grandest_homes(store: Store, pipe: Pipeline, all_homes: pd.DataFrame) -> None:
    valid = all_homes[6_000:9_000]
    answer = mistique.slices(store, "homes/ridge@1/valid", k=5)
    assert answer.conditions[0] == (("grade", "11"),)
    assert answer.values[0, 4] < 0.001
    grand = valid["grade"] == 11
    assert answer.members(0).tolist() == valid.index[grand].tolist()
    lost = (pipe.predict(valid[COLUMNS]) - valid["price"]).abs()
    assert answer.overall == pytest.approx(lost.mean())
    assert answer.values[0, :3] == pytest.approx([grand.sum(), lost[grand].mean(), lost[~grand].mean()])


def test_a_scaler_that_was_refitted_is_the_stage_where_serving_parts(
    store: Store, pipe: Pipeline, all_homes: pd.DataFrame
) -> None:
    train = all_homes[:6_000]
    pipe.named_steps["scale"].fit(train.loc[train["sqft_living"] > 2_500, COLUMNS])
    capture(pipe, train[COLUMNS], train["price"], store=store, model="homes/skewed", dataset="serving")
    answer = mistique.drift(store, "homes/ridge@1/train", other="homes/skewed@1/serving")
    assert answer.parted_at == "scale"
    assert not answer.is_drifted[answer.stages == "input"].any()
    row = mistique.trace(store, "homes/ridge@1/train", row=train.index[7], other="homes/skewed@1/serving")
    assert (row.parted_at, row.stage("input").parts.any()) == ("scale", False)
