"""CKA against its printed formula, another form of it, and what it says of what is alike, constant or unlike."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import QueryError
from mistique.queries.blas_threads import one_thread_each
from mistique.store import Store
from tests.capturing import capturing, put, put_layer
from tests.reference import similarity as oracle


def two_layers(store: Store, n_rows: int = 700, *, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray, str]:
    random = np.random.default_rng(0)
    x = (mean + random.normal(size=(n_rows, 12))).astype(np.float32)
    y = np.maximum(x @ random.normal(size=(12, 8)).astype(np.float32), 0)
    with capturing(store) as capture:
        capture.append("x", x)
        capture.append("y", y)
    return x.astype(np.float64), y.astype(np.float64), "lab/model@1/train/"


@pytest.mark.parametrize(
    ("batch_rows", "sizes"),
    [(4, [4] * 175), (50, [50] * 14), (256, [256, 256, 188]), (690, [700]), (5000, [700]), (400, [400, 300])],
)
def test_it_equals_the_printed_formula(store: Store, batch_rows: int, sizes: list[int]) -> None:
    x, y, prefix = two_layers(store)
    answer = mistique.cka(store, f"{prefix}x", other=f"{prefix}y", batch_rows=batch_rows)
    assert answer.similarity == pytest.approx(oracle.minibatch_cka(x, y, sizes), abs=1e-6)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_the_estimate_equals_its_other_form_over_columns(store: Store, mean: float) -> None:
    x, y, prefix = two_layers(store, mean=mean)
    answer = mistique.cka(store, [f"{prefix}x", f"{prefix}y"], batch_rows=10**6)
    expected = [[oracle.hsic_1_by_features(a, b) for b in (x, y)] for a in (x, y)]
    np.testing.assert_allclose(answer.hsic, expected, rtol=1e-4)
    assert oracle.hsic_1(x, y) == pytest.approx(expected[0][1])


@pytest.fixture
def dcor(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Of which nothing is compiled: that takes 40 seconds at its import, and what is asked of it here is NumPy's."""
    with monkeypatch.context() as patch:
        for name in ("njit", "guvectorize"):
            patch.setattr(f"numba.{name}", lambda *_, **__: lambda function: function)
        return pytest.importorskip("dcor")


@pytest.mark.filterwarnings("ignore:Distance covariance is not guaranteed:UserWarning")
def test_of_one_batch_it_is_the_unbiased_distance_correlation_of_dcor(store: Store, dcor: ModuleType) -> None:
    # Distances squared are products of rows but for terms that U-centring takes off (Sejdinovic et al. 2013).
    x, y, prefix = two_layers(store)
    found = mistique.cka(store, f"{prefix}x", other=f"{prefix}y", batch_rows=10**6).similarity
    expected = dcor.u_distance_correlation_sqr(x.astype(np.float64), y.astype(np.float64), exponent=2)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("batch_rows", [4, 31, 64, 256, 10**6])
@pytest.mark.parametrize("cells_at_once", [1, 10**9])
def test_a_layer_is_like_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch, batch_rows: int, cells_at_once: int
) -> None:
    monkeypatch.setattr("mistique.queries.hsic.CELLS_AT_ONCE", cells_at_once)
    values = np.random.default_rng(1).normal(3, 1, size=(300, 40)).astype(np.float32)
    key, twice = (put_layer(store, part, model=f"lab/{i}") for i, part in enumerate((values, 2 * values)))
    answer = mistique.cka(store, [key, twice], batch_rows=batch_rows)
    np.testing.assert_allclose(answer.values, 1.0, atol=1e-6)


def test_the_answer_is_the_same_to_the_bit_whichever_batch_lies_far_from_zero(store: Store) -> None:
    x = np.random.default_rng(0).normal(size=(2_000, 30)).astype(np.float32)
    for model, far in (("first", slice(0, 100)), ("middle", slice(900, 1_100)), ("last", slice(1_900, None))):
        shifted = x.copy()
        shifted[far] += 1_000
        key = put_layer(store, shifted, model=f"lab/{model}")
        found = {mistique.cka(store, [key], batch_rows=100).hsic.tobytes() for _ in range(5)}
        assert len(found) == 1, model
        np.testing.assert_allclose(
            mistique.cka(store, key, batch_rows=100).hsic,
            [[oracle.hsic_1_by_features(x[i : i + 100], x[i : i + 100]) for i in range(0, 2_000, 100)]]
            @ np.full((20, 1), 1 / 20),
            rtol=1e-3,
        )


