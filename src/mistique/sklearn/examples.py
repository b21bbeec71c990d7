"""Three pipelines over the homes that ship with mistique: the demo's, the benchmarks', the tests'."""

from __future__ import annotations

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mistique.data import load_homes
from mistique.sklearn.pipeline import Pipeline

_NUMBERS = [
    "bedrooms",
    "bathrooms",
    "sqft_living",
    "sqft_lot",
    "floors",
    "waterfront",
    "view",
    "condition",
    "grade",
    "sqft_above",
    "sqft_basement",
    "yr_built",
    "yr_renovated",
    "lat",
    "long",
    "sqft_living15",
    "sqft_lot15",
]


def homes_split(n_train: int = 16_000) -> tuple[Any, Any, Any, Any]:
    """Homes and their prices: ``X_train, X_valid, y_train, y_valid``, in the order of the file.

    Examples
    --------
    >>> X_train, X_valid, y_train, y_valid = homes_split()
    >>> X_train.shape, len(y_valid)
    ((16000, 20), 5613)
    """
    homes = load_homes()
    X, y = homes.drop(columns="price"), homes["price"]
    return X[:n_train], X[n_train:], y[:n_train], y[n_train:]


def homes_pipelines() -> dict[str, Pipeline]:
    """A ridge, a random forest and gradient boosting behind the same preparation, unfitted, by name.

    Examples
    --------
    >>> {name: [step for step, _ in pipe.steps] for name, pipe in homes_pipelines().items()}["ridge"]
    ['select', 'impute', 'scale', 'ridge']
    """
    models = {
        "ridge": Ridge(),
        "forest": RandomForestRegressor(n_estimators=40, min_samples_leaf=3, random_state=0, n_jobs=-1),
        "boosting": HistGradientBoostingRegressor(random_state=0),
    }
    return {name: _behind_preparation(name, model) for name, model in models.items()}


def _behind_preparation(name: str, model: Any) -> Pipeline:
    zipcode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    select = ColumnTransformer(
        [("numbers", "passthrough", _NUMBERS), ("zipcode", zipcode, ["zipcode"])],
        verbose_feature_names_out=False,
    )
    steps = [("select", select), ("impute", SimpleImputer()), ("scale", StandardScaler()), (name, model)]
    pipe: Pipeline = Pipeline(steps).set_output(transform="pandas")
    return pipe
