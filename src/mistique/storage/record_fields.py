"""Fields of the JSON of records: written, and looked at when they come back, as a stranger may have sent them."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from mistique.storage.record_cells import Order

# What a body that makes no sense makes its parsing say; the last: JSON that is nested without end.
BODY_ERRORS = LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError


def to_json(value: object) -> bytes:
    """JSON as records hold it, without spaces."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def expect(kind: type, *values: object) -> None:
    """See that fields of a record are what they should be.

    Raises
    ------
    TypeError
    """
    for value in values:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {str(value)[:40]!r}")


def number_of(value: Any) -> float:
    """A number of seconds or bytes, finite and not negative.

    Raises
    ------
    TypeError, ValueError
    """
    expect(float, float(value) if type(value) is int else value)
    if not isfinite(value) or value < 0:
        raise ValueError(f"expected a finite number of at least 0, got {value}")
    return float(value)


def order_of(value: Any) -> Order:
    """The order of a record: a counter and a writer.

    Raises
    ------
    TypeError, ValueError
    """
    counter, writer = value
    expect(int, counter)
    expect(str, writer)
    return Order(counter, writer)


def names_of(value: Any) -> frozenset[str]:
    """A set of names.

    Raises
    ------
    TypeError
    """
    expect(list, value)
    expect(str, *value)
    return frozenset(value)
