"""Ten pipelines that predict how late a flight of 2023 from New York is, from weather, plane and airports."""

from __future__ import annotations

from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import BayesianRidge, ElasticNet, Ridge
from sklearn.preprocessing import PolynomialFeatures, PowerTransformer, RobustScaler, StandardScaler

from bench import steps as s
from bench.template import Template, lightgbm, xgboost

_LATER = ("arr_time", "air_time", "dep_time")  # what is known only after the flight
_SAME = (
    *(
        "dest_faa",
        "dest_name",
        "orig_faa",
        "orig_name",
        "orig_dst",
        "orig_tzone",
        "orig_tz",
        "year",
        "speed",
        "tailnum",
    ),
    *("dest_dst", "flight", "minute"),
)
_TEXT = ("carrier", "origin", "dest", "type", "manufacturer", "model", "engine", "dest_tzone")
_WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
_SCHEDULE = ("sched_dep_time", "sched_arr_time")
_BEGIN = (
    ("known", s.step(s.drop, columns=_LATER)),
    ("select", s.step(s.drop, columns=_SAME)),
    ("when", s.step(s.date_parts, column="time_hour", parts=["dayofweek", "dayofyear"])),
)
_FILL = ("fill", s.FillNulls("median"))
_TEXTS = ("text", s.step(s.as_text, columns=_TEXT))
_FEW = ("few", s.step(s.drop, columns=["model", "manufacturer", "type", "dest_tzone"]))
_MINUTES = ("minutes", s.step(s.minutes_of_day, columns=_SCHEDULE))
_ROUND = ("round", s.step(s.cyclic, periods={"hour": 24.0, "month": 12.0, "time_hour_dayofweek": 7.0}))
_CODES = ("codes", s.ordinal(*_TEXT))
_RATIOS = ("ratios", s.step(s.ratios, pairs=(("distance", "seats"), ("dep_delay", "distance"), ("temp", "humid"))))
_GUSTS = (
    "gusts",
    s.step(s.differences, pairs=(("wind_gust", "wind_speed"), ("temp", "dewp"), ("dest_lat", "orig_lat"))),
)


def flights_pipelines() -> tuple[Template, ...]:
    """Ten pipelines of 7 to 11 stages in one setting each, for `bench.data.flights`."""
    onehot = ("onehot", s.one_hot("carrier", "origin", "dest", "engine", min_frequency=0.005))
    scale = ("scale", s.framed(StandardScaler()))
    averaged = ("carrier", "dest", "model")
    means = ("means", s.TargetMeans(list(averaged), smoothing=50.0))
    rest = ("codes", s.ordinal(*(column for column in _TEXT if column not in averaged)))
    categories = ("categories", s.step(s.as_categories, columns=[column for column in _TEXT if column != "dest"]))
    squares = PolynomialFeatures(2, include_bias=False)
    product = ("squares", s.Append(squares, ["dep_delay", "distance", "wind_speed"], "poly"))
    power = ("power", s.framed(s.on(["distance", "seats"], PowerTransformer())))
    deep = lightgbm(n_estimators=100, learning_rate=0.1, num_leaves=63)
    flags = ("flags", s.step(s.null_flags, columns=_WEATHER))
    endings = (
        (_TEXTS, _FEW, _FILL, _MINUTES, onehot, scale, ("ridge", Ridge())),
        (_TEXTS, _FEW, _FILL, _ROUND, onehot, ("robust", s.framed(RobustScaler())), ("bayes", BayesianRidge())),
        (_TEXTS, _FEW, _FILL, _RATIOS, product, onehot, scale, ("elastic", ElasticNet(0.5, precompute=True))),
        (_TEXTS, _CODES, _GUSTS, ("lightgbm", lightgbm(n_estimators=100, learning_rate=0.1))),
        (_TEXTS, means, rest, _MINUTES, ("lightgbm deep", deep)),
        (_TEXTS, _CODES, _FILL, _RATIOS, ("xgboost", xgboost(n_estimators=100, learning_rate=0.1, max_depth=6))),
        (_TEXTS, _FEW, onehot, _ROUND, ("xgboost wide", xgboost(n_estimators=60, learning_rate=0.2, max_depth=5))),
        (_TEXTS, categories, ("dest", s.ordinal("dest")), _GUSTS, ("boosting", _boosting())),
        (_TEXTS, _CODES, _FILL, _MINUTES, flags, ("forest", _forest())),
        (_TEXTS, _CODES, _FILL, power, _GUSTS, ("trees", _trees())),
    )
    return tuple(Template(steps[-1][0], (*_BEGIN, *steps), ({},)) for steps in endings)


def _boosting() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=60, random_state=0)


def _forest() -> RandomForestRegressor:
    return RandomForestRegressor(10, max_depth=10, max_features=0.3, max_samples=0.3, random_state=0)


def _trees() -> ExtraTreesRegressor:
    return ExtraTreesRegressor(10, max_depth=12, max_features=0.3, random_state=0)
