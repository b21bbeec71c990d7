"""The picture of a top-k: a grid of the images, or bars where the input is no image."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mistique.plots.axes import GREYS, axes_of, title
from mistique.queries import TopK
from mistique.queries.answer import format_value
from mistique.queries.topk import is_image

_COLUMNS = 5


def draw_examples(answer: TopK, ax: Any = None) -> Any:
    """The examples in order, each under its row label and value."""
    examples = answer.examples()
    if not is_image(examples):
        return _draw_values(answer, ax)
    assert examples is not None
    n_rows = -(-len(examples) // _COLUMNS)
    if ax is None:
        figure = plt.figure(figsize=(1.5 * _COLUMNS, 1.8 * n_rows + 0.8), layout="constrained")
        grid = figure.subplots(n_rows, _COLUMNS, squeeze=False)
        figure.suptitle(f"Images with the largest {answer.columns[0]}\n{answer.key}", fontsize=10)
    else:
        ax.set_axis_off()
        title(ax, f"Images with the largest {answer.columns[0]}", answer.key)
        places = ax.get_subplotspec().subgridspec(n_rows, _COLUMNS)
        grid = places.subplots(squeeze=False)
    for cell in grid.reshape(-1):
        cell.set_axis_off()
    low, high = float(np.nanmin(examples)), float(np.nanmax(examples))
    for cell, image, label, value in zip(grid.reshape(-1), examples, answer.rows, answer.values, strict=False):
        drawn = (image - low) / max(high - low, 1e-12)
        cell.imshow(drawn[..., 0] if image.shape[-1] == 1 else drawn, cmap="gray")
        cell.set_title(f"{label}\n{format_value(value)}", fontsize=8)
    return grid


def _draw_values(answer: TopK, ax: Any) -> Any:
    ax = axes_of(ax, height=0.3 * len(answer.rows) + 1.2)
    places = np.arange(len(answer.rows))[::-1]
    ax.barh(places, answer.values, color=GREYS[1], edgecolor="0.2")
    ax.set_yticks(places, [str(label) for label in answer.rows], fontsize=8)
    ax.set_xlabel(answer.columns[0])
    title(ax, f"Rows with the largest {answer.columns[0]}", answer.key)
    return ax
