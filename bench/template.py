"""What the benchmarks' pipelines have in common: a template with its settings, and last steps that boost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from mistique.sklearn import Pipeline


@dataclass(frozen=True)
class Template:
    """A pipeline and the settings that a search tries: parameters of its steps.

    Parameters
    ----------
    name : str
    steps : tuple of (str, estimator)
    settings : tuple of mapping
    """

    name: str
    steps: tuple[tuple[str, Any], ...]
    settings: tuple[Mapping[str, Any], ...]

    def pipelines(self) -> Iterator[Pipeline]:
        """An unfitted pipeline for each setting, which shares no step with another."""
        for setting in self.settings:
            pipeline = clone(Pipeline(list(self.steps)))
            yield pipeline.set_params(**setting)


def lightgbm(**options: Any) -> Any:
    """LightGBM's regressor, or scikit-learn's own of the same kind where LightGBM is not installed."""
    try:
        from lightgbm import LGBMRegressor
    except ImportError:
        return _histogram_boosting(options)
    # One thread: on cores that others use, boosting with more waits for itself (22 s for 7 s).
    return LGBMRegressor(random_state=0, n_jobs=1, verbose=-1, **options)


def xgboost(**options: Any) -> Any:
    """XGBoost's regressor, or scikit-learn's own of the same kind where XGBoost is not installed."""
    try:
        from xgboost import XGBRegressor
    except ImportError:
        return _histogram_boosting(options)
    return XGBRegressor(random_state=0, n_jobs=1, **options)


def _histogram_boosting(options: Mapping[str, Any]) -> Any:
    return HistGradientBoostingRegressor(
        max_iter=options["n_estimators"], learning_rate=options["learning_rate"], random_state=0
    )


def boosted(step: str, make: Callable[..., Any], *tried: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings of a boosted last step: it is made anew, so that they also reach what stands in for it."""
    return [{step: make(**options)} for options in tried]


def stage_tables(pipe: Any, X: Any, y: Any) -> Iterator[tuple[str, Any]]:
    """Every intermediate of a fitted pipeline as a frame, by the name that a capture gives it."""
    import pandas as pd

    yield "input", X
    yield "target", y.to_frame()
    table = X
    for name, transformer in pipe.steps[:-1]:
        table = transformer.transform(table)
        yield name, table
    with threadpool_limits(1, user_api="openmp"):
        yield "prediction", pd.DataFrame({"prediction": pipe.steps[-1][1].predict(table)})
