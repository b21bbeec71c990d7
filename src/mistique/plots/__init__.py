"""Pictures of answers, by matplotlib. Each draws on axes that are given, or on new ones, and returns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mistique.plots.bars import draw_bars
from mistique.plots.correlations import draw_correlations
from mistique.plots.curves import draw_dead_units, draw_epochs
from mistique.plots.detectors import draw_detectors
from mistique.plots.error_bars import draw_slices
from mistique.plots.heat import draw_class_means, draw_corr, draw_similarities
from mistique.plots.histogram import draw_histogram
from mistique.plots.images import draw_examples, draw_neighbours
from mistique.plots.overlays import draw_drift
from mistique.plots.parts import draw_part
from mistique.plots.rows import draw_row_diff
from mistique.plots.stages import draw_trace
from mistique.plots.unit_images import draw_units, png_of
from mistique.queries import (
    Cka,
    ClassMeans,
    ColDiff,
    ColDist,
    Corr,
    DeadUnits,
    Drift,
    Epochs,
    Neighbours,
    NetDissect,
    Part,
    RowDiff,
    Slices,
    Svcca,
    TopK,
    Trace,
)
from mistique.queries.answer import Plotted

__all__ = ["draw_units", "plot", "png_of"]

_PICTURES: dict[type[Plotted], Callable[[Any, Any], Any]] = {
    Part: draw_part,
    TopK: draw_examples,
    ColDist: draw_histogram,
    ColDiff: draw_bars,
    RowDiff: draw_row_diff,
    ClassMeans: draw_class_means,
    Slices: draw_slices,
    Drift: draw_drift,
    Trace: draw_trace,
    DeadUnits: draw_dead_units,
    Epochs: draw_epochs,
    Neighbours: draw_neighbours,
    Cka: draw_similarities,
    Svcca: draw_correlations,
    Corr: draw_corr,
    NetDissect: draw_detectors,
}


def plot(answer: Plotted, ax: Any = None) -> Any:
    """The picture that goes with an answer.

    Parameters
    ----------
    answer : Plotted
        Of any question that has a picture.
    ax : Axes, optional
        To draw on; where the picture is a grid, its frame is taken. None: a new figure.

    Returns
    -------
    Axes, or ndarray of Axes for a grid of images

    Examples
    --------
    >>> import mistique.plots
    >>> mistique.plots.plot(42)
    Traceback (most recent call last):
    ...
    TypeError: expected an answer that has a picture, got int
    """
    draw = _PICTURES.get(type(answer))
    if draw is None:
        raise TypeError(f"expected an answer that has a picture, got {type(answer).__name__}")
    return draw(answer, ax)
