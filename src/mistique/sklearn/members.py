"""The models that a model is made of: those of a stack or a vote, the one behind a transformed target or a search."""

from __future__ import annotations

from typing import Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline

_THRESHOLDS = (FixedThresholdClassifier, TunedThresholdClassifierCV)
_MADE_OF_SEVERAL = (StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor)


def members_of(model: Any) -> dict[str, Any]:
    """The fitted models that go into what a fitted model predicts from the same rows, by name; empty: it is one model.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> vote = VotingRegressor([("near", Ridge()), ("far", "drop"), ("flat", Ridge(9.0))])
    >>> members_of(vote.fit([[1.0], [2.0]], [1.0, 2.0]))
    {'near': Ridge(), 'flat': Ridge(alpha=9.0)}
    """
    if isinstance(model, TransformedTargetRegressor):
        return {"regressor": model.regressor_}
    if isinstance(model, _THRESHOLDS):
        return {"estimator": model.estimator_}
    if isinstance(model, CalibratedClassifierCV):
        # One for each fold that it was calibrated on.
        return {str(fold): one.estimator for fold, one in enumerate(model.calibrated_classifiers_)}
    if hasattr(model, "best_estimator_"):
        # A search says what its best says, which is shown for what is inside of it alone.
        best = model.best_estimator_
        return {"best": best} if isinstance(best, Pipeline) or members_of(best) else {}
    if not isinstance(model, _MADE_OF_SEVERAL):
        return {}
    return {name: one for name, one in model.named_estimators_.items() if not isinstance(one, str)}


def says(model: Any) -> str:
    """The method by which a member says most: probabilities, distances from the boundary, or what it predicts."""
    if isinstance(getattr(model, "classes_", None), list):
        return "predict"  # of several targets: a list of arrays otherwise
    return next((method for method in ("predict_proba", "decision_function") if hasattr(model, method)), "predict")
