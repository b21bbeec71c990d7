"""Answers in the forms that other libraries take: xarray, and Arrow for all that reads it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import MissingExtraError

if TYPE_CHECKING:
    from mistique.queries.answer import Answer

_SPOKEN_KINDS = "biufmMOUS"


def to_xarray(answer: Answer) -> Any:
    """An answer as an `xarray.DataArray`, its dimensions named and labelled.

    Raises
    ------
    MissingExtraError
        xarray is not installed.
    """
    xarray = _imported("xarray", what="to_xarray", extra="xarray")
    values = answer.values
    if values.dtype.kind not in _SPOKEN_KINDS:  # bfloat16 and its kind: NumPy alone knows them
        values = values.astype(np.float32)
    dims, labels = answer.dimensions()
    coords = {dim: _plain(label) for dim, label in zip(dims, labels, strict=True) if label is not None}
    attributes = {"key": answer.key, "max_abs_error": answer.max_abs_error}
    return xarray.DataArray(values, coords=coords, dims=dims, name=type(answer).__name__, attrs=attributes)


def to_arrow(answer: Answer) -> Any:
    """The frame of an answer as a `pyarrow.Table`, its row labels the first column.

    Raises
    ------
    MissingExtraError
        pyarrow is not installed.
    """
    pyarrow = _imported("pyarrow", what="Arrow", extra="all")
    frame = answer.to_frame()
    names, columns = [str(name) for name in frame.columns], [frame.iloc[:, i] for i in range(frame.shape[1])]
    if type(frame.index).__name__ != "RangeIndex":  # that of a frame which has its labels in columns
        levels = [frame.index.get_level_values(i) for i in range(frame.index.nlevels)]
        for i, level in reversed(list(enumerate(levels))):
            name = str(level.name or (answer.dimensions()[0][0] if len(levels) == 1 else f"level_{i}"))
            while name in names:
                name = f"{name}_"
            names, columns = [name, *names], [level.to_series(), *columns]
    return pyarrow.Table.from_arrays([_arrow_array(pyarrow, column) for column in columns], names=names)


def _arrow_array(pyarrow: Any, column: Any) -> Any:
    try:
        return pyarrow.Array.from_pandas(column)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError):
        # Values of several types, such as a row of a trace.
        return pyarrow.array([None if value is None else str(value) for value in column.tolist()])


def _plain(labels: np.ndarray) -> np.ndarray:
    """Labels that can be coordinates: xarray would take tuples apart."""
    return np.array([str(label) for label in labels]) if any(isinstance(label, tuple) for label in labels) else labels


def _imported(name: str, *, what: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(what=what, package=name, extra=extra) from error
