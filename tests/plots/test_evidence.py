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


def two_datasets(store: Store) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    for dataset, moved in (("train", 0.0), ("serving", 1.0)):
        given = pd.DataFrame(
            {HOSTILE: rng.normal(size=400) + moved, "zone": pd.array(rng.choice(["n", "s"], 400), dtype="str")}
        )
        with capturing(store, dataset=dataset, run_id="one") as capture:
            capture.add("input", given, role="input")
            capture.add("scale", given[[HOSTILE]] * 2)
    return "lab/model@1/train", "lab/model@1/serving"


def test_drift_of_one_stage_overlays_both_samples_of_each_column(store: Store) -> None:
    key, other = two_datasets(store)
    grid = mistique.drift(store, f"{key}/input", other=f"{other}/input").plot()
    grid[0, 0].figure.canvas.draw()
    assert [cell.get_title(loc="left").partition(":")[0] for cell in grid.reshape(-1)] == [HOSTILE, "zone"]
    assert [text.get_text() for text in grid[0, 0].get_legend().get_texts()] == ["train", "serving"]
    for outline in grid[0, 0].patches:
        assert outline.get_data().values.sum() == pytest.approx(1.0)
    assert sum(bar.get_height() for bar in grid[0, 1].patches) == pytest.approx(2.0)
    _, ax = plt.subplots()
    assert mistique.drift(store, f"{key}/input", other=f"{other}/input").plot(ax) is ax


def test_drift_of_a_dataset_has_bars_for_each_stage(store: Store) -> None:
    key, other = two_datasets(store)
    answer = mistique.drift(store, key, other=other)
    ax = answer.plot()
    ax.figure.canvas.draw()
    worst = [answer.worst(stage) for stage in answer.stage_names]
    assert [bar.get_width() for bar in ax.patches] == [*answer.values[worst, 0], *answer.values[worst, 1]]
    assert "they part at input" in ax.get_title(loc="left")


def test_drift_that_may_be_steps_of_quantized_values_is_marked_so(store: Store) -> None:
    rng = np.random.default_rng(0)
    for dataset, largest in (("train", 1.0), ("valid", 1.37)):
        values = np.append(rng.random((999, 3)), [[largest] * 3], axis=0).astype(np.float32)
        with capturing(store, dataset=dataset, run_id="one", codec=mistique.Power(bits=3)) as capture:
            capture.append("input", values * 0, role="input")
            capture.append("dense", values)
    answer = mistique.drift(store, "lab/model@1/train", other="lab/model@1/valid")
    assert answer.parted_at is None
    ticks = [text.get_text() for text in answer.plot().get_yticklabels()]
    assert ["(not certain)" in tick for tick in ticks] == [False, True]


def test_a_trace_has_a_bar_for_each_stage_in_the_order_of_the_model(store: Store) -> None:
    key, other = two_datasets(store)
    answer = mistique.trace(store, key, row=3, other=other)
    ax = answer.plot()
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["input", "scale"]
    assert [bar.get_width() for bar in ax.patches] == [stage.relative_distance for stage in answer.stages]
    assert "row 3" in ax.get_title(loc="left")
    assert len(mistique.trace(store, key, row=3).plot().patches) == 2


def test_dead_units_over_epochs_are_a_line_for_each_layer_and_else_bars(store: Store) -> None:
    for epoch in (1, 2, 3):
        with capturing(store, model="lab/net", run_id="one", epoch=epoch) as capture:
            for i, name in enumerate(("conv", HOSTILE)):
                capture.append(name, np.maximum(np.eye(6, dtype=np.float32) * (epoch - 2 + i), 0))
    answer = mistique.dead_units(store, "lab/net@1/train")
    ax = answer.plot()
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["conv", HOSTILE]
    assert [line.get_ydata().tolist() for line in ax.get_lines()] == [[1, 1, 0], [1, 0, 0]]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1.1", "1.2", "1.3"]
    bars = mistique.dead_units(store, "lab/net@1.2/train").plot().patches
    assert [bar.get_width() for bar in bars] == [1, 0, 0, 0]


def test_epochs_are_a_curve_for_each_layer(store: Store) -> None:
    rng = np.random.default_rng(0)
    for epoch in (1, 2, 3):
        with capturing(store, model="lab/net", run_id="one", epoch=epoch) as capture:
            for name in ("conv", HOSTILE):
                capture.append(name, rng.normal(size=(20, 3)))
    answer = mistique.epochs(store, "lab/net@1/train")
    ax = answer.plot()
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == answer.rows.tolist()
    for line, row in zip(ax.get_lines(), answer.values, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), row)
    assert len({line.get_linestyle() for line in ax.get_lines()[:2]}) == 2
