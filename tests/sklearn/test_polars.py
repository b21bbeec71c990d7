"""polars in and polars out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import mistique
from mistique.sklearn import Pipeline
from mistique.store import Store
from tests.capturing import put

if TYPE_CHECKING:
    import pandas as pd

polars = pytest.importorskip("polars")
NUMBERS = ["sqft_living", "grade", "lat"]


@pytest.mark.supported("`set_output` pandas, polars")
def test_frames_of_polars_are_captured_under_their_names_and_run_again(store: Store, homes: pd.DataFrame) -> None:
    X = polars.DataFrame({name: homes[name].to_numpy() for name in NUMBERS})
    pipe = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler()), ("ridge", Ridge())])
    pipe.set_output(transform="polars").set_capture(store, model="homes/polars")
    pipe.fit(X, homes["price"].to_numpy())
    key = "homes/polars@1/train/"
    scaled = mistique.get(store, key + "scale")
    given = pipe[:-1].transform(X)
    assert scaled.columns == tuple(given.columns)
    assert np.array_equal(scaled.values, given.to_numpy())
    assert np.array_equal(mistique.get(store, key + "input").values, X.to_numpy())
    store.drop(key + "scale")
    again = mistique.get(store, key + "scale")
    assert again.plan.chosen.road.startswith("recompute")
    assert np.allclose(again.values, given.to_numpy(), rtol=1e-12)


def test_nulls_and_types_of_polars_are_kept(store: Store) -> None:
    frame = polars.DataFrame(
        {
            "whole": [1, None, 3],
            "yes": [True, None, False],
            "text": ["a", None, ""],
            "kind": polars.Series(["x", None, "x"], dtype=polars.Categorical),
            "real": [0.5, 1.5, None],
        }
    )
    found = mistique.get(store, put(store, frame)).to_frame()
    assert found.dtypes.astype(str).tolist()[:3] == ["Int64", "boolean", "str"]
    assert found["whole"].tolist()[0::2] == [1, 3]
    assert found.isna().to_numpy().sum(axis=0).tolist() == [1, 1, 1, 1, 1]
    assert found["text"][2] == ""
