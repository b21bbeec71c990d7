"""Centring, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.kernels import centring


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 1), (7, 30), (256, 65)])
def test_rows_and_products_are_centred(dtype: type, shape: tuple[int, int]) -> None:
    rows = (np.random.default_rng(0).normal(size=shape) + 1000).astype(dtype)
    rows[:, 0] = 0.1
    means, centred = np.empty(shape[1]), np.empty(shape, dtype)
    centring.centre_columns(rows, means, centred)
    exact = rows.astype(np.float64)
    assert np.allclose(centred, exact - exact.mean(axis=0), atol=1e-6)
    assert not centred[:, 0].any()
    n = shape[0]
    out = np.empty(n * (n - 1) // 2)
    above = np.where(np.tri(n, k=-1, dtype=bool), np.nan, centred @ centred.T)
    left = centring.centre_products(above, np.empty(n), out)
    assert np.isclose(left, 1.0, atol=1e-5)
    products = (centred @ centred.T).astype(np.float64)
    np.fill_diagonal(products, 0)
    sums = products.sum(axis=1) / (n - 2)
    expected = products - sums[:, None] - sums + sums.sum() / (n - 1)
    assert np.allclose(out, expected[np.triu_indices(n, 1)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_tell_what_is_left_without_means(dtype: type) -> None:
    n, out = 20, np.empty(190)
    for mean in (0.0, 0.5, 3.0):
        rows = (np.random.default_rng(0).normal(size=(n, 30)) + mean).astype(dtype)
        left = centring.centre_products(rows @ rows.T, np.empty(n), out)
        assert np.isclose(left, rows.var(axis=0).sum() / np.square(rows).mean(axis=0).sum(), rtol=1e-4)
    rows[3, 4] = np.inf
    with np.errstate(invalid="ignore"):
        assert np.isnan(centring.centre_products(rows @ rows.T, np.empty(n), out))
    assert centring.centre_products(np.zeros((n, n), dtype), np.empty(n), out) == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hsic_is_that_of_its_definition(dtype: type) -> None:
    n, rng = 37, np.random.default_rng(0)
    layers = [rng.normal(size=(n, width)).astype(dtype) for width in (5, 40)]
    centred, total = np.empty((1, 2, n * (n - 1) // 2)), np.zeros((2, 2))
    for i, rows in enumerate(layers):
        assert centring.add_hsic((rows @ rows.T)[None], centred, i, 0.0, total[i]) == 1
    for i, j in ((0, 0), (1, 0), (1, 1)):
        k, other = (layer.astype(np.float64) @ layer.astype(np.float64).T for layer in (layers[i], layers[j]))
        np.fill_diagonal(k, 0)
        np.fill_diagonal(other, 0)
        # Song et al. 2012, equation 5.
        of_sums = k.sum() * other.sum() / ((n - 1) * (n - 2))
        found = (np.trace(k @ other) + of_sums - 2 / (n - 2) * (k @ other).sum()) / (n * (n - 3))
        assert np.isclose(total[i, j], n * found, rtol=1e-5)
    assert total[0, 1] == 0.0


def test_products_far_from_zero_add_nothing() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 20, 30))
    rows[1] += 3
    products, centred, total = rows @ rows.transpose(0, 2, 1), np.empty((3, 1, 190)), np.zeros(1)
    assert centring.add_hsic(products, centred, 0, 0.25, total) == 1
    of_first = total[0]
    assert of_first > 0.0
    assert centring.add_hsic(products[1:], centred[1:], 0, 0.25, total) == 0
    assert centring.add_hsic(np.full((1, 20, 20), np.nan), centred, 0, 0.25, total) == 0
    assert total[0] == of_first
    assert centring.add_hsic(products, centred, 0, 0.0, total) == 3


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_means_tell_what_is_not_finite(special: float) -> None:
    for place in (0, 3):
        rows = np.ones((5, 2))
        rows[place, 1] = special
        means = np.empty(2)
        centring.centre_columns(rows, means, np.empty((5, 2)))
        assert np.isfinite(means).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_rows", "first"), [(4, 0), (16, 3), (35, 5)])
def test_some_rows_are_centred_where_columns_lie_together(dtype: type, n_rows: int, first: int) -> None:
    columns = (np.random.default_rng(0).normal(size=(9, 40)) + 1000).astype(dtype)
    columns[0] = 0.1
    columns[1, first] = np.nan
    means, centred = np.empty(9), np.empty((9, n_rows), dtype)
    centring.centre_lines(columns, first, means, centred)
    exact = columns[2:, first : first + n_rows].astype(np.float64)
    assert np.allclose(centred[2:], exact - exact.mean(axis=1, keepdims=True), atol=1e-6)
    assert not centred[0].any()
    assert np.isfinite(means).tolist() == [True, False, *[True] * 7]
