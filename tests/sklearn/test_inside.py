"""Pipelines as people have them: what is inside of their steps is captured under readable keys, as it was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sklearn
import sklearn.pipeline
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDRegressor
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, KFold, TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder

import mistique
from mistique.errors import CaptureWarning
from mistique.sklearn import Pipeline, capture
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ["sqft_living", "grade", "lat"]
KEY = "homes/x@1/train/"


class Tripled(TransformerMixin, BaseEstimator):
    """Somebody's own code, which no one vouches for."""

    def fit(self, X: Any, y: Any = None) -> Tripled:
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        return X * 3


def prepare(**options: Any) -> ColumnTransformer:
    numbers = sklearn.pipeline.Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    branches = [
        ("num", numbers, NUMBERS),
        ("zip", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["zipcode"]),
        ("gone", "drop", ["view"]),
        ("kept", "passthrough", ["floors"]),
    ]
    return ColumnTransformer(branches, **options)


def fitted(store: Store, X: Any, y: Any, *steps: Any, **settings: Any) -> Pipeline:
    pipe = Pipeline([*steps]).set_capture(store, model="homes/x", **settings)
    pipe.fit(X, y)
    return pipe


def names(store: Store) -> list[str]:
    """Of the newest capture, without row labels, input and target."""
    return [name for name in store.catalog.captures()[-1].intermediates if name not in ("row_label", "input", "target")]


def values(store: Store, name: str, **asked: Any) -> np.ndarray:
    return mistique.get(store, KEY + name, **asked).values


@pytest.mark.supported("nested Pipeline, ColumnTransformer, FeatureUnion", "every inner stage, in fit and in `capture`")
@pytest.mark.supported("`passthrough`, `drop`", "as what came in; not at all")
def test_branches_of_a_column_transformer_and_the_steps_of_their_pipelines_are_stages(
    store: Store, homes: pd.DataFrame
) -> None:
    pipe = fitted(store, homes, homes["price"], ("prepare", prepare()), ("ridge", Ridge()))
    inside = ["prepare/num/fill", "prepare/num/scale", "prepare/zip", "prepare/kept"]
    assert names(store) == [*inside, "prepare", "prediction"]
    numbers = pipe["prepare"].named_transformers_["num"]
    filled = numbers["fill"].transform(homes[NUMBERS])
    assert np.array_equal(values(store, "prepare/num/fill"), filled)
    assert np.array_equal(values(store, "prepare/num/scale"), numbers["scale"].transform(filled))
    assert np.array_equal(values(store, "prepare/num"), values(store, "prepare/num/scale"))
    assert np.array_equal(values(store, "prepare/kept")[:, 0], homes["floors"])
    assert np.array_equal(values(store, "prepare"), pipe["prepare"].transform(homes))
    answer = mistique.get(store, KEY + "prepare/num/scale")
    assert answer.columns == tuple(NUMBERS)
    assert answer.rows.tolist() == homes.index.tolist()


def test_positions_count_the_steps_and_not_what_is_inside_of_them(store: Store, homes: pd.DataFrame) -> None:
    fitted(store, homes, homes["grade"] > 8, ("prepare", prepare()), ("model", LogisticRegression(max_iter=500)))
    keys = [mistique.get(store, f"{KEY}{position}", rows=slice(0, 1)).key for position in (0, 1, -2, -1)]
    assert [key.removeprefix(KEY) for key in keys] == ["input", "prepare", "prepare", "prediction"]


