"""Pictures of answers, by matplotlib. Each draws on axes that are given, or on new ones, and returns them."""

from __future__ import annotations

from typing import Any

from mistique.plots.bars import draw_bars
from mistique.plots.histogram import draw_histogram
from mistique.plots.images import draw_examples
from mistique.queries import ColDiff, ColDist, TopK
from mistique.queries.answer import Plotted

__all__ = ["plot"]


def plot(answer: Plotted, ax: Any = None) -> Any:
    """The picture that goes with an answer.

    Parameters
    ----------
    answer : TopK, ColDist or ColDiff
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
    TypeError: expected the answer of topk, col_dist or col_diff, got int
    """
    if isinstance(answer, TopK):
        return draw_examples(answer, ax)
    if isinstance(answer, ColDist):
        return draw_histogram(answer, ax)
    if isinstance(answer, ColDiff):
        return draw_bars(answer, ax)
    raise TypeError(f"expected the answer of topk, col_dist or col_diff, got {type(answer).__name__}")
