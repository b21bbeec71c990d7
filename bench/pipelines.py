"""Ten pipelines that predict the prices of homes, each in five settings.

They are written as a price modeller writes them, after the templates of the paper (section 7): sources brought
together, nulls filled, features derived and encoded, scaled, a regressor. The settings are those of a search: mostly of
the last step, and of one or two before it.
"""

from __future__ import annotations

from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_regression
from sklearn.linear_model import BayesianRidge, ElasticNet, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import (
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from bench import steps as s
from bench.template import Template, boosted, lightgbm, xgboost

_TWINS = {
    "bedrooms": "beds",
    "bathrooms": "baths",
    "sqft_living": "tot_sf",
    "sqft_lot": "lot_sf",
    "grade": "bldg_grade",
    "waterfront": "wfnt",
    "lat": "latitude",
    "long": "longitude",
    "sale_date": "date",
}
_KEYS = ("id", "parcel", "pinx", "sale_id")
_COUNTY_ONLY = ("sqft_living15", "sqft_lot15", "view", "condition", "floors")
_CITIES = {"seattle": (47.606, -122.332), "bellevue": (47.610, -122.200), "redmond": (47.674, -122.121)}
_AREAS = ("sqft_living", "sqft_lot", "sqft_above", "sqft_basement", "sqft_living15", "sqft_lot15")
_PER = (("sqft_living", "bedrooms"), ("sqft_living", "sqft_lot"), ("sqft_above", "sqft_living"))
_ROOMS = (("bathrooms", "bedrooms"), ("sqft_living", "bathrooms"), ("sqft_living", "floors"))
_JOINED = (
    ("dates", s.step(s.parse_dates, columns=["sale_date"])),
    ("join", s.step(s.merge_twins, twins=_TWINS)),
    ("select", s.step(s.drop, columns=_KEYS)),
    ("sold", s.step(s.date_parts, column="sale_date", parts=["year", "month", "dayofyear"])),
)


def homes_pipelines() -> tuple[Template, ...]:
    """Ten templates of 9 to 19 stages with five settings each, for `bench.data.homes`."""
    return (
        Template(
            "ridge",
            (
                *_JOINED,
                ("ages", s.step(s.ages)),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("fill", s.FillNulls("median")),
                ("clip", s.Clip(["bedrooms", "bathrooms", "sqft_living", "sqft_lot"], quantile=0.001)),
                ("log", s.step(s.logarithms, columns=_AREAS)),
                ("downtown", s.step(s.distances, points={"seattle": _CITIES["seattle"]})),
                ("onehot", s.one_hot("zipcode", "use_type", min_frequency=20)),
                ("scale", s.framed(StandardScaler())),
                ("ridge", Ridge(alpha=1.0)),
            ),
            (
                {"ridge__alpha": 0.1},
                {"ridge__alpha": 10.0},
                {"ridge__alpha": 1000.0},
                {"ridge__alpha": 10.0, "onehot__on__min_frequency": 200},
                {"ridge__alpha": 10.0, "clip__quantile": 0.01},
            ),
        ),
        Template(
            "elastic",
            (
                *_JOINED,
                ("flags", s.step(s.null_flags, columns=["yr_renovated", "zipcode", "eff_age"])),
                ("ages", s.step(s.ages)),
                ("text", s.step(s.as_text, columns=["zipcode", "area", "use_type"])),
                ("fill", s.FillNulls("mean")),
                ("ratios", s.step(s.ratios, pairs=_PER)),
                ("rooms", s.step(s.ratios, pairs=_ROOMS)),
                ("onehot", s.one_hot("zipcode", "area", "use_type")),
                ("varied", s.framed(VarianceThreshold(1e-4))),
                (
                    "squares",
                    s.Append(
                        PolynomialFeatures(2, include_bias=False), ["sqft_living", "grade", "bathrooms", "age"], "poly"
                    ),
                ),
                ("scale", s.framed(RobustScaler())),
                ("elastic", ElasticNet(alpha=1.0, l1_ratio=0.5, precompute=True, tol=1e-3)),
            ),
            (
                {"elastic__alpha": 1.0},
                {"elastic__alpha": 10.0},
                {"elastic__alpha": 10.0, "elastic__l1_ratio": 0.9},
                {"squares__transformer__interaction_only": True},
                {"fill__strategy": "median"},
            ),
        ),
        Template(
            "lightgbm",
            (
                *_JOINED,
                ("ages", s.step(s.ages)),
                ("ratios", s.step(s.ratios, pairs=_PER)),
                ("cities", s.step(s.distances, points=_CITIES)),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("means", s.TargetMeans(["zipcode"], smoothing=20.0)),
                ("codes", s.ordinal("use_type")),
                ("lightgbm", lightgbm(n_estimators=150, learning_rate=0.05)),
            ),
            (
                *boosted(
                    "lightgbm",
                    lightgbm,
                    {"n_estimators": 150, "learning_rate": 0.05},
                    {"n_estimators": 150, "learning_rate": 0.1},
                    {"n_estimators": 250, "learning_rate": 0.05},
                    {"n_estimators": 150, "learning_rate": 0.1, "num_leaves": 63},
                ),
                {"means__smoothing": 100.0},
            ),
        ),
        Template(
            "xgboost",
            (
                *_JOINED,
                ("county", s.step(s.drop, columns=["area", "eff_age"])),
                ("ages", s.step(s.ages)),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("fill", s.FillNulls("zero")),
                ("clip", s.Clip(list(_AREAS), quantile=0.005)),
                ("ratios", s.step(s.ratios, pairs=_PER)),
                (
                    "against",
                    s.step(s.differences, pairs=[("sqft_living", "sqft_living15"), ("sqft_lot", "sqft_lot15")]),
                ),
                ("cities", s.step(s.distances, points=_CITIES)),
                ("onehot", s.one_hot("zipcode", "use_type")),
                ("xgboost", xgboost(n_estimators=150, learning_rate=0.1)),
            ),
            (
                *boosted(
                    "xgboost",
                    xgboost,
                    {"n_estimators": 150, "learning_rate": 0.1, "max_depth": 4},
                    {"n_estimators": 150, "learning_rate": 0.1, "max_depth": 6},
                    {"n_estimators": 150, "learning_rate": 0.1, "max_depth": 8},
                    {"n_estimators": 150, "learning_rate": 0.1, "max_depth": 6, "subsample": 0.7},
                ),
                {"clip__quantile": 0.02},
            ),
        ),
        Template(
            "boosting",
            (
                *_JOINED,
                ("ages", s.step(s.ages)),
                ("rooms", s.step(s.ratios, pairs=_ROOMS)),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("categories", s.step(s.as_categories, columns=["zipcode", "use_type"])),
                (
                    "boosting",
                    HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=100, random_state=0),
                ),
            ),
            (
                {"boosting__learning_rate": 0.05},
                {"boosting__learning_rate": 0.1},
                {"boosting__learning_rate": 0.1, "boosting__max_leaf_nodes": 63},
                {"boosting__loss": "absolute_error"},
                {"rooms__kw_args": {"pairs": _ROOMS + _PER}},
            ),
        ),
        Template(
            "forest",
            (
                *_JOINED,
                ("flags", s.step(s.null_flags, columns=_COUNTY_ONLY)),
                ("ages", s.step(s.ages)),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("fill", s.FillNulls("median", by="grade")),
                ("ratios", s.step(s.ratios, pairs=_PER)),
                ("cities", s.step(s.distances, points=_CITIES)),
                ("months", s.step(s.cyclic, periods={"sale_date_month": 12.0})),
                ("codes", s.ordinal("zipcode", "use_type")),
                ("forest", RandomForestRegressor(30, max_depth=12, max_features=0.4, max_samples=0.5, random_state=0)),
            ),
            (
                {"forest__max_depth": 8},
                {"forest__max_depth": 12},
                {"forest__max_depth": 12, "forest__min_samples_leaf": 5},
                {"forest__max_depth": 12, "forest__max_features": 0.2},
                {"fill__by": None},
            ),
        ),
        Template(
            "trees",
            (
                *_JOINED,
                ("ages", s.step(s.ages)),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("fill", s.FillNulls("mean")),
                ("places", s.Neighbourhoods(n_clusters=40)),
                ("means", s.TargetMeans(["neighbourhood", "zipcode", "use_type"])),
                ("log", s.step(s.logarithms, columns=_AREAS, keep=True)),
                ("rooms", s.step(s.ratios, pairs=_ROOMS)),
                ("trees", ExtraTreesRegressor(30, max_depth=14, max_features=0.4, random_state=0)),
            ),
            (
                {"trees__max_depth": 10},
                {"trees__max_depth": 14},
                {"trees__max_depth": 14, "trees__min_samples_leaf": 5},
                {"trees__max_depth": 14, "trees__max_features": 0.7},
                {"places__n_clusters": 100},
            ),
        ),
        Template(
            "neighbours",
            (
                *_JOINED,
                ("ages", s.step(s.ages)),
                ("few", s.step(s.drop, columns=["area", "eff_age", "use_type", "zipcode", "view", "floors"])),
                ("fill", s.FillNulls("median")),
                ("log", s.step(s.logarithms, columns=_AREAS)),
                ("quantiles", s.framed(QuantileTransformer(n_quantiles=200, random_state=0))),
                ("best", s.framed(SelectKBest(f_regression, k=4))),
                ("neighbours", KNeighborsRegressor(10)),
            ),
            (
                {"neighbours__n_neighbors": 5},
                {"neighbours__n_neighbors": 10},
                {"neighbours__n_neighbors": 20},
                {"neighbours__weights": "distance"},
                {"best__k": 3},
            ),
        ),
        Template(
            "bayes",
            (
                *_JOINED,
                ("flags", s.step(s.null_flags, columns=_COUNTY_ONLY)),
                ("ages", s.step(s.ages)),
                ("months", s.step(s.cyclic, periods={"sale_date_month": 12.0, "sale_date_dayofyear": 365.25})),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("fill", s.FillNulls("median")),
                ("clip", s.Clip(list(_AREAS), quantile=0.002)),
                ("ratios", s.step(s.ratios, pairs=_PER)),
                ("rooms", s.step(s.ratios, pairs=_ROOMS)),
                ("cities", s.step(s.distances, points=_CITIES)),
                ("places", s.Neighbourhoods(n_clusters=30)),
                ("onehot", s.one_hot("neighbourhood", "zipcode", "use_type", min_frequency=50)),
                ("varied", s.framed(VarianceThreshold(1e-6))),
                ("power", s.framed(s.on([*_AREAS, "age"], PowerTransformer()))),
                ("scale", s.framed(StandardScaler())),
                ("bayes", BayesianRidge(max_iter=30)),
            ),
            (
                {},
                {"clip__quantile": 0.01},
                {"bayes__alpha_1": 1e-3, "bayes__alpha_2": 1e-3},
                {"bayes__tol": 1e-2},
                {"onehot__on__min_frequency": 500},
            ),
        ),
        Template(
            "components",
            (
                *_JOINED,
                ("ages", s.step(s.ages)),
                ("text", s.step(s.as_text, columns=["zipcode", "use_type"])),
                ("fill", s.FillNulls("median")),
                ("means", s.TargetMeans(["zipcode", "use_type"])),
                ("log", s.step(s.logarithms, columns=_AREAS)),
                ("cities", s.step(s.distances, points=_CITIES)),
                ("splines", s.Append(SplineTransformer(n_knots=5, degree=3), ["lat", "long"], "spline")),
                ("scale", s.framed(StandardScaler())),
                (
                    "components",
                    s.Append(
                        PCA(5, random_state=0),
                        ["grade", "bathrooms", "bedrooms", "age", "floors", "log_sqft_living", "log_sqft_above"],
                        "component",
                    ),
                ),
                ("lightgbm", lightgbm(n_estimators=120, learning_rate=0.1)),
            ),
            (
                *boosted(
                    "lightgbm",
                    lightgbm,
                    {"n_estimators": 120, "learning_rate": 0.05},
                    {"n_estimators": 120, "learning_rate": 0.1},
                    {"n_estimators": 120, "learning_rate": 0.1, "min_child_samples": 100},
                    {"n_estimators": 120, "learning_rate": 0.1, "num_leaves": 15},
                ),
                {"components__transformer__n_components": 3},
            ),
        ),
    )