@pytest.mark.supported("the same, recomputed", "bit for bit, within what was measured")
@pytest.mark.parametrize("road", ["fit", "capture"])
def test_what_is_inside_is_recomputed_bit_for_bit(store: Store, homes: pd.DataFrame, road: str) -> None:
    union = FeatureUnion([("all", StandardScaler()), ("few", PCA(2))], transformer_weights={"few": 2.0})
    steps = ("prepare", prepare(remainder=FunctionTransformer(lambda rows: rows.iloc[:, :1]))), ("union", union)
    train = homes[[*NUMBERS, "zipcode", "view", "floors", "price"]]
    if road == "fit":
        fitted(store, train, train["price"], *steps, ("ridge", Ridge()))
    else:
        plain = sklearn.pipeline.Pipeline([*steps, ("ridge", Ridge())]).fit(train, train["price"])
        capture(plain, train, train["price"], store=store, dataset="train", model="homes/x")
    inside = [name for name in names(store) if "/" in name]
    assert set(inside) >= {"prepare/num/fill", "prepare/remainder", "union/all", "union/few"}
    for name in inside:
        stored = values(store, name)
        difference = store.catalog.find(KEY + name)[1].recompute_difference
        assert difference is not None
        store.drop(KEY + name)
        again = values(store, name)
        assert np.abs(again.astype(float) - stored.astype(float)).max() <= max(difference, 1e-9)


def test_a_nested_pipeline_answers_to_its_own_name_and_to_that_of_its_last_step(
    store: Store, homes: pd.DataFrame
) -> None:
    inner = sklearn.pipeline.Pipeline([("scale", StandardScaler()), ("pca", PCA(2))])
    model = sklearn.pipeline.Pipeline([("again", StandardScaler()), ("ridge", Ridge())])
    pipe = fitted(store, homes[NUMBERS], homes["price"], ("inner", inner), ("model", model))
    assert names(store) == ["inner/scale", "inner", "model/again", "prediction"]
    assert np.array_equal(values(store, "inner/pca"), values(store, "inner"))
    for name in ("model/ridge", "model", "-1"):
        assert np.array_equal(values(store, name), pipe.predict(homes[NUMBERS]))


def test_the_fit_and_the_fitted_model_are_as_without_capture(store: Store, homes: pd.DataFrame) -> None:
    plain = sklearn.pipeline.Pipeline([("prepare", prepare()), ("ridge", Ridge())]).fit(homes, homes["price"])
    ours = fitted(store, homes, homes["price"], ("prepare", prepare()), ("ridge", Ridge()))
    assert np.array_equal(plain["ridge"].coef_, ours["ridge"].coef_)
    for part in (ours["prepare"], clone(ours["prepare"])):
        assert part.get_params()["num__memory"] is None
        assert "_hstack" not in vars(part)
    assert vars(plain["prepare"]).keys() == vars(ours["prepare"]).keys()
    assert ours["prepare"].named_transformers_["num"].memory is None


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_union_within_a_branch_is_captured_as_it_was_computed(
    store: Store, homes: pd.DataFrame, n_jobs: int | None
) -> None:
    union = FeatureUnion([("few", PCA(2)), ("mine", Tripled())], n_jobs=n_jobs)
    nested = sklearn.pipeline.Pipeline([("scale", StandardScaler()), ("union", union)])
    columns = ColumnTransformer([("mine", Tripled(), ["lat"])])
    prepared = ColumnTransformer([("num", nested, NUMBERS), ("columns", columns, ["lat"])])
    pipe = fitted(store, homes[NUMBERS], homes["price"], ("prepare", prepared), ("ridge", Ridge()))
    inside = ["num/scale", "num/union/few", "num/union/mine", "num/union", "columns/mine", "columns"]
    assert names(store)[:-2] == [f"prepare/{name}" for name in inside]
    scaled = StandardScaler().fit_transform(homes[NUMBERS])
    assert np.array_equal(values(store, "prepare/num/union/mine"), scaled * 3)
    assert np.array_equal(values(store, "prepare/num/union/few"), PCA(2).fit_transform(scaled))
    inner = pipe["prepare"].named_transformers_
    for part in (columns, union, pipe["prepare"], inner["num"]["union"], inner["columns"]):
        assert not {"_hstack", "__sklearn_clone__"} & set(vars(part))


