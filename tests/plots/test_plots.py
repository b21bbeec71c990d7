"""Pictures: what is on the axes is what the answer says."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

import mistique
from mistique.store import Store
from tests.capturing import capturing


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """No figure outlives its test."""
    yield
    plt.close("all")


@pytest.fixture
def key(store: Store) -> str:
    """A captured model over 30 images, with a feature map, a table and predictions; the key's prefix."""
    random = np.random.default_rng(0)
    target = random.integers(0, 3, 30)
    for wrong in (0, 5):
        with capturing(store, model=f"lab/model-{wrong}") as capture:
            capture.append("input", random.random((30, 8, 8, 1), np.float32), role="input")
            capture.append("maps", random.random((30, 4, 4, 6), np.float32), parents=("input",))
            capture.add("table", random.random((30, 2)), columns=["a", "b"])
            prediction = np.where(np.arange(30) < wrong, (target + 1) % 3, target)
            capture.append("prediction", np.eye(3, dtype=np.float32)[prediction], role="prediction")
            capture.append("target", target, role="target")
    return "@latest/train/"


def test_topk_of_images_draws_them_in_order_under_their_labels(store: Store, key: str) -> None:
    answer = mistique.topk(store, f"lab/model-0{key}maps", unit=2, k=7)
    cells = answer.plot().reshape(-1)
    assert [cell.get_title().split("\n")[0] for cell in cells[:7]] == [str(label) for label in answer.rows]
    images = mistique.get(store, f"lab/model-0{key}input").values
    low, high = images[answer.positions].min(), images[answer.positions].max()
    drawn = cells[0].images[0].get_array()
    np.testing.assert_allclose(drawn, (images[answer.positions[0], ..., 0] - low) / (high - low), rtol=1e-5)
    assert not cells[7].images


def test_topk_without_images_draws_a_bar_for_each_row(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("input", np.arange(8.0).reshape(4, 2), role="input")
    ax = mistique.topk(store, "lab/model@1/train/input", column=1, k=3).plot()
    assert sorted(bar.get_width() for bar in ax.patches) == [3.0, 5.0, 7.0]


def test_col_dist_draws_the_counts(store: Store, key: str) -> None:
    answer = mistique.col_dist(store, f"lab/model-0{key}table", column="b", bins=5)
    ax = answer.plot()
    np.testing.assert_array_equal(ax.patches[0].get_data().values, answer.values[0])
    assert "b" in ax.get_xlabel()


def test_col_dist_by_group_draws_an_outline_of_shares_for_each(store: Store, key: str) -> None:
    ax = mistique.col_dist(store, f"lab/model-0{key}table", column="a", by="target").plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [f"target = {i}" for i in range(3)]
    for outline in ax.patches:
        assert outline.get_data().values.sum() == pytest.approx(1.0)


def test_col_diff_draws_two_bars_a_group_on_the_axes_given(store: Store, key: str) -> None:
    _, ax = plt.subplots()
    answer = mistique.col_diff(store, f"lab/model-0{key}prediction", other=f"lab/model-5{key}prediction", by="target")
    assert answer.plot(ax) is ax
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, [*answer.values[:, 1], *answer.values[:, 2]])
    assert "lab/model-0" in ax.get_title(loc="left")


def test_row_diff_draws_a_ring_and_a_dot_for_each_column(store: Store, key: str) -> None:
    answer = mistique.row_diff(store, f"lab/model-0{key}table", rows=(3, 8))
    ax = answer.plot()
    for side in (0, 1):
        np.testing.assert_allclose(ax.collections[1 + side].get_offsets()[:, 0], answer.values[:, side])
    assert [text.get_text() for text in ax.get_yticklabels()] == answer.rows.tolist()
    assert "3 and 8" in ax.get_title(loc="left")


def test_class_means_draws_a_line_of_greys_for_each_group(store: Store, key: str) -> None:
    answer = mistique.class_means(store, f"lab/model-0{key}maps")
    ax = answer.plot()
    np.testing.assert_allclose(ax.images[0].get_array(), answer.values)
    n_rows = np.bincount(mistique.get(store, f"lab/model-0{key}target").values)
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"{i} ({n})" for i, n in enumerate(n_rows)]


