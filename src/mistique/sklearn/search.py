"""What a fit belongs to: which candidate and fold of a search, and by which settings.

scikit-learn tells an estimator nothing of this, and its workers hold nothing else of it, so it is read from the
frame of the function that fits one candidate on one fold. Without such a frame, or with another scikit-learn, a fit is
a fit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType, FunctionType
from typing import Any

import numpy as np

from mistique.sklearn.content import content_digest
from mistique.sklearn.undisturbed import attempt

_VALIDATION, _SEARCH = "sklearn.model_selection._validation", "sklearn.model_selection._search"
_MAX_TEXT, _MAX_PARTS = 200, 40


@dataclass(frozen=True, slots=True, eq=False)
class Surrounding:
    """What runs around a fit.

    Parameters
    ----------
    facts : mapping of str to str
        ``fold`` and ``candidate`` as ``"2/3"``, ``searched`` and what was, by the names of its parameters.
    train : ndarray, optional
        Positions of the rows that it was given, in the whole.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    train: np.ndarray | None = None


def surrounding() -> Surrounding:
    """Of the fit that is being called."""
    return attempt(lambda: _read(sys._getframe(1))).value or Surrounding()


def settings_of(model: Any) -> dict[str, str]:
    """The parameters of a model as text; parts that are estimators by their class."""
    params = attempt(lambda: model.get_params(deep=True)).value or {}
    return {name: _text(value) for name, value in params.items() if name not in ("steps", "memory", "verbose")}


def _read(frame: FrameType | None) -> Surrounding:
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__")
        if module == _VALIDATION and name in ("_fit_and_score", "_fit_and_predict"):
            return _of_fold(frame.f_locals)
        if module == _SEARCH and name == "fit" and hasattr(frame.f_locals.get("self"), "best_params_"):
            return Surrounding({"fold": "all rows", **_searched(frame.f_locals["self"].best_params_)})
        frame = frame.f_back
    return Surrounding()


def _of_fold(known: Mapping[str, Any]) -> Surrounding:
    facts: dict[str, str] = {}
    for name, progress in (("fold", known.get("split_progress")), ("candidate", known.get("candidate_progress"))):
        if progress:
            facts[name] = f"{progress[0] + 1}/{progress[1]}"
    test, train = known.get("test"), known.get("train")
    if "fold" not in facts and isinstance(test, np.ndarray) and test.size:
        facts["fold"] = f"without {test.size} rows from {test[0]}"
    facts |= _searched(known.get("parameters"))
    return Surrounding(facts, train if isinstance(train, np.ndarray) else None)


def _searched(parameters: Any) -> dict[str, str]:
    if not parameters:
        return {}
    return {"searched": ", ".join(f"{name}={_text(value)}" for name, value in sorted(parameters.items()))}


def _text(value: Any) -> str:
    if hasattr(value, "get_params"):
        return type(value).__name__
    if isinstance(value, (FunctionType, type)):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (list, tuple, dict)) and any(hasattr(part, "get_params") for part in _flat(value)):
        return f"{len(value)} {'parts' if len(value) != 1 else 'part'}"
    if isinstance(value, (list, tuple, dict, set)) and len(value) > _MAX_PARTS:
        return f"{type(value).__name__} of {len(value)}"
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {content_digest(value)[:8]}"
    if not isinstance(value, (bool, int, float, complex, str, bytes, list, tuple, dict, set, np.generic, type(None))):
        return type(value).__name__  # its repr may hold an address
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _flat(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value
    return [one for part in parts for one in (part if isinstance(part, (list, tuple)) else [part])]