def test_a_union_within_a_branch_of_another_process_is_left_as_it_was(store: Store, homes: pd.DataFrame) -> None:
    union = FeatureUnion([("few", StandardScaler()), ("more", StandardScaler())])
    prepared = ColumnTransformer([("num", union, NUMBERS), ("again", clone(union), NUMBERS)], n_jobs=2)
    pipe = fitted(store, homes[NUMBERS], homes["price"], ("prepare", prepared), ("ridge", Ridge()))
    assert "prepare/num/few" in names(store)
    for part in (union, *(pipe["prepare"].named_transformers_[name] for name in ("num", "again"))):
        assert not {"_hstack", "__sklearn_clone__"} & set(vars(part))


def test_what_an_encoder_gave_across_folds_inside_a_branch_is_what_is_stored(store: Store, homes: pd.DataFrame) -> None:
    branch = sklearn.pipeline.Pipeline([("mean", TargetEncoder(cv=KFold(5))), ("scale", StandardScaler())])
    encode = ColumnTransformer([("zip", branch, ["zipcode"])])
    fitted(store, homes, homes["price"], ("encode", encode), ("ridge", Ridge()))
    given = TargetEncoder(cv=KFold(5)).fit_transform(homes[["zipcode"]], homes["price"])
    assert np.array_equal(values(store, "encode/zip/mean"), given)
    assert store.catalog.find(KEY + "encode/zip/mean")[1].recompute_difference is None


@pytest.mark.supported("`set_output` pandas, polars", "frames, under their names")
@pytest.mark.parametrize("container", ["pandas", "default"])
def test_set_output_reaches_the_branches(store: Store, homes: pd.DataFrame, container: str) -> None:
    steps = ("prepare", prepare(verbose_feature_names_out=False)), ("ridge", Ridge())
    pipe = Pipeline([*steps]).set_output(transform=container).set_capture(store, model="homes/x")
    pipe.fit(homes, homes["price"])
    _, node = store.catalog.find(KEY + "prepare/num/scale")
    assert node.container == ("frame" if container == "pandas" else "matrix")
    assert node.columns == tuple(NUMBERS)


@pytest.mark.supported("`memory=`")
def test_what_a_cache_or_another_process_gave_is_found_again_where_it_is_certain_and_else_said(
    store: Store, homes: pd.DataFrame, tmp_path: Any
) -> None:
    for _ in range(2):
        pipe = Pipeline([("prepare", prepare()), ("ridge", Ridge())], memory=str(tmp_path))
        pipe.set_capture(store, model="homes/x").fit(homes, homes["price"])
    assert names(store)[:2] == ["prepare/num/fill", "prepare/num/scale"]
    union = FeatureUnion([("scale", StandardScaler()), ("mine", Tripled())])
    pipe = Pipeline([("union", union), ("ridge", Ridge())], memory=str(tmp_path))
    with pytest.warns(CaptureWarning, match="^union/mine was not stored: it was computed in another process") as told:
        pipe.set_capture(store, model="homes/x").fit(homes[NUMBERS], homes["price"])
    assert len(told) == 1
    assert names(store) == ["union/scale", "union", "prediction"]


def test_branches_that_run_in_other_processes_are_captured(store: Store, homes: pd.DataFrame) -> None:
    fitted(store, homes, homes["price"], ("prepare", prepare(n_jobs=2)), ("ridge", Ridge()))
    assert names(store)[:4] == ["prepare/num/fill", "prepare/num/scale", "prepare/zip", "prepare/kept"]


def test_unchanged_branches_of_a_second_fit_take_no_bytes(store: Store, homes: pd.DataFrame) -> None:
    for width in (2, 3):
        union = FeatureUnion([("scale", StandardScaler()), ("pca", PCA(width))])
        fitted(store, homes[NUMBERS], homes["price"], ("union", union), ("ridge", Ridge()))
    first, second = (capture.intermediates for capture in store.catalog.captures())
    assert first["union/scale"].stored_nbytes > 0
    assert second["union/scale"].stored_nbytes == 0


