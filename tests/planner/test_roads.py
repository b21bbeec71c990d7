"""Whatever road answers a question of a real pipeline gives what the pipeline gave, within the bound that it states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import mistique
from mistique.errors import NoPlanError
from mistique.sklearn import Pipeline
from mistique.store import Store
from tests.roads import by_every_road

if TYPE_CHECKING:
    import pandas as pd

N_ROWS = 1500
NUMBERS = ["sqft_living", "sqft_lot", "grade", "lat"]
STAGES = ["columns", "scale", "pca", "prediction"]
KEEPS = ["all", "none", "auto"]


@pytest.fixture(scope="module")
def answers(all_homes: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, np.ndarray]]:
    """A store with one pipeline captured in three ways, and what its stages give by scikit-learn alone."""
    homes = all_homes.iloc[:N_ROWS]
    store = mistique.open(tmp_path_factory.mktemp("roads") / "s.mistique", gamma_min=0.0)
    encode = OneHotEncoder(sparse_output=False, max_categories=8)
    columns = make_column_transformer((SimpleImputer(), NUMBERS), (encode, ["zipcode"]))
    steps = [("columns", columns), ("scale", StandardScaler()), ("pca", PCA(5)), ("forest", RandomForestRegressor(8))]
    X = homes[[*NUMBERS, "zipcode"]]
    pipe = Pipeline(steps).fit(X, homes["price"])
    for keep in KEEPS:
        mistique.sklearn.capture(pipe, X, homes["price"], store=store, dataset=keep, model="homes/m", keep=keep)
    given = {name: pipe[: i + 1].transform(X) for i, name in enumerate(STAGES[:-1])}
    return store, {**given, "prediction": pipe.predict(X)[:, None]}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_road_gives_what_the_pipeline_gave_within_its_bound(
    answers: tuple[Store, dict[str, np.ndarray]], data: st.DataObject
) -> None:
    store, expected = answers
    name, keep = data.draw(st.sampled_from(STAGES)), data.draw(st.sampled_from(KEEPS))
    whole = expected[name]
    n_rows = data.draw(st.sampled_from([1, 7, N_ROWS]))
    first = data.draw(st.integers(0, N_ROWS - n_rows))
    columns = np.sort(data.draw(st.permutations(range(whole.shape[1])))[: data.draw(st.integers(1, whole.shape[1]))])
    rows, exact = np.arange(first, first + n_rows), data.draw(st.booleans())
    roads = 0
    try:
        found = list(by_every_road(store, f"homes/m@1/{keep}/{name}", rows=rows, columns=columns, exact=exact))
    except NoPlanError:
        assert exact
        return
    for values, plan in found:
        wanted = whole[np.ix_(rows, columns)]
        assert np.abs(values.reshape(wanted.shape) - wanted).max() <= (plan.max_abs_error or 0.0), plan.chosen.road
        assert plan.max_abs_error == 0.0 or not exact
        roads += 1
    assert roads > 0


def test_what_was_stored_beside_an_answer_is_the_same_again(answers: tuple[Store, dict[str, np.ndarray]]) -> None:
    store, expected = answers
    key = "homes/m@1/none/pca"
    store.pin(key)
    roads = {plan.chosen.road for _ in range(2) for _, plan in by_every_road(store, key)}
    assert {"read", "recompute"} <= roads
    for values, plan in by_every_road(store, key, columns=np.array([1, 3])):
        assert np.abs(values - expected["pca"][:, [1, 3]]).max() <= (plan.max_abs_error or 0.0)


def test_a_stage_with_chance_in_it_is_never_recomputed_and_the_plan_says_so(store: Store, homes: pd.DataFrame) -> None:
    rng = np.random.default_rng()
    steps = [("noise", FunctionTransformer(lambda X: X + rng.normal(size=X.shape))), ("scale", StandardScaler())]
    Pipeline(steps).set_capture(store, model="homes/noisy").fit(homes[NUMBERS], homes["price"])
    for name in ("noise", "scale"):
        plan = mistique.explain(store, f"homes/noisy@1/train/{name}")
        assert [c.is_possible for c in plan.candidates] == [True, False]
        assert "chance in it" in plan.candidates[1].reason
    store.drop("homes/noisy@1/train/noise")
    with pytest.raises(NoPlanError, match="chance in it"):
        mistique.get(store, "homes/noisy@1/train/noise")
