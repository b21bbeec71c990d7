"""Pictures of answers, by matplotlib. Each draws on axes that are given, or on new ones, and returns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mistique.plots.bars import draw_bars
from mistique.plots.error_bars import draw_slices
from mistique.plots.histogram import draw_histogram
from mistique.plots.images import draw_examples
from mistique.plots.overlays import draw_drift
from mistique.plots.stages import draw_trace
from mistique.queries import ColDiff, ColDist, Drift, Slices, TopK, Trace
from mistique.queries.answer import Plotted

__all__ = ["plot"]

_DRAWN: dict[type[Plotted], Callable[[Any, Any], Any]] = {
    TopK: draw_examples,
    ColDist: draw_histogram,
    ColDiff: draw_bars,
    Slices: draw_slices,
    Drift: draw_drift,
    Trace: draw_trace,
}


def plot(answer: Plotted, ax: Any = None) -> Any:
    """The picture that goes with an answer.

    Parameters
    ----------
    answer : Plotted
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
    TypeError: expected the answer of a question that has a picture, got int
    """
    for kind, draw in _DRAWN.items():
        if isinstance(answer, kind):
            return draw(answer, ax)
    raise TypeError(f"expected the answer of a question that has a picture, got {type(answer).__name__}")
