"""NETDISSECT: which concepts, painted on the images, the units of a layer respond to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mistique.errors import QueryError
from mistique.kernels.transpose import turn
from mistique.queries.answer import Plotted, format_value
from mistique.queries.masks import count_pixels, thresholds_of
from mistique.queries.portions import CELLS_AT_ONCE, Portions
from mistique.queries.selection import find, select_columns
from mistique.queries.similarity import check_finite
from mistique.schema import Intermediate, Key

if TYPE_CHECKING:
    from mistique.store import Store

# Of the layer at once: 128 MB of float32. Where the model is run again, it runs once for each such group of units.
_CELLS_AT_ONCE = 4 * CELLS_AT_ONCE
_PIXELS_AT_ONCE = 8 * 1024 * 1024


@dataclass(frozen=True, eq=False, repr=False)
class NetDissect(Plotted):
    """How well each unit picks out each concept. Made by `netdissect`.

    ``values`` has shape (n_units, n_concepts), float64: intersection over union, from 0 to 1. ``rows`` are the units,
    ``columns`` the concepts. ``max_abs_error`` is infinite where values are quantized: a cell may cross the threshold.

    Parameters
    ----------
    thresholds : ndarray of shape (n_units,), float64
        What a unit's activation is over on a share `alpha` of all cells.
    alpha, min_iou : float
    silent : tuple of int
        Units whose threshold is their smallest value, such as those that are zero almost everywhere: they pick out all
        or nothing, and score 0.
    """

    _dims: ClassVar[tuple[str, ...]] = ("unit", "concept")

    thresholds: np.ndarray
    alpha: float
    min_iou: float
    silent: tuple[int, ...]

    @property
    def detectors(self) -> dict[int, str]:
        """The concept of each unit that scores over `min_iou`, the best first."""
        best = self.values.max(axis=1)
        order = np.lexsort((np.arange(len(best)), -best))
        chosen = [i for i in order.tolist() if best[i] > self.min_iou]
        return {int(self.rows[i]): self.columns[int(self.values[i].argmax())] for i in chosen}

    def _title(self) -> str:
        return f"Concepts that units of {self.key} respond to"

    def _head(self) -> list[str]:
        return ["unit", "concept", "IoU"]

    def _body(self) -> list[list[str]]:
        place = {int(unit): i for i, unit in enumerate(self.rows)}
        found = list(self.detectors.items())[:10]
        return [[str(unit), concept, format_value(self.values[place[unit]].max())] for unit, concept in found]

    def _more(self) -> list[str]:
        detectors = self.detectors
        notes = [
            f"{len(detectors)} of {len(self.rows)} units score over {self.min_iou:g}, "
            f"for {len(set(detectors.values()))} of {len(self.columns)} concepts"
        ]
        if self.silent:
            notes.append(f"{len(self.silent)} units are silent")
        return [*notes, super()._more()[-1]]


def netdissect(
    store: Store,
    key: str | Key,
    *,
    concepts: np.ndarray,
    names: Sequence[str] | Mapping[int, str] | None = None,
    alpha: float = 0.005,
    threshold_of: str = "cells",
    min_iou: float = 0.04,
    unit: int | list[int] | None = None,
    exact: bool = False,
) -> NetDissect:
    """How well the strongest activations of each unit cover each concept.

    Parameters
    ----------
    store : Store
    key : str or Key
        A layer of feature maps.
    concepts : ndarray of shape (n_rows, height, width), int
        The concept at each pixel of each row's image, of any size; activations are upsampled to it.
    names : sequence of str or mapping of int to str, optional
        Of the concepts; a number without a name is no concept. Default: all numbers there are.
    alpha : float, default 0.005
        Share of all cells of a unit that count as its strongest.
    threshold_of : {"cells", "pixels"}, default "cells"
        Whether that is a share of the cells of the layer or of the pixels that they are upsampled to. Interpolation
        takes off the peaks, so the second threshold is lower, and more units are detectors.
    min_iou : float, default 0.04
        Score over which a unit is a detector.
    unit : int or list of int, optional
        Default: all.
    exact : bool, default False
        Never answer with quantized values.

    Returns
    -------
    NetDissect

    Raises
    ------
    QueryError
        Concepts that do not fit the layer, or a layer that is none of feature maps.

    Notes
    -----
    The paper's NETDISSECT (section 1.1, algorithm 2); Bau et al. 2017, arXiv 1704.05796. The threshold of a unit is the
    (1 - `alpha`) quantile of all of its cells over all rows; its mask is where the activation, bilinearly upsampled
    with the centres of pixels aligned, is at least that; the score is the sum over images of the intersection of mask
    and concept over that of their union. Units are taken in groups with all of their rows, so the layer is read once.
    Held by ``tests/queries/test_netdissect.py``; figures in ``bench/queries.py``.

    Examples
    --------
    >>> import keras, mistique, mistique.keras, numpy as np, tempfile
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.AveragePooling2D(2, name="small")])
    >>> painted = np.zeros((20, 8, 8), int)
    >>> painted[:, :2, :2] = 1
    >>> x = (painted + np.random.default_rng(0).uniform(0, 0.5, painted.shape))[..., None]
    >>> _ = mistique.keras.capture(net, x, store=store, model="toy", dataset="test", codec="raw")
    >>> answer = mistique.netdissect(store, "toy@1/test/small", concepts=painted, names={1: "corner"}, alpha=1 / 16)
    >>> answer.detectors
    {0: 'corner'}
    """
    capture, node = find(store, key)
    _check_maps(node)
    listed = _concept_names(concepts, names, node)
    for name, share in (("alpha", alpha), ("min_iou", min_iou)):
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            raise QueryError(f"{name}: expected a share between 0 and 1, got {share!r}")
    if threshold_of not in ("cells", "pixels"):
        raise QueryError(f'threshold_of: expected "cells" or "pixels", got {threshold_of!r}')
    size = concepts.shape[1:] if threshold_of == "pixels" else None
    chosen = select_columns(node, None, unit)
    units = np.arange(node.n_units) if chosen is None else chosen[:: node.positions] // node.positions
    portions = Portions(store, capture, node, columns=chosen, exact=exact, by_column=True)
    thresholds = np.empty(len(units))
    overlaps = np.zeros((len(units), len(listed) + 1), np.int64)
    is_silent, areas = np.zeros(len(units), bool), np.zeros(len(listed) + 1, np.int64)
    for group in _groups(node, len(units)):
        maps = _maps(portions, node, units[group])
        thresholds[group] = thresholds_of(maps, alpha, size=size)
        is_silent[group] = thresholds[group] <= maps.reshape(len(maps), -1).min(axis=1)
        lively = np.flatnonzero(~is_silent[group])
        found = overlaps[group]
        for images, labels in _labels(concepts, list(listed)):
            count_pixels(maps[:, images], thresholds[group], labels, lively, found)
            if not group.start:
                areas += np.bincount(labels.reshape(-1), minlength=len(areas))
    both = overlaps[:, :-1]
    either = overlaps.sum(axis=1, keepdims=True) + areas[:-1] - both
    plan = portions.plan()
    return NetDissect(
        plan.key,
        np.divide(both, either, out=np.zeros(both.shape), where=either > 0),
        units,
        tuple(listed.values()),
        0.0 if not portions.max_abs_error else float("inf"),
        plan,
        thresholds,
        float(alpha),
        float(min_iou),
        tuple(units[is_silent].tolist()),
        _store=store,
    )


def _check_maps(node: Intermediate) -> None:
    if node.is_table or len(node.shape) != 3:
        raise QueryError(
            f"{node.name} has rows of shape {node.shape}: expected a layer of feature maps, (height, width, units)"
        )


def _concept_names(concepts: Any, names: Any, node: Intermediate) -> dict[int, str]:
    is_array = isinstance(concepts, np.ndarray)
    if not is_array or concepts.dtype.kind not in "iu" or concepts.ndim != 3 or not concepts.size:
        got = f"{concepts.dtype} of shape {concepts.shape}" if is_array else type(concepts).__name__
        raise QueryError(f"concepts: expected whole numbers of shape (n_rows, height, width), got {got}")
    if len(concepts) != node.n_rows:
        wanted = f"a map for each of {node.n_rows:,} rows of {node.name}"
        raise QueryError(f"concepts: expected {wanted}, got {len(concepts):,}")
    if names is None:
        return {int(number): str(number) for number in np.unique(concepts)}
    listed = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
    if not listed:
        raise QueryError("names: expected at least one concept")
    return {int(number): str(name) for number, name in listed.items()}


def _groups(node: Intermediate, n_units: int) -> Iterator[slice]:
    """Units that are taken at once."""
    at_once = max(_CELLS_AT_ONCE // max(node.n_rows * node.positions, 1), 1)
    for low in range(0, n_units, at_once):
        yield slice(low, min(low + at_once, n_units))


def _maps(portions: Portions, node: Intermediate, units: np.ndarray) -> np.ndarray:
    """The maps of some units, of shape (n_units, n_rows, height, width), float32."""
    columns = (units[:, None] * node.positions + np.arange(node.positions)).reshape(-1)
    numbers = portions.take(0, node.n_rows, columns=None if len(columns) == portions.n_columns else columns)
    check_finite(numbers, node.name)
    maps = np.empty((len(units), node.n_rows, node.positions), np.float32)
    if numbers.T.flags.c_contiguous and numbers.dtype == np.float32:
        # As they are stored, the positions of a unit side by side: each unit is turned by itself.
        stored, out = numbers.T.view(np.uint32), maps.view(np.uint32)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda unit: turn(stored[unit], 0, out[unit]), range(len(units))))
    else:
        by_row = np.ascontiguousarray(numbers, np.float32).reshape(-1, len(units))
        turn(by_row.view(np.uint32), 0, maps.reshape(len(units), -1).view(np.uint32))
    return maps.reshape(len(units), node.n_rows, *node.shape[:2])


def _labels(concepts: np.ndarray, numbers: list[int]) -> Iterator[tuple[slice, np.ndarray]]:
    """Concepts by their place among those named, some images at a time; what has no name comes last."""
    low, high = min(numbers), max(numbers)
    place = np.full(high - low + 3, len(numbers), np.uint16)
    place[np.array(numbers) - low + 1] = np.arange(len(numbers))
    at_once = max(_PIXELS_AT_ONCE // max(concepts[0].size, 1), 1)
    for first in range(0, len(concepts), at_once):
        part = np.asarray(concepts[first : first + at_once]).astype(np.int64)
        part -= low - 1
        yield slice(first, first + at_once), place.take(part, mode="clip")
