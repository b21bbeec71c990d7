"""Pictures of rows: a grid of the images with where a unit is active on them, or bars where the input is no image."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mistique.plots.axes import GREYS, axes_of, title
from mistique.queries import Neighbours, TopK
from mistique.queries.answer import format_value
from mistique.queries.examples import Examples, is_image

_COLUMNS = 5
_ACTIVE = 0.5  # of a map's maximum: what lies within its outline


def draw_examples(answer: TopK, ax: Any = None) -> Any:
    """The examples in order, each under its row label and value."""
    asked = f"with the {answer.order} {answer.columns[0]}"
    examples = answer.examples()
    if not is_image(examples):
        return _draw_values(answer, f"Rows {asked}", ax)
    titles = [f"{label}\n{format_value(value)}" for label, value in zip(answer.rows, answer.values, strict=True)]
    return draw_images(f"Images {asked}", answer.key, examples, titles, ax, maps=answer.maps())


def draw_neighbours(answer: Neighbours, ax: Any = None) -> Any:
    """The row that was asked about, then its neighbours, each under its row label and distance."""
    of = "a new example" if answer.query_position is None else f"{answer.query}"
    asked = f"nearest to {of} by {answer.columns[0]}"
    examples = answer.examples()
    if not is_image(examples):
        return _draw_values(answer, f"Rows {asked}", ax)
    titles = [f"{label}\n{format_value(value)}" for label, value in zip(answer.rows, answer.values, strict=True)]
    maps = answer.maps()
    if answer.query_position is not None:
        itself = np.array([answer.query_position])
        examples = np.concatenate([answer.examples(itself), examples])
        maps = None if maps is None else np.concatenate([answer.maps(itself), maps])
        titles = [f"{answer.query}\n(asked)", *titles]
    return draw_images(f"Images {asked}", answer.key, examples, titles, ax, maps=maps)


def draw_images(
    asked: str, of: str, images: Any, titles: list[str], ax: Any = None, *, maps: np.ndarray | None = None
) -> Any:
    """Images on one scale of greys, or in colour, each under its title, with where a map is active on them."""
    n_rows = -(-len(images) // _COLUMNS)
    if maps is not None:
        of = f"{of}; outlined: over {_ACTIVE:.0%} of its maximum on the image"
    if ax is None:
        figure = plt.figure(figsize=(1.5 * _COLUMNS, 1.8 * n_rows + 0.8), layout="constrained")
        grid = figure.subplots(n_rows, _COLUMNS, squeeze=False)
        figure.suptitle(f"{fill(asked, 80)}\n{fill(of, 90)}", fontsize=10)
    else:
        ax.set_axis_off()
        title(ax, asked, of)
        grid = ax.get_subplotspec().subgridspec(n_rows, _COLUMNS).subplots(squeeze=False)
    for cell in grid.reshape(-1):
        cell.set_axis_off()
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    for i, (cell, image, text) in enumerate(zip(grid.reshape(-1), images, titles, strict=False)):
        drawn = (image - low) / max(high - low, 1e-12)
        cell.imshow(drawn[..., 0] if image.shape[-1] == 1 else drawn, cmap="gray")
        if maps is not None:
            _outline(cell, maps[i], image.shape[:2])
        cell.set_title(text, fontsize=8)
    return grid


def _outline(cell: Any, active: np.ndarray, size: tuple[int, ...]) -> None:
    """Where a map is active, drawn over an image of another size."""
    peak = float(active.max())
    if min(active.shape) < 2 or not active.min() < _ACTIVE * peak:
        return
    y, x = ((np.arange(n) + 0.5) * whole / n - 0.5 for n, whole in zip(active.shape, size, strict=True))
    # White within black, so that it is seen on light and on dark.
    for color, width in (("black", 2.5), ("white", 1.0)):
        cell.contour(x, y, active, levels=[_ACTIVE * peak], colors=color, linewidths=width)


def _draw_values(answer: Examples, asked: str, ax: Any) -> Any:
    ax = axes_of(ax, height=0.3 * len(answer.rows) + 1.2)
    places = np.arange(len(answer.rows))[::-1]
    ax.barh(places, answer.values, color=GREYS[1], edgecolor="0.2")
    ax.set_yticks(places, [str(label) for label in answer.rows], fontsize=8)
    ax.set_xlabel(answer.columns[0])
    title(ax, asked, answer.key)
    return ax
