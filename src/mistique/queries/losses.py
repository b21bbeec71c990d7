"""The error of each row: what a prediction lost against its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mistique.errors import QueryError

LOSSES = {"absolute": "absolute error", "squared": "squared error", "error": "error rate"}


def loss_of_rows(
    prediction: np.ndarray, target: np.ndarray, *, loss: str | Callable[..., Any] | np.ndarray | None = None
) -> tuple[str, np.ndarray]:
    """What the loss is called, and that of each row.

    Parameters
    ----------
    prediction : ndarray of shape (n_rows,) or (n_rows, n_columns)
    target : ndarray of shape (n_rows,) or (n_rows, n_columns)
    loss : {"absolute", "squared", "error"}, callable or ndarray of shape (n_rows,), optional
        ``error`` is 1 where the class is wrong: of several columns the largest is the class, a single float is rounded.
        A callable takes prediction and target and gives one number a row. None: ``error`` for classes and class scores,
        ``absolute`` for numbers.

    Returns
    -------
    str
    ndarray of shape (n_rows,), float64

    Raises
    ------
    QueryError
        A loss that does not exist, does not fit the values, or is not one number a row.

    Examples
    --------
    >>> loss_of_rows(np.array([1.0, 2.0]), np.array([1.5, 2.0]))
    ('absolute error', array([0.5, 0. ]))
    >>> loss_of_rows(np.array([[0.1, 0.9], [0.7, 0.3]]), np.array([1, 1]))
    ('error rate', array([0., 1.]))
    """
    prediction, target = _one_column(prediction), _one_column(target)
    if loss is None:
        loss = "error" if _is_classes(prediction, target) else "absolute"
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise QueryError(f"loss: expected one of {', '.join(LOSSES)}, a function or an array, got {loss!r}")
        return LOSSES[loss], _wrong(prediction, target) if loss == "error" else _distance(prediction, target, loss)
    if callable(loss):
        name, given = getattr(loss, "__name__", "loss"), loss(prediction, target)
    else:
        name, given = "loss", loss
    lost = np.asarray(given)
    if lost.shape != (len(prediction),) or lost.dtype.kind not in "iufb":
        raise QueryError(
            f"loss: expected a number for each of {len(prediction)} rows, got shape {lost.shape} of {lost.dtype}"
        )
    return name, lost.astype(np.float64)


def _one_column(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _is_classes(prediction: np.ndarray, target: np.ndarray) -> bool:
    if prediction.ndim == 2:
        return target.ndim == 1 or _is_one_hot(target)
    return not _is_float(prediction) or target.dtype.kind not in "iufb"


def _is_float(values: np.ndarray) -> bool:
    return values.dtype.kind == "f" or values.dtype.name == "bfloat16"


def _is_one_hot(target: np.ndarray) -> bool:
    if target.dtype.kind not in "iufb" or target.shape[1] < 2:
        return False
    ones = (target == 1).sum(axis=1)
    return bool((ones == 1).all() and ((target == 0).sum(axis=1) == target.shape[1] - 1).all())


def _wrong(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """1.0 where the class is not that of the target."""
    said = prediction.astype(np.float64).argmax(axis=1) if prediction.ndim == 2 else prediction
    truth = target.argmax(axis=1) if target.ndim == 2 else target
    if prediction.ndim == 1 and _is_float(prediction) and truth.dtype.kind in "iufb":
        said = np.rint(prediction.astype(np.float64))
    return np.asarray(said != truth, np.float64)


def _distance(prediction: np.ndarray, target: np.ndarray, loss: str) -> np.ndarray:
    """The absolute or squared distance, over several columns their mean."""
    kinds = "iufb"
    is_numbers = (prediction.dtype.kind in kinds or _is_float(prediction)) and target.dtype.kind in kinds
    if not is_numbers or prediction.shape != target.shape:
        raise QueryError(
            f'loss="{loss}": expected numbers of one shape, got {prediction.dtype} of {prediction.shape} '
            f'against {target.dtype} of {target.shape}; give loss="error" or a function'
        )
    distance = np.abs(prediction.astype(np.float64) - target.astype(np.float64))
    if loss == "squared":
        distance = distance**2
    return distance if distance.ndim == 1 else np.asarray(distance.mean(axis=1))
