"""Pictures of slices, drift, traces, units and epochs: what is on the axes is what the answer says."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.store import Store
from tests.capturing import capturing


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """No figure outlives its test."""
    yield
    plt.close("all")


# Mathematics to matplotlib, and not even right as such.
HOSTILE = r"$\frac{sqft"


def test_slices_are_bars_with_intervals_worst_at_the_top(store: Store) -> None:
    rng = np.random.default_rng(0)
    given = pd.DataFrame({HOSTILE: rng.integers(0, 3, 600), "zone": rng.integers(0, 2, 600)})
    with capturing(store) as capture:
        capture.add("input", given, role="input")
        capture.add("target", np.zeros(600), role="target")
        capture.add("prediction", rng.exponential(size=600) * (1 + given[HOSTILE].to_numpy()), role="prediction")
    answer = mistique.slices(store, "lab/model@1/train")
    ax = answer.plot()
    ax.figure.canvas.draw()
    bars = sorted(ax.patches, key=lambda bar: -bar.get_y())
    assert [bar.get_width() for bar in bars] == answer.values[:, 1].tolist()
    names = [text.get_text() for text in sorted(ax.get_yticklabels(), key=lambda text: -text.get_position()[1])]
    assert names[0].startswith(f"{HOSTILE} 2")
    assert "rows)" in names[0]
    intervals = np.concatenate([segment[:, 0] for lines in ax.collections for segment in lines.get_segments()])
    half = 1.96 * answer.standard_errors
    np.testing.assert_allclose(
        sorted(intervals), sorted(np.concatenate([answer.values[:, 1] - half, answer.values[:, 1] + half]))
    )
    assert ax.get_lines()[-1].get_xdata()[0] == answer.overall
    assert "lab/model@1/train/prediction" in ax.get_title(loc="left")
