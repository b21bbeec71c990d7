"""Feature maps made smaller before they are encoded: one value for each window of positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np

from mistique.codecs.codec import Codec, Policy, codec_from_config, register, resolve_codec
from mistique.codecs.power import Power
from mistique.kernels.pool import pool_maps
from mistique.schema import ColumnType


@register
@dataclass(frozen=True)
class Pool:
    """Lossy: the mean or the largest value of each window of a feature map, kept by another codec.

    Parameters
    ----------
    sigma : {2, 4, "all"}, default 2
        Height and width of a window; ``"all"``: the whole map.
    how : {"mean", "max"}, default "mean"
    inner : Codec or mapping or str, default Power()
        What keeps the pooled values. A mapping is a codec's config.

    Notes
    -----
    A summarization (3.2 of doi:10.1145/3183713.3196934): the capture calls `summarize` before it cuts chunks, and what
    is stored has the shape `stored_shape`; `encode` and `decode` are those of `inner` on pooled values. Asked for a
    position, a store answers with the value of its window; the bound is the largest distance that `summarize` found
    over all rows plus that of `inner`. What is no feature map is kept by `inner` alone. Windows at the edges may be
    smaller. A NaN makes its window NaN, and a window with infinities has the mean that arithmetic gives: finite values
    beside them are lost, so the bound is then infinite, and so it is where a float64 is beyond float32. -0.0 and
    denormals are numbers like others. Held by ``tests/codecs/test_pool.py`` and ``tests/ingest/test_summaries.py``.

    Examples
    --------
    >>> import numpy as np
    >>> pool = Pool(2, "max")
    >>> pooled, error = pool.summarize(np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1))
    >>> pooled.reshape(2, 2), error
    (array([[ 5.,  7.],
           [13., 15.]], dtype=float32), 5.0)
    >>> pool.stored_columns(np.array([0, 3, 15]), (4, 4, 1))
    array([0, 1, 3])
    >>> pool.stored_shape((10,))
    Traceback (most recent call last):
    ...
    ValueError: the pool codec: expected feature maps (height, width, channels), got the shape (10,)
    """

    sigma: int | str = 2
    how: str = "mean"
    inner: Codec | Mapping[str, Any] | str = field(default_factory=Power, kw_only=True)

    name: ClassVar[str] = "pool"
    is_lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.sigma not in (2, 4, "all"):
            raise ValueError(f"sigma of the pool codec: expected 2, 4 or 'all', got {self.sigma!r}")
        if self.how not in ("mean", "max"):
            raise ValueError(f"how of the pool codec: expected 'mean' or 'max', got {self.how!r}")
        found = codec_from_config(self.inner) if isinstance(self.inner, Mapping) else resolve_codec(self.inner)
        if isinstance(found, (Pool, Policy)):
            raise ValueError(f"inner of the pool codec: expected a codec of values, got {found.name!r}")
        object.__setattr__(self, "inner", found)

    @property
    def values_codec(self) -> Codec:
        """The codec of the pooled values."""
        assert isinstance(self.inner, Codec)
        return self.inner

    def config(self) -> dict[str, Any]:
        """Name and parameters, as JSON keeps them."""
        return {"name": self.name, "sigma": self.sigma, "how": self.how, "inner": self.values_codec.config()}

    def applies_to(self, column_type: ColumnType) -> bool:
        """Floats without a mask of nulls."""
        return column_type.is_float and self.values_codec.applies_to(column_type)

    def applies_to_shape(self, shape: tuple[int, ...]) -> bool:
        """Feature maps: (height, width, channels)."""
        return len(shape) == 3

    def for_shape(self, shape: tuple[int, ...]) -> Codec:
        """Itself for feature maps, `inner` for all else."""
        return self if self.applies_to_shape(shape) else self.values_codec

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a row once it is pooled."""
        height, width, channels = self._maps(shape)
        sigma = self._window(height, width)
        return -(-height // sigma), -(-width // sigma), channels

    def summarize(self, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Pooled rows (n_rows, *stored_shape), in the type of the rows, and the largest distance of a value from its
        window's.
        """
        shape = self._maps(rows.shape[1:])
        with np.errstate(invalid="ignore", over="ignore"):
            maps = np.ascontiguousarray(rows, np.float32)
            pooled = np.empty((len(rows), *self.stored_shape(shape)), np.float32)
            window = self._window(shape[0], shape[1])
            error = float(pool_maps(maps, window, self.how == "max", pooled))
            if not np.isfinite(pooled).all():
                error = _largest_distance(maps, pooled, window)
            if rows.dtype == np.float32:
                return pooled, error
            if rows.dtype == np.float64 and (np.isfinite(rows) & ~np.isfinite(maps)).any():
                error = inf
            # The way through float32 and back moves a value and its window's by half a step each.
            finite = np.abs(pooled[np.isfinite(pooled)]).max(initial=0.0)
            epsilon = 2.0**-8 if rows.dtype.itemsize == 2 else 2.0**-23
            return pooled.astype(rows.dtype), error + float(finite + error) * epsilon

    def stored_columns(self, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Where columns of the full shape are stored: both are numbered unit by unit, positions row by row."""
        height, width, _ = self._maps(shape)
        pooled_height, pooled_width, _ = self.stored_shape(shape)
        sigma = self._window(height, width)
        unit, position = np.divmod(np.asarray(columns), height * width)
        y, x = np.divmod(position, width)
        stored: np.ndarray = unit * (pooled_height * pooled_width) + (y // sigma) * pooled_width + x // sigma
        return stored

    def encode(self, values: np.ndarray, column_type: ColumnType) -> np.ndarray:
        """The payload of `inner`."""
        return self.values_codec.encode(values, column_type)

    def decode(self, payload: np.ndarray, shape: tuple[int, int], column_type: ColumnType) -> np.ndarray:
        """Pooled values, as `inner` has them."""
        return self.values_codec.decode(payload, shape, column_type)

    def max_abs_error(self, payload: np.ndarray, column_type: ColumnType) -> float:
        """Of pooled values: the bound of `inner`."""
        return self.values_codec.max_abs_error(payload, column_type)

    def _maps(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        if len(shape) != 3:
            raise ValueError(f"the pool codec: expected feature maps (height, width, channels), got the shape {shape}")
        height, width, channels = shape
        return height, width, channels

    def _window(self, height: int, width: int) -> int:
        return max(height, width, 1) if self.sigma == "all" else int(self.sigma)


def _largest_distance(maps: np.ndarray, pooled: np.ndarray, window: int) -> float:
    """Of a finite value from that of its window; infinity where one lies in a window that has no finite value."""
    height, width = maps.shape[1:3]
    spread = pooled.repeat(window, axis=1)[:, :height].repeat(window, axis=2)[:, :, :width]
    distances = np.abs(maps.astype(np.float64) - spread)[np.isfinite(maps)]
    return float(np.nan_to_num(distances, nan=inf, posinf=inf).max(initial=0.0))