def test_layers_with_nothing_in_common_are_about_0_and_may_be_below(store: Store) -> None:
    found = []
    for seed in range(5):
        random = np.random.default_rng(seed)
        keys = [put_layer(store, random.normal(size=(60, 300)), model=f"lab/{seed}-{i}") for i in (0, 1)]
        found.append(mistique.cka(store, keys[0], other=keys[1]).similarity)
    # The biased estimate is 0.83 here.
    assert abs(np.mean(found)) < 0.1
    assert min(found) < 0
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_that_does_not_vary_is_like_none_and_named(store: Store, dtype: type) -> None:
    random = np.random.default_rng(0)
    with capturing(store) as capture:
        capture.append("still", np.full((100, 3), 0.1, dtype))
        capture.append("lively", random.normal(size=(100, 3)).astype(dtype))
    answer = mistique.cka(store, "lab/model@1/train")
    assert answer.values.tolist() == [[0, 0], [0, 1]]
    assert answer.constant == ("lab/model@1/train/still",)
    assert "the same in every row" in repr(answer)


def test_a_dataset_stands_for_its_stages_of_numbers(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("input", pd.DataFrame({"t": ["a", "b"] * 10}), role="input")
        capture.add("stage", np.random.default_rng(0).normal(size=(20, 2)))
        capture.add("prediction", np.arange(20.0), role="prediction")
        capture.add("target", np.arange(20.0), role="target")
    answer = mistique.cka(store, "lab/model@1/train")
    assert (answer.rows.tolist(), answer.columns) == (["stage", "prediction"], ("stage", "prediction"))
    assert len(answer.plans) == 2
    assert mistique.cka(store, "lab/model@1/train/").keys == answer.keys


def test_rows_are_matched_by_label(store: Store) -> None:
    random = np.random.default_rng(0)
    values, order = random.normal(size=(300, 5)), random.permutation(300)
    labels = np.array([f"r{i}" for i in range(300)])
    one = put(store, values, labels=labels)
    two = put(store, values[order][:250], labels=labels[order][:250], model="lab/other", dataset="valid")
    answer = mistique.cka(store, one, other=two)
    assert answer.n_rows == 250
    assert answer.similarity == pytest.approx(1.0, abs=1e-9)


def test_a_quantized_layer_has_no_bound_and_is_near(store: Store) -> None:
    x, y, prefix = two_layers(store)
    keys = [put_layer(store, v.astype(np.float32), model=f"lab/{i}", codec="power") for i, v in enumerate((x, y))]
    answer = mistique.cka(store, keys[0], other=keys[1])
    assert answer.similarity == pytest.approx(
        mistique.cka(store, f"{prefix}x", other=f"{prefix}y").similarity, abs=0.01
    )
    assert answer.max_abs_error == np.inf
    assert "without a bound" in repr(answer)


def test_what_cannot_be_compared_is_refused(store: Store) -> None:
    key = put_layer(store, np.zeros((20, 2), np.float32))
    cases = {
        "at least 4, got 3": {"batch_rows": 3},
        "cannot be matched: they have no labels": {"other": put_layer(store, np.zeros((30, 2)), model="lab/b")},
        "holds nulls, NaN": {"other": put_layer(store, np.full((20, 2), np.nan), model="lab/c")},
    }
    for says, asked in cases.items():
        with pytest.raises(QueryError, match=says):
            mistique.cka(store, key, **asked)
    with pytest.raises(QueryError, match="at least 4 rows"):
        mistique.cka(store, put_layer(store, np.zeros((3, 2)), model="lab/d"))
    for wrong in ([], 5, None):
        with pytest.raises(QueryError, match="expected a key"):
            mistique.cka(store, wrong)  # type: ignore[arg-type]


def test_threads_of_blas_are_given_back_by_the_last_that_took_them() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="comes with scikit-learn")
    # What is loaded after NumPy's BLAS takes no products of ours.
    of_numpy = {library["filepath"] for library in threadpoolctl.threadpool_info() if "numpy" in library["filepath"]}

    def n_threads() -> list[int]:
        libraries = threadpoolctl.threadpool_info()
        return [library["num_threads"] for library in libraries if library["filepath"] in of_numpy]

    before = n_threads()
    first, second = one_thread_each(), one_thread_each()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert n_threads() == [1]
    second.__exit__(None, None, None)
    assert n_threads() == before
