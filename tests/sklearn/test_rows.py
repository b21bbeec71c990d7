"""Steps that drop, add or reorder rows: a question by row label stays right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import mistique
from mistique.errors import QueryError
from mistique.sklearn import Pipeline, capture
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ["sqft_living", "grade", "lat"]


def datasets(store: Store) -> dict[str, list[str]]:
    return {c.dataset: [name for name in c.intermediates if name != "row_label"] for c in store.catalog.captures()}


def sampled(store: Store, homes: pd.DataFrame, sampler: Any, *, as_array: bool = False) -> Any:
    imbalanced = pytest.importorskip("mistique.sklearn.imbalanced", reason="imbalanced-learn is not installed")
    X = homes[NUMBERS].to_numpy() if as_array else homes[NUMBERS]
    steps = [("scale", StandardScaler()), ("sample", sampler), ("model", LogisticRegression())]
    pipe = imbalanced.Pipeline(steps).set_capture(store, model="homes/rare")
    pipe.fit(X, np.asarray(homes["grade"] > 9).astype(int))
    return pipe


@pytest.mark.supported("imbalanced-learn", "samplers' rows are datasets of their own")
@pytest.mark.parametrize("kind", ["RandomOverSampler", "RandomUnderSampler"])
@pytest.mark.parametrize("as_array", [False, True])
def test_what_a_sampler_chose_answers_to_the_labels_of_its_rows(
    store: Store, homes: pd.DataFrame, kind: str, as_array: bool
) -> None:
    imblearn = pytest.importorskip("imblearn")
    sampler = getattr(imblearn.over_sampling if "Over" in kind else imblearn.under_sampling, kind)(random_state=0)
    pipe = sampled(store, homes, sampler, as_array=as_array)
    assert datasets(store) == {
        "train": ["input", "target", "scale"],
        "train+sample": ["sample", "target", "predict_proba", "decision_function", "prediction"],
    }
    key = "homes/rare@1/train+sample/"
    chosen = pipe["sample"].sample_indices_
    labels = np.arange(len(homes)) if as_array else homes.index.to_numpy()
    assert mistique.get(store, key + "prediction").rows.tolist() == labels[chosen].tolist()
    label = labels[chosen[-1]]
    rows = mistique.get(store, key + "sample", rows=[label]).values
    scaled = mistique.get(store, "homes/rare@1/train/scale", rows=[label]).values
    assert len(rows) == np.sum(chosen == chosen[-1])
    assert np.array_equal(rows, np.repeat(scaled, len(rows), axis=0))


def test_rows_that_a_sampler_made_up_have_labels_of_their_own(store: Store, homes: pd.DataFrame) -> None:
    imblearn = pytest.importorskip("imblearn")
    pipe = sampled(store, homes, imblearn.over_sampling.SMOTE(random_state=0), as_array=True)
    rows = mistique.get(store, "homes/rare@1/train+sample/sample").rows
    assert rows[:1500].tolist() == list(range(1500))
    assert rows[1500:].tolist() == list(range(-1, -1 - (len(rows) - 1500), -1))
    again = capture(pipe, homes[NUMBERS].to_numpy()[:20], store=store, dataset="valid")
    assert again == "homes/rare@1"
    predicted = mistique.get(store, "homes/rare@1/valid/prediction").values
    assert predicted.tolist() == pipe.predict(homes[NUMBERS].to_numpy()[:20]).tolist()


def test_what_follows_a_sampler_is_recomputed_from_what_it_gave(store: Store, homes: pd.DataFrame) -> None:
    imblearn = pytest.importorskip("imblearn")
    sampled(store, homes, imblearn.over_sampling.RandomOverSampler(random_state=0))
    key = "homes/rare@1/train+sample/predict_proba"
    stored = mistique.get(store, key).values
    store.drop(key)
    assert np.abs(mistique.get(store, key).values - stored).max() < 1e-9


@pytest.mark.supported("steps that drop or reorder rows", "the same")
@pytest.mark.parametrize("road", ["fit", "capture"])
def test_rows_that_a_function_drops_or_reorders_keep_their_labels(store: Store, homes: pd.DataFrame, road: str) -> None:
    homes.loc[homes.index[::7], "lat"] = np.nan
    drop = FunctionTransformer(lambda rows: rows.dropna())
    order = FunctionTransformer(lambda rows: rows.sort_values("sqft_living"))
    pipe = Pipeline([("drop", drop), ("order", order), ("scale", StandardScaler())])
    if road == "fit":
        pipe.set_capture(store, model="homes/rare").fit_transform(homes[NUMBERS])
    else:
        capture(pipe.fit(homes[NUMBERS]), homes[NUMBERS], store=store, dataset="train", model="homes/rare")
    assert datasets(store) == {"train": ["input"], "train+drop": ["drop"], "train+drop+order": ["order", "scale"]}
    answer = mistique.get(store, "homes/rare@1/train+drop+order/scale")
    kept = homes[NUMBERS].dropna().sort_values("sqft_living")
    assert answer.rows.tolist() == kept.index.tolist()
    label = kept.index[17]
    there = mistique.get(store, "homes/rare@1/train+drop+order/order", rows=[label]).values
    assert np.array_equal(there[0], homes.loc[label, NUMBERS].to_numpy(float))


def test_rows_of_unknown_origin_match_no_others(store: Store, homes: pd.DataFrame) -> None:
    halve = FunctionTransformer(lambda rows: rows[::2])
    pipe = Pipeline([("halve", halve), ("scale", StandardScaler())]).set_capture(store, model="homes/rare")
    pipe.fit_transform(homes[NUMBERS].to_numpy())
    with pytest.raises(QueryError, match="have no row label in common"):
        mistique.col_diff(store, "homes/rare@1/train/input", other="homes/rare@1/train+halve/scale", column=0)
