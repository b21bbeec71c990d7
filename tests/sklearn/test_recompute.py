"""What was not stored is run again, and comes out alike; a stranger's model is not run without trust."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer, StandardScaler, TargetEncoder

import mistique
from mistique.errors import NoPlanError, UntrustedArtifactError
from mistique.planner.measured import Took
from mistique.sklearn import Pipeline, capture
from mistique.storage.artifacts import Artifact
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["sqft_living", "grade", "lat"]


def forest(store: Store, homes: pd.DataFrame, keep: str) -> Pipeline:
    """Fit and capture an imputer, a scaler and a forest."""
    model = RandomForestRegressor(5, random_state=0)
    pipe = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler()), ("forest", model)])
    pipe.set_capture(store, model=f"homes/{keep}", keep=keep)
    return pipe.fit(homes[COLUMNS], homes["price"])


@pytest.mark.parametrize("name", ["impute", "scale"])
def test_a_stage_that_was_not_stored_is_recomputed_bit_for_bit(store: Store, homes: pd.DataFrame, name: str) -> None:
    forest(store, homes, "all")
    forest(store, homes, "none")
    stored = mistique.get(store, f"homes/all@1/train/{name}")
    again = mistique.get(store, f"homes/none@1/train/{name}")
    assert (stored.plan.chosen.road, again.plan.chosen.road) == ("read", "recompute")
    assert np.array_equal(stored.values, again.values)
    assert again.max_abs_error == 0.0
    assert again.columns == stored.columns


def test_a_dropped_stage_is_recomputed_from_the_stored_stage_before_it(store: Store, homes: pd.DataFrame) -> None:
    forest(store, homes, "all")
    before = mistique.get(store, "homes/all@1/train/scale", rows=list(homes.index[[3, 1400]])).values
    store.drop("homes/all@1/train/scale")
    plan = mistique.explain(store, "homes/all@1/train/scale")
    assert [candidate.road for candidate in plan.candidates] == ["read", "recompute", "recompute from impute"]
    after = mistique.get(store, "homes/all@1/train/scale", rows=list(homes.index[[3, 1400]]))
    assert after.plan.chosen.road.startswith("recompute")
    assert np.array_equal(after.values, before)


def test_a_stage_that_fits_across_folds_is_not_recomputed_for_the_training_data_and_is_for_others(
    store: Store, homes: pd.DataFrame
) -> None:
    pipe = Pipeline([("encode", TargetEncoder(target_type="continuous")), ("ridge", Ridge())])
    pipe.set_capture(store, model="homes/encoded", keep="none").fit(homes[["zipcode"]], homes["price"])
    with pytest.raises(NoPlanError, match="fit_transform and transform differ here"):
        mistique.get(store, "homes/encoded@1/train/encode")
    capture(pipe, homes[["zipcode"]], store=store, dataset="valid", keep="none")
    recomputed = mistique.get(store, "homes/encoded@1/valid/encode").values
    assert np.array_equal(recomputed, pipe[:-1].transform(homes[["zipcode"]]))


def elsewhere(store: Store, patch: pytest.MonkeyPatch, tmp_path: Path, **options: object) -> Store:
    """The same store, opened by somebody with another signing key."""
    patch.setenv("MISTIQUE_CONFIG_DIR", str(tmp_path / "stranger"))
    return mistique.open(store.uri, mode="r", **options)  # type: ignore[arg-type]


def test_a_strangers_forest_can_be_read_and_is_run_only_with_trust(
    store: Store, homes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipe = forest(store, homes, "none")
    key = "homes/none@1/train/"
    with elsewhere(store, monkeypatch, tmp_path) as strange:
        assert mistique.get(strange, key + "prediction").values.tolist() == pipe.predict(homes[COLUMNS]).tolist()
        with pytest.raises(UntrustedArtifactError, match=r"homes/none.*sklearn\.tree.*trust=True") as refused:
            mistique.get(strange, key + "scale")
    with elsewhere(store, monkeypatch, tmp_path, trust=True) as trusting:
        assert mistique.get(trusting, key + "scale").values.shape == (len(homes), 3)
    types = str(refused.value).split("loading it can run: ")[1].split(". What")[0].split(", ")
    with elsewhere(store, monkeypatch, tmp_path, trust=types) as listing:
        assert mistique.get(listing, key + "scale").values.shape == (len(homes), 3)


def test_a_strangers_pickle_is_never_loaded_without_trust(
    store: Store, homes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    double = FunctionTransformer(lambda X: X * 2.0)
    pipe = Pipeline([("double", double), ("ridge", Ridge())]).set_capture(store, model="homes/trap", keep="none")
    pipe.fit(homes[COLUMNS], homes["price"])
    trap, mark = _planted(store, tmp_path)
    with elsewhere(store, monkeypatch, tmp_path) as strange:
        with pytest.raises(UntrustedArtifactError, match="cloudpickle"):
            version = replace(strange.catalog.captures()[0].version, artifact=trap)
            strange.runnable.get(version, took=Took(), calibration=strange.calibration)
        with pytest.raises(UntrustedArtifactError, match="cloudpickle"):
            mistique.get(strange, "homes/trap@1/train/double")
    assert not mark.exists()


class Mark:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def _planted(store: Store, tmp_path: Path) -> tuple[str, Path]:
    """An artifact that leaves a mark when it is loaded, and where."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Mark(mark)))
    assert mark.exists()
    mark.unlink()
    return store._artifacts.put(Artifact("cloudpickle", pickle.dumps(Mark(mark)))), mark


def test_a_team_key_makes_models_of_the_team_run_without_asking(
    store: Store, homes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MISTIQUE_SIGNING_KEY", "the team's")
    forest(store, homes, "none")
    with elsewhere(store, monkeypatch, tmp_path) as colleague:
        assert mistique.get(colleague, "homes/none@1/train/scale").plan.chosen.road == "recompute"
    monkeypatch.delenv("MISTIQUE_SIGNING_KEY")
    with elsewhere(store, monkeypatch, tmp_path) as strange, pytest.raises(UntrustedArtifactError):
        mistique.get(strange, "homes/none@1/train/scale")


def test_a_pipeline_with_a_store_unpickles_where_the_store_is(store: Store) -> None:
    pipe = Pipeline([("ridge", Ridge())]).set_capture(store, model="homes/ridge")
    again = pickle.loads(pickle.dumps(pipe))
    again.fit(np.arange(4.0).reshape(4, 1), np.arange(4.0))
    assert [found.version.model for found in store.catalog.captures()] == ["homes/ridge"]
