"""Whatever road answers a random question of a network gives what the network gave, within the bound it states."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mistique.keras
from mistique.errors import NoPlanError
from mistique.planner.choose import choose
from mistique.planner.execute import follow, question_of
from mistique.storage.usage import Demand
from mistique.store import Store
from tests.roads import by_every_road

N_ROWS, BATCH = 2500, 100
LAYERS = ["conv", "pool", "left", "right", "joined", "drop", "prediction"]


class Noisy(keras.layers.Layer):
    def call(self, x: object) -> object:
        return x + keras.random.normal(keras.ops.shape(x))  # type: ignore[operator]


class Slow(keras.layers.Layer):
    def call(self, x: object) -> object:
        for _ in range(300):
            x = keras.ops.tanh(keras.ops.matmul(x, keras.ops.ones((2, 2))))
        return x


@pytest.fixture(scope="module")
def net() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    flat = keras.layers.Flatten(name="flat")(x)
    left = keras.layers.Dense(8, activation="relu", name="left")(flat)
    right = keras.layers.Dense(8, activation="tanh", name="right")(flat)
    x = keras.layers.Concatenate(name="joined")([left, right])
    x = keras.layers.Dropout(0.5, name="drop")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="score")(x))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N_ROWS, 6, 6, 1)).astype("float32")


@pytest.fixture(scope="module")
def captured(net: keras.Model, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = mistique.open(tmp_path_factory.mktemp("roads") / "s.mistique", gamma_min=0.0)
    for codec, keep in (("raw", "all"), ("raw", "none"), ("auto", "all"), ("auto", "none")):
        dataset = f"{codec}-{keep}"
        mistique.keras.capture(
            net, images, store=store, model="net", dataset=dataset, codec=codec, keep=keep, batch_size=BATCH
        )
    return store


@pytest.fixture(scope="module")
def expected(captured: Store) -> dict[str, np.ndarray]:
    """What was captured bit for bit; that this is what Keras gives is the business of test_capture."""
    return {name: mistique.get(captured, f"net@1/raw-all/{name}", exact=True).values for name in LAYERS}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_road_gives_what_was_captured_within_its_bound(
    captured: Store, expected: dict[str, np.ndarray], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(LAYERS))
    dataset = data.draw(st.sampled_from(["raw-all", "raw-none", "auto-all", "auto-none"]))
    n_rows = data.draw(st.sampled_from([1, 150, N_ROWS]))
    first = data.draw(st.integers(0, N_ROWS - n_rows))
    rows, exact = np.arange(first, first + n_rows), data.draw(st.booleans())
    wanted = expected[name][rows]
    found = list(by_every_road(captured, f"net@1/{dataset}/{name}", rows=rows, exact=exact))
    for values, plan in found:
        assert np.abs(values - wanted).max() <= (plan.max_abs_error or 0.0), plan.chosen.road
        assert plan.max_abs_error == 0.0 or not exact
    assert found


@pytest.fixture
def forgetful(net: keras.Model, images: np.ndarray, tmp_path: Path) -> Store:
    """Of no other test: nothing of it is ever stored, nor kept in memory."""
    store = mistique.open(tmp_path / "s.mistique", gamma_min=float("inf"), memory_nbytes=0)
    mistique.keras.capture(
        net, images, store=store, model="net", dataset="none", codec="raw", keep="none", batch_size=BATCH
    )
    return store


def test_threads_that_run_one_network_at_once_do_not_get_in_each_others_way(
    forgetful: Store, expected: dict[str, np.ndarray]
) -> None:
    names = ["conv", "left", "right", "joined"] * 6
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: mistique.get(forgetful, f"net@1/none/{name}", exact=True), names))
    for name, answer in zip(names, found, strict=True):
        assert answer.plan.chosen.road == "recompute"
        assert np.array_equal(answer.values, expected[name]), name


def test_layers_that_are_not_stored_are_as_alike_as_those_that_are(captured: Store, forgetful: Store) -> None:
    layers = ["conv", "left", "right"]
    of_stored = mistique.cka(captured, [f"net@1/raw-all/{name}" for name in layers], exact=True)
    of_others = mistique.cka(forgetful, [f"net@1/none/{name}" for name in layers], exact=True)
    assert {plan.chosen.road for plan in of_others.plans} == {"recompute"}
    assert np.allclose(of_stored.values, of_others.values, atol=1e-6)


def test_blocks_that_were_asked_for_are_stored_and_the_rest_is_recomputed(
    captured: Store, expected: dict[str, np.ndarray]
) -> None:
    key = "net@1/raw-none/left"
    # A session of its own: what another question recomputed whole is in the memory of that session, and nothing runs.
    with mistique.open(captured.uri, gamma_min=0.0) as store:
        capture, node = store.catalog.find(key)
        store.catalog.drop(capture, node.name)
        store.worth._demands[capture.id, node.name] = Demand(100, 1e6)
        (_, plan) = next(iter(by_every_road(store, key, rows=np.arange(1030, 1060))))
        assert plan.stored.startswith("stored 1024 rows of left")
        roads = {}
        for values, plan in by_every_road(store, key, rows=np.arange(900, 1100)):
            roads[plan.chosen.road] = values
    assert any(road.startswith("read 76 rows, recompute") for road in roads)
    assert "recompute" in roads
    for values in roads.values():
        assert np.array_equal(values, expected["left"][900:1100])
    # The other blocks were stored on the way.
    with mistique.open(captured.uri, mode="r") as reader:
        assert mistique.explain(reader, key, rows=slice(0, 2048)).candidates[0].is_possible
        assert np.array_equal(mistique.get(reader, key, exact=True).values, expected["left"])


def test_a_branch_is_recomputed_from_the_cheapest_cut(captured: Store, expected: dict[str, np.ndarray]) -> None:
    for name in ("joined", "flat"):
        captured.drop(f"net@1/raw-all/{name}")
    roads = {plan.chosen.road: values for values, plan in by_every_road(captured, "net@1/raw-all/joined")}
    assert any("from" in road for road in roads)
    assert "recompute" in roads
    for values in roads.values():
        assert np.array_equal(values, expected["joined"])


@pytest.mark.tensorflow  # nothing is traced elsewhere
def test_a_run_whose_graph_had_to_go_is_known_to_be_set_up_again(
    captured: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("mistique.keras.replay_graph", "mistique.planner.models"):
        monkeypatch.setattr(f"{module}.MAX_SET_UP", 1)
    with mistique.open(captured.uri, mode="r", memory_nbytes=0) as store:
        for name in ("conv", "conv", "pool", "pool", "conv"):
            capture, node = store.catalog.find(f"net@1/raw-all/{name}")
            question = question_of(store, capture, node, rows=np.arange(BATCH))
            is_ready = question.model_is_loaded and question.is_set_up(("input",))
            plan = choose(question, store.calibration)
            (road,) = [candidate for candidate in plan.candidates if candidate.road == "recompute"]
            _, done = follow(store, capture, question, replace(plan, chosen=road))
            assert is_ready == ("setup" not in (done.took or {})), name


@pytest.mark.tensorflow  # JAX refuses to trace what draws without a seed
def test_dropout_in_training_mode_is_never_recomputed(store: Store, images: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((6, 6, 1)), Noisy(name="noisy"), keras.layers.Flatten(name="flat")])
    mistique.keras.capture(net, images[:50], store=store, model="n", dataset="d", keep="none")
    plan = mistique.explain(store, "n@1/d/noisy")
    assert [c.is_possible for c in plan.candidates if c.runs_model] == [False]
    assert "random numbers" in plan.candidates[-1].reason
    store.drop("n@1/d/noisy")
    with pytest.raises(NoPlanError, match="random numbers"):
        mistique.get(store, "n@1/d/noisy")


def test_auto_stores_the_layers_that_take_long_for_their_bytes(store: Store, images: np.ndarray) -> None:
    # Wide enough that on a busy machine, too, it takes little for its bytes.
    layers = [keras.layers.Dense(4096, name="wide"), keras.layers.Dense(2, name="narrow"), Slow(name="slow")]
    net = keras.Sequential([keras.Input((36,)), *layers, keras.layers.Dense(1, name="score")])
    rows = images.reshape(N_ROWS, 36)
    with mistique.open(store.uri, gamma_min=20_000.0) as strict:
        mistique.keras.capture(net, rows, store=strict, model="n", dataset="d", keep="auto", batch_size=500)
    capture, _ = store.catalog.find("n@1/d/slow")
    assert "slow" in capture.stored
    assert "wide" not in capture.stored
    assert {"input", "prediction"} <= capture.stored


def test_a_run_in_portions_that_fit_a_small_memory_gives_the_same(
    captured: Store, expected: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mistique.planner.recompute._CELLS_AT_ONCE", 1)
    n_reads = []
    real = mistique.planner.recompute.read_stored
    monkeypatch.setattr(
        "mistique.planner.recompute.read_stored", lambda *a, **k: n_reads.append(len(a[2])) or real(*a, **k)
    )
    for values, plan in by_every_road(captured, "net@1/raw-none/right", exact=True):
        assert np.array_equal(values, expected["right"]), plan.chosen.road
    assert set(n_reads) == {BATCH}
    assert len(n_reads) >= N_ROWS // BATCH
    rows = np.arange(0, N_ROWS, 3)
    for values, plan in by_every_road(captured, "net@1/raw-none/right", rows=rows):
        assert np.array_equal(values, expected["right"][rows]), plan.chosen.road


def test_what_is_narrow_is_read_once_for_the_portions_that_a_wide_layer_runs_in(
    captured: Store, expected: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    # All images but the conv's 64 columns for 14 batches only: 2,200 rows of images end with a block, as blocks go.
    monkeypatch.setattr("mistique.planner.recompute._CELLS_AT_ONCE", 36 * N_ROWS)
    n_read, n_run = [], []
    read, described = mistique.planner.recompute.read_stored, mistique.planner.recompute.describe_array
    monkeypatch.setattr(
        "mistique.planner.recompute.read_stored", lambda *a, **k: n_read.append(len(a[2])) or read(*a, **k)
    )
    monkeypatch.setattr(
        "mistique.planner.recompute.describe_array", lambda a, **k: n_run.append(len(a)) or described(a, **k)
    )
    for values, plan in by_every_road(captured, "net@1/raw-none/conv", exact=True):
        assert np.array_equal(values, expected["conv"]), plan.chosen.road
    assert n_read == [2200, 300]
    assert n_run == [1400, 800, 300]
