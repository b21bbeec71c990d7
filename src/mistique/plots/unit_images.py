"""The picture of several units of a layer: a row of images for each."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mistique.queries import TopK
from mistique.queries.answer import format_value


def draw_units(answers: Sequence[TopK]) -> Any:
    """The images with the largest values, a row for each unit.

    Parameters
    ----------
    answers : sequence of TopK
        Of units of one layer over images, as many images of each.

    Returns
    -------
    ndarray of Axes, shape (n_units, n_images)
    """
    n_images = max(len(answer.rows) for answer in answers)
    figure = plt.figure(figsize=(1.05 * n_images + 0.6, 1.3 * len(answers) + 0.5), layout="constrained")
    grid = figure.subplots(len(answers), n_images, squeeze=False)
    figure.suptitle(f"Images with the largest values, unit by unit\n{answers[0].key}", fontsize=9, parse_math=False)
    for cell in grid.reshape(-1):
        cell.set_xticks([])
        cell.set_yticks([])
        cell.set_frame_on(False)
    for cells, answer in zip(grid, answers, strict=True):
        examples = answer.examples()
        assert examples is not None
        low, high = float(np.nanmin(examples)), float(np.nanmax(examples))
        cells[0].set_ylabel(answer.columns[0], fontsize=8, parse_math=False)
        for cell, image, label, value in zip(cells, examples, answer.rows, answer.values, strict=False):
            drawn = (image - low) / max(high - low, 1e-12)
            cell.imshow(drawn[..., 0] if image.shape[-1] == 1 else drawn, cmap="gray")
            cell.set_title(f"{format_value(label)}: {format_value(value)}", fontsize=6, parse_math=False)
    return grid


def png_of(axes: Any) -> bytes:
    """The figure that axes are on, as the bytes of a PNG file; it is closed."""
    figure = np.asarray(axes).reshape(-1)[0].figure
    held = BytesIO()
    figure.savefig(held, format="png", dpi=110)
    plt.close(figure)
    return held.getvalue()