def test_class_means_of_a_table_draws_each_column_on_its_own_scale(store: Store, key: str) -> None:
    drawn = mistique.class_means(store, f"lab/model-0{key}table").plot().images[0].get_array()
    np.testing.assert_allclose([drawn.min(axis=0), drawn.max(axis=0)], [[0, 0], [1, 1]])


def test_knn_of_images_draws_the_row_that_asks_before_its_neighbours(store: Store, key: str) -> None:
    answer = mistique.knn(store, f"lab/model-0{key}maps", row=4, k=3)
    cells = answer.plot().reshape(-1)
    assert [cell.get_title().split("\n")[0] for cell in cells[:4]] == ["4", *map(str, answer.rows)]
    assert not cells[4].images


def test_a_map_is_outlined_where_it_is_over_half_of_its_maximum(store: Store) -> None:
    maps = np.zeros((3, 4, 4, 2), np.float32)
    maps[1, 0, 3, 1] = 1.0
    with capturing(store) as capture:
        capture.append("input", np.zeros((3, 8, 8, 1), np.float32), role="input")
        capture.append("maps", maps)
    first, second = mistique.topk(store, "lab/model@1/train/maps", unit=1, k=2).plot().reshape(-1)[:2]
    (outline,) = {tuple(path.vertices.mean(axis=0).round(1)) for c in first.collections for path in c.get_paths()}
    # The cell at row 0, column 3 of 4 is about 6.5 from the left and 0.5 from the top of an image of 8.
    np.testing.assert_allclose(outline, [6.5, 0.5], atol=0.6)
    assert not second.collections


def test_knn_without_images_draws_a_bar_for_each_distance(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("input", np.arange(8.0).reshape(4, 2), role="input")
    answer = mistique.knn(store, "lab/model@1/train/input", row=0, k=2)
    assert sorted(bar.get_width() for bar in answer.plot().patches) == sorted(answer.values.tolist())


def test_cka_draws_a_square_for_each_pair_of_layers(store: Store, key: str) -> None:
    answer = mistique.cka(store, f"lab/model-0{key}".rstrip("/"), other=[f"lab/model-5{key}maps"])
    ax = answer.plot()
    np.testing.assert_allclose(ax.images[0].get_array(), answer.values)
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in answer.values[:, 0]]
    assert "lab/model-0" in ax.get_title(loc="left")
    assert "lab/model-5" in ax.get_title(loc="left")


def test_svcca_draws_the_correlations_and_their_mean(store: Store, key: str) -> None:
    answer = mistique.svcca(store, f"lab/model-0{key}table", other=f"lab/model-0{key}maps", reduce="mean")
    ax = answer.plot()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), answer.values)
    assert ax.lines[1].get_ydata()[0] == answer.coefficient


def test_corr_draws_the_size_of_each_correlation_and_writes_its_sign(store: Store, key: str) -> None:
    answer = mistique.corr(store, f"lab/model-0{key}maps", other=f"lab/model-0{key}table")
    ax = answer.plot()
    np.testing.assert_allclose(ax.images[0].get_array(), np.abs(answer.values))
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in answer.values.flat]


def test_netdissect_draws_a_bar_for_each_unit_named_by_its_concept(store: Store, key: str) -> None:
    concepts = np.random.default_rng(0).integers(0, 3, (30, 8, 8))
    layer = f"lab/model-0{key}maps"
    answer = mistique.netdissect(store, layer, concepts=concepts, names=["sky", "road", "tree"], alpha=0.3)
    ax = answer.plot()
    best = answer.values.max(axis=1)
    assert sorted(bar.get_width() for bar in ax.patches) == sorted(best)
    first = int(best.argmax())
    assert ax.get_yticklabels()[0].get_text() == f"unit {first}: {answer.columns[answer.values[first].argmax()]}"