@pytest.mark.supported("`predict_proba`, `decision_function`, several targets", "stages beside the prediction")
def test_probabilities_are_captured_under_the_names_of_the_classes(store: Store, homes: pd.DataFrame) -> None:
    labels = np.where(homes["grade"] > 8, "good", "fair")
    pipe = fitted(store, homes[NUMBERS], labels, ("scale", StandardScaler()), ("model", LogisticRegression()))
    answer = mistique.get(store, KEY + "predict_proba")
    assert answer.columns == ("fair", "good")
    assert np.array_equal(answer.values, pipe.predict_proba(homes[NUMBERS]))
    assert np.array_equal(values(store, "model/predict_proba"), answer.values)
    distances = mistique.get(store, KEY + "decision_function")
    assert np.array_equal(distances.values, pipe.decision_function(homes[NUMBERS]))
    assert distances.columns == ("good",)


@pytest.mark.supported("`predict_proba`, `decision_function`, several targets")
def test_each_target_of_a_model_of_several_has_its_probabilities(store: Store, homes: pd.DataFrame) -> None:
    targets = np.c_[homes["grade"] > 8, homes["lat"] > 47.5]
    forest = MultiOutputClassifier(RandomForestClassifier(5, random_state=0))
    pipe = fitted(store, homes[NUMBERS], targets, ("scale", StandardScaler()), ("model", forest))
    for i, given in enumerate(pipe.predict_proba(homes[NUMBERS])):
        assert np.array_equal(values(store, f"predict_proba/{i}"), given)
    assert values(store, "prediction").shape == targets.shape


def several() -> list[tuple[str, Any]]:
    return [("a", Ridge()), ("b", sklearn.pipeline.Pipeline([("pca", PCA(2)), ("ridge", Ridge(alpha=9.0))]))]


