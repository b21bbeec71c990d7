"""Wide sparse output is stored row by row and never made dense."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import Ridge

import mistique
from mistique.errors import ChunkCorruptError
from mistique.ingest.sparse_rows import as_texts, from_texts
from mistique.sklearn import Pipeline
from mistique.store import Store
from tests.capturing import put

GENERATOR = np.random.default_rng(0)


def texts(n: int, n_words: int) -> list[str]:
    return [" ".join(f"w{i}" for i in GENERATOR.integers(0, n_words, 40)) for _ in range(n)]


@pytest.mark.supported("sparse output", "up to 4,096 columns as columns, wider ones row by row; never dense")
def test_a_wide_sparse_matrix_is_stored_and_read_without_being_made_dense(store: Store) -> None:
    documents = texts(5000, 16_000)
    pipe = Pipeline([("weigh", TfidfVectorizer()), ("ridge", Ridge(solver="sparse_cg"))])
    pipe.set_capture(store, model="texts/x")
    tracemalloc.start()
    pipe.fit(documents, GENERATOR.normal(size=5000))
    peak = tracemalloc.get_traced_memory()[1]
    expected = TfidfVectorizer().fit_transform(documents)
    assert peak < expected.shape[0] * expected.shape[1] * 8 / 4
    key = "texts/x@1/train/weigh"
    tracemalloc.reset_peak()
    found = mistique.get(store, key)
    assert tracemalloc.get_traced_memory()[1] < expected.shape[0] * expected.shape[1] * 8 / 4
    tracemalloc.stop()
    assert found.plan.chosen.road == "read"
    assert scipy.sparse.issparse(found.values)
    assert (found.values != expected).nnz == 0
    assert found.columns == tuple(pipe["weigh"].get_feature_names_out())
    word = found.columns[7]
    part = mistique.get(store, key, rows=[5, 2900, 17], columns=[word])
    assert np.array_equal(part.values, expected[[5, 2900, 17]][:, [7]].toarray())
    assert mistique.get(store, key, rows=[3], columns=[word]).to_frame().shape == (1, 1)
    assert "5,000 rows" in repr(found)
    store.drop(key)
    again = mistique.get(store, key, rows=[9])
    assert again.plan.chosen.road.startswith("recompute")
    assert abs(again.values - expected[[9]]).max() < 1e-12


def test_a_second_fit_of_the_same_words_takes_no_bytes(store: Store) -> None:
    documents = texts(500, 9000)
    for alpha in (1.0, 2.0):
        pipe = Pipeline([("weigh", TfidfVectorizer()), ("ridge", Ridge(alpha=alpha))])
        pipe.set_capture(store, model="texts/x").fit(documents, GENERATOR.normal(size=500))
    first, second = (capture.intermediates["weigh"] for capture in store.catalog.captures())
    assert first.stored_nbytes > 0
    assert second.stored_nbytes == 0


def test_a_million_hashed_columns_come_back(store: Store) -> None:
    matrix = HashingVectorizer().transform(texts(200, 5000))
    assert matrix.shape[1] == 2**20
    found = mistique.get(store, put(store, matrix)).values
    assert (found != matrix).nnz == 0


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint8, np.bool_])
@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array])
def test_types_and_kinds_of_sparse_matrices_come_back(store: Store, dtype: Any, kind: Any) -> None:
    dense = (GENERATOR.random((40, 5000)) < 0.01).astype(dtype)
    found = mistique.get(store, put(store, kind(dense))).values
    assert found.dtype == dtype
    assert np.array_equal(found.toarray(), dense)


@given(
    places=st.lists(st.lists(st.integers(0, 1_100_000), unique=True, max_size=6), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_any_places_come_back(places: list[list[int]], seed: int) -> None:
    rows = np.repeat(np.arange(len(places)), [len(row) for row in places])
    columns = np.array([place for row in places for place in row], np.int64)
    data = np.random.default_rng(seed).normal(size=len(rows))
    matrix = scipy.sparse.csr_matrix((data, (rows, columns)), shape=(len(places), 1_100_001))
    one, other = as_texts(matrix)
    found = from_texts(one.cells, other.cells, n_columns=1_100_001, cell="<f8", what="x")
    assert (found != matrix).nnz == 0


def test_texts_of_another_matrix_are_damage() -> None:
    one, other = as_texts(scipy.sparse.csr_matrix(np.eye(3)))
    for places, values, n_columns in ((one.cells, other.cells, 2), (one.cells, other.cells[:2], 3)):
        with pytest.raises(ChunkCorruptError):
            from_texts(places, values, n_columns=n_columns, cell="<f8", what="x")
