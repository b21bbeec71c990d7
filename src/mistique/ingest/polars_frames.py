"""polars frames to pandas ones, column by column, nulls kept. polars is recognised, never imported."""

from __future__ import annotations

from typing import Any


def is_polars(value: Any) -> bool:
    """It is a DataFrame or a Series of polars."""
    return type(value).__module__.partition(".")[0] == "polars" and type(value).__name__ in ("DataFrame", "Series")


def as_pandas(value: Any) -> Any:
    """A pandas frame or series of the same values.

    Notes
    -----
    Integers and booleans with nulls get pandas' nullable types. A null among floats becomes NaN.
    """
    import pandas as pd

    if type(value).__name__ == "Series":
        return _column(value).rename(value.name or None)
    columns = {name: _column(value[name]) for name in value.columns}
    return pd.DataFrame(columns) if columns else pd.DataFrame(index=pd.RangeIndex(len(value)))


def _column(series: Any) -> Any:
    import pandas as pd

    kind = str(series.dtype)
    has_nulls = series.null_count() > 0
    if kind in ("String", "Utf8"):
        return pd.Series(series.to_list(), dtype="str")
    if kind.startswith(("Categorical", "Enum")):
        return pd.Series(pd.Categorical(series.to_list()))
    if has_nulls and kind.startswith(("Int", "UInt")):
        return pd.Series(pd.array(series.to_list(), dtype=kind))
    if has_nulls and kind == "Boolean":
        return pd.Series(pd.array(series.to_list(), dtype="boolean"))
    return pd.Series(series.to_numpy())
