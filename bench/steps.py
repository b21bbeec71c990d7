"""The steps that the benchmarks' pipelines are made of, from pandas frames to pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

EARTH_RADIUS_KM = 6371.0


def step(function: Callable[..., Any], **options: Any) -> FunctionTransformer:
    """A function of a frame as a step."""
    return FunctionTransformer(function, kw_args=options)


def on(columns: Sequence[str], transformer: Any) -> ColumnTransformer:
    """A transformer on some columns; the others follow unchanged."""
    return framed(
        ColumnTransformer(
            [("on", transformer, list(columns))], remainder="passthrough", verbose_feature_names_out=False
        )
    )


def framed(transformer: Any) -> Any:
    """A transformer of scikit-learn that gives frames."""
    return transformer.set_output(transform="pandas")


def one_hot(*columns: str, min_frequency: int | None = None) -> ColumnTransformer:
    """A column for each category, the rare ones together."""
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore", min_frequency=min_frequency)
    return on(columns, encoder)


def ordinal(*columns: str) -> ColumnTransformer:
    """Categories as numbers."""
    return on(columns, OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2))


def select(X: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns."""
    return X[list(columns)]


def drop(X: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """All columns but some."""
    return X.drop(columns=list(columns))


def merge_twins(X: pd.DataFrame, *, twins: Mapping[str, str]) -> pd.DataFrame:
    """What two sources call by two names under the first of them; the second fills its nulls and goes."""
    filled = {name: X[name].fillna(X[twin]) for name, twin in twins.items()}
    return X.assign(**filled).drop(columns=list(twins.values()))


def parse_dates(X: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """Text as dates."""
    return X.assign(**{column: pd.to_datetime(X[column]) for column in columns})


def date_parts(X: pd.DataFrame, *, column: str, parts: Sequence[str]) -> pd.DataFrame:
    """Year, month and so on in place of a date."""
    found = {f"{column}_{part}": getattr(X[column].dt, part).astype(float) for part in parts}
    return X.assign(**found).drop(columns=column)


def ages(X: pd.DataFrame, *, sold: str = "sale_date_year") -> pd.DataFrame:
    """Years since a home was built and renovated, at its sale; one source has the first instead of a year."""
    built, renovated = X["yr_built"].fillna(X[sold] - X["age"]), X["yr_renovated"].fillna(0)
    return X.assign(
        yr_built=built,
        age=X[sold] - built,
        since_renovation=X[sold] - renovated.where(renovated > 0, built),
        was_renovated=(renovated > 0).astype(float),
    )


def logarithms(X: pd.DataFrame, *, columns: Sequence[str], keep: bool = False) -> pd.DataFrame:
    """Logarithms of columns, beside them or in their place."""
    found = {f"log_{column}": np.log1p(X[column].clip(lower=0)) for column in columns}
    X = X.assign(**found)
    return X if keep else X.drop(columns=list(columns))


def ratios(X: pd.DataFrame, *, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """A column over another, or over 1 where that is smaller or null."""
    found = {f"{above}_per_{below}": X[above] / X[below].clip(lower=1).fillna(1) for above, below in pairs}
    return X.assign(**found)


def differences(X: pd.DataFrame, *, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """A column less another."""
    return X.assign(**{f"{one}_less_{other}": X[one] - X[other] for one, other in pairs})


def distances(X: pd.DataFrame, *, points: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """Great-circle distances in km to points given by latitude and longitude."""
    lat, long = np.radians(X["lat"]), np.radians(X["long"])
    found = {}
    for name, point in points.items():
        to_lat, to_long = np.radians(point)
        h = np.sin((lat - to_lat) / 2) ** 2 + np.cos(lat) * np.cos(to_lat) * np.sin((long - to_long) / 2) ** 2
        found[f"km_to_{name}"] = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(h))
    return X.assign(**found)


def null_flags(X: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """Whether columns are null, as columns."""
    return X.assign(**{f"no_{column}": X[column].isna().astype(float) for column in columns})


def as_text(X: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """Codes that are numbers by accident as text, "none" where null."""
    found = {}
    for column in columns:
        whole = X[column].astype("Int64").astype("string").fillna("none") if X[column].dtype.kind == "f" else X[column]
        found[column] = whole.astype("str").fillna("none")
    return X.assign(**found)


def as_categories(X: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """Text as pandas' categories."""
    return X.assign(**{column: X[column].astype("category") for column in columns})


def cyclic(X: pd.DataFrame, *, periods: Mapping[str, float]) -> pd.DataFrame:
    """Sine and cosine of what comes round: months, hours."""
    found = {}
    for column, period in periods.items():
        angle = 2 * np.pi * X[column] / period
        found |= {f"{column}_sin": np.sin(angle), f"{column}_cos": np.cos(angle)}
    return X.assign(**found)


def minutes_of_day(X: pd.DataFrame, *, columns: Sequence[str]) -> pd.DataFrame:
    """Times written as hours and minutes, 1745, as minutes since midnight."""
    return X.assign(**{column: X[column] // 100 * 60 + X[column] % 100 for column in columns})


class FillNulls(TransformerMixin, BaseEstimator):
    """Fills the nulls of numeric columns by a figure of their column, within groups of `by` where it has one."""

    def __init__(self, strategy: str = "median", by: str | None = None) -> None:
        self.strategy = strategy
        self.by = by

    def fit(self, X: pd.DataFrame, y: Any = None) -> FillNulls:
        numbers = X.select_dtypes("number")
        if self.strategy == "zero":
            self.fills_ = pd.Series(0.0, numbers.columns)
        else:
            self.fills_ = numbers.agg(self.strategy).fillna(0.0)
        self.group_fills_ = None if self.by is None else numbers.groupby(X[self.by]).agg(self.strategy)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        found = {}
        for column, fill in self.fills_.items():
            values = X[column]
            if self.group_fills_ is not None and column != self.by:
                values = values.fillna(X[self.by].map(self.group_fills_[column]))
            found[column] = values.fillna(fill)
        return X.assign(**found)


class Clip(TransformerMixin, BaseEstimator):
    """Pulls the values of columns to within two quantiles of the training data."""

    def __init__(self, columns: Sequence[str], quantile: float = 0.001) -> None:
        self.columns = columns
        self.quantile = quantile

    def fit(self, X: pd.DataFrame, y: Any = None) -> Clip:
        chosen = X[list(self.columns)]
        self.low_, self.high_ = chosen.quantile(self.quantile), chosen.quantile(1 - self.quantile)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        chosen = X[list(self.columns)]
        return X.assign(**{c: chosen[c].clip(self.low_[c], self.high_[c]) for c in chosen})


class TargetMeans(TransformerMixin, BaseEstimator):
    """The mean of the target by category in place of a column, drawn to the mean of all by `smoothing` rows."""

    def __init__(self, columns: Sequence[str], smoothing: float = 20.0) -> None:
        self.columns = columns
        self.smoothing = smoothing

    def fit(self, X: pd.DataFrame, y: Any) -> TargetMeans:
        self.mean_ = float(np.mean(y))
        self.means_ = {}
        target = pd.Series(np.asarray(y), X.index)
        for column in self.columns:
            found = target.groupby(X[column], observed=True).agg(["sum", "count"])
            self.means_[column] = (found["sum"] + self.smoothing * self.mean_) / (found["count"] + self.smoothing)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        found = {
            f"{c}_mean": pd.to_numeric(X[c].map(means)).fillna(self.mean_).astype(float)
            for c, means in self.means_.items()
        }
        return X.assign(**found).drop(columns=list(self.columns))


class Neighbourhoods(TransformerMixin, BaseEstimator):
    """The cluster of a place, by k-means over latitude and longitude, as a category."""

    def __init__(self, n_clusters: int = 30) -> None:
        self.n_clusters = n_clusters

    def fit(self, X: pd.DataFrame, y: Any = None) -> Neighbourhoods:
        self.clusters_ = MiniBatchKMeans(self.n_clusters, random_state=0, n_init=3).fit(X[["lat", "long"]])
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        number = self.clusters_.predict(X[["lat", "long"]])
        return X.assign(neighbourhood=pd.Categorical(number, categories=range(self.n_clusters)))


class Append(TransformerMixin, BaseEstimator):
    """What a transformer makes of some columns, beside all of them."""

    def __init__(self, transformer: Any, columns: Sequence[str], prefix: str) -> None:
        self.transformer = transformer
        self.columns = columns
        self.prefix = prefix

    def fit(self, X: pd.DataFrame, y: Any = None) -> Append:
        self.fitted_ = clone(self.transformer).fit(X[list(self.columns)], y)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        made = np.asarray(self.fitted_.transform(X[list(self.columns)]))
        names = [f"{self.prefix}{number}" for number in range(made.shape[1])]
        return pd.concat([X, pd.DataFrame(made, X.index, names)], axis=1)