@pytest.mark.supported(
    "TransformedTargetRegressor, stacking, voting as the last step",
    "the prediction, and what each model inside says: `model/forest`",
)
@pytest.mark.parametrize(
    ("model", "members"),
    [
        (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), ["regressor"]),
        (StackingRegressor(several()), ["a", "b/pca", "b"]),
        (VotingRegressor(several()), ["a", "b/pca", "b"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_the_models_that_a_model_is_made_of_are_stages_and_recomputed(
    store: Store, homes: pd.DataFrame, model: Any, members: list[str]
) -> None:
    pipe = fitted(store, homes[NUMBERS], homes["price"], ("scale", StandardScaler()), ("model", model))
    assert names(store) == ["scale", *(f"model/{name}" for name in members), "prediction"]
    assert np.array_equal(values(store, "model"), pipe.predict(homes[NUMBERS]))
    scaled = pipe[0].transform(homes[NUMBERS])
    for name in {"regressor", "a", "b"}.intersection(members):
        one = pipe["model"].regressor_ if name == "regressor" else pipe["model"].named_estimators_[name]
        assert np.array_equal(values(store, f"model/{name}"), one.predict(scaled))
        store.drop(f"{KEY}model/{name}")
        assert np.allclose(values(store, f"model/{name}"), one.predict(scaled), rtol=1e-12)


@pytest.mark.supported("TransformedTargetRegressor, stacking, voting as the last step")
def test_members_of_a_vote_say_probabilities_and_their_own_steps_are_stages(store: Store, homes: pd.DataFrame) -> None:
    steps = Pipeline([("scale", StandardScaler()), ("logit", LogisticRegression())])
    vote = VotingClassifier([("steps", steps), ("none", "drop"), ("dummy", DummyClassifier())], voting="soft")
    pipe = fitted(store, homes[NUMBERS], homes["grade"] > 8, ("same", "passthrough"), ("vote", vote))
    inner = ["vote/steps/scale", "vote/steps", "vote/dummy"]
    assert names(store) == ["same", *inner, "predict_proba", "prediction"]
    mean = (values(store, "vote/steps") + values(store, "vote/dummy")) / 2
    assert np.allclose(mean, pipe.predict_proba(homes[NUMBERS]))


@pytest.mark.supported(
    "a search, a calibrated or thresholded classifier as the last step",
    "the prediction, the steps of the best (`model/best/pca`), what each fold's classifier said before (`model/0`)",
)
def test_the_best_of_a_search_shows_its_steps_and_a_calibrated_model_what_it_was_before(
    store: Store, homes: pd.DataFrame
) -> None:
    steps = sklearn.pipeline.Pipeline([("pca", PCA(2)), ("logit", LogisticRegression())])
    search = GridSearchCV(steps, {"logit__C": [0.1, 1.0]}, cv=2)
    model = CalibratedClassifierCV(search, cv=2)
    X, y = homes[NUMBERS][:400], homes["grade"][:400] > 8
    pipe = fitted(store, X, y, ("scale", StandardScaler()), ("model", model))
    inner = [name for fold in "01" for name in (f"model/{fold}/best/pca", f"model/{fold}/best", f"model/{fold}")]
    assert names(store) == ["scale", *inner, "predict_proba", "prediction"]
    scaled = pipe[0].transform(X)
    best = pipe["model"].calibrated_classifiers_[1].estimator.best_estimator_
    for name, expected in (("best/pca", best[0].transform(scaled)), ("best", best.predict_proba(scaled))):
        assert np.array_equal(values(store, f"model/1/{name}"), expected)
        store.drop(f"{KEY}model/1/{name}")
        assert np.allclose(values(store, f"model/1/{name}"), expected, rtol=1e-12)


@pytest.mark.supported("a search, a calibrated or thresholded classifier as the last step")
@pytest.mark.parametrize("kind", [FixedThresholdClassifier, TunedThresholdClassifierCV])
def test_the_classifier_behind_a_threshold_is_a_stage(store: Store, homes: pd.DataFrame, kind: Any) -> None:
    X, y = homes[NUMBERS][:400], homes["grade"][:400] > 8
    pipe = fitted(store, X, y, ("scale", StandardScaler()), ("model", kind(LogisticRegression())))
    assert "model/estimator" in names(store)
    expected = pipe["model"].estimator_.predict_proba(pipe[0].transform(X))
    assert np.array_equal(values(store, "model/estimator"), expected)


@pytest.mark.supported("text vectorizers", "words name the columns")
def test_words_are_the_columns_of_what_a_text_vectorizer_gives_and_of_what_is_made_of_it(store: Store) -> None:
    texts = ["the cat sat", "a dog ran", "the dog sat down"] * 20
    steps = ("count", CountVectorizer()), ("weigh", TfidfTransformer()), ("model", LogisticRegression())
    pipe = fitted(store, texts, np.arange(60) % 2, *steps)
    words = ("cat", "dog", "down", "ran", "sat", "the")
    assert mistique.get(store, KEY + "count").columns == words
    weighed = mistique.get(store, KEY + "weigh")
    assert weighed.columns == words
    assert np.array_equal(weighed.values, pipe[:-1].transform(texts).toarray())


@pytest.mark.supported("`partial_fit`", "`capture` after each part is a version")
def test_each_part_of_a_partial_fit_is_a_version(store: Store, homes: pd.DataFrame) -> None:
    scale = StandardScaler().fit(homes[NUMBERS])
    model = SGDRegressor(random_state=0)
    for part in range(3):
        rows = homes.iloc[500 * part : 500 * (part + 1)]
        model.partial_fit(scale.transform(rows[NUMBERS]), rows["price"] / 1e6)
        pipe = sklearn.pipeline.Pipeline([("scale", scale), ("model", model)])
        assert capture(pipe, homes[NUMBERS], store=store, dataset="train", model="homes/x") == f"homes/x@{part + 1}"
        key = f"homes/x@{part + 1}/train/"
        assert np.array_equal(mistique.get(store, key + "prediction").values, pipe.predict(homes[NUMBERS]))
    added = [c.intermediates["scale"].stored_nbytes for c in store.catalog.captures()]
    assert added[1:] == [0, 0]
