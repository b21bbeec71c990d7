"""Running other people's estimators on the side, so that they notice nothing."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """What came of running something that may fail: its value, or the exception."""

    value: T | None
    error: Exception | None = None

    @property
    def why(self) -> str:
        """The exception in one line; empty when there was none."""
        return "" if self.error is None else f"{type(self.error).__name__}: {self.error}".splitlines()[0]


def attempt(run: Callable[[], T], *, is_quiet: bool = True) -> Attempt[T]:
    """What `run` gives, or the exception that it raised; NumPy's and Python's random states are left as they were.

    Parameters
    ----------
    run : callable without arguments
    is_quiet : bool, default True
        Its warnings are not shown: the user did not ask for this run, and has seen those of the real one.
    """
    try:
        with _random_states_kept():
            if not is_quiet:
                return Attempt(run())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Attempt(run())
    except Exception as error:  # noqa: BLE001 - an estimator may raise anything, and the user's fit must go on
        return Attempt(None, error)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    # An estimator with random_state=None draws from the global generator. A draw more in here would change every
    # later draw of the user's own program.
    numpy_state, python_state = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def copy_rows(value: Any) -> Any:
    """A copy of rows in their own container; a later in-place change of either leaves the other alone."""
    if isinstance(value, np.ndarray):
        # Not .copy(): that turns Fortran order into C order, and a prediction may then differ in its last bits.
        return np.array(value, order="K", subok=True)
    if hasattr(value, "copy") and hasattr(value, "shape"):
        return value.copy()
    return copy.deepcopy(value)


def last_rows(value: Any, n_rows: int) -> Any:
    """A copy of the last rows, in the same container; of COO and the like, which cannot be cut, in CSR.

    Raises
    ------
    TypeError
        `value` has no rows that can be taken.
    """
    n_all = count_rows(value)
    if n_all is None or isinstance(value, (str, bytes, dict, set)):
        raise TypeError(f"no rows can be taken from a {type(value).__name__}")
    start = max(n_all - n_rows, 0)
    if hasattr(value, "iloc"):
        return value.iloc[start:].copy()
    if hasattr(value, "tocsr"):
        return (value if value.format in ("csr", "csc") else value.tocsr())[start:]
    return copy_rows(value[start:])


def count_rows(value: Any) -> int | None:
    """How many rows a container has; None when it does not say."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return shape[0] if shape and isinstance(shape[0], int) else None
    return len(value) if hasattr(value, "__len__") else None
