"""Every codec over the layers of a real network: captured, read back, within its bound, and smaller than raw."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, prod

import keras
import numpy as np
import pytest

import mistique
import mistique.keras
from mistique.codecs import Codec, KBit, LowPrecision, Pool, Power, Raw, Threshold, within
from mistique.store import Store

# On other backends what a layer costs to recompute, and so the road taken, is a graph's.
pytestmark = pytest.mark.tensorflow

LAYERS = ("conv1", "conv2", "dense")
# Codec, and the largest share of the exact bytes of the layers that it may take.
CODECS = [
    (Power(6), 0.5),
    (KBit(4), 0.5),
    (LowPrecision("bfloat16"), 0.7),
    (LowPrecision("float16"), 0.85),
    (within(relative=1e-2), 0.8),
    (within(absolute=1e-2), 0.5),
    (Threshold(alpha=0.005), 0.05),
    (Pool(2), 0.15),
    (Pool(4, "max", inner="raw"), 0.2),
    (Pool("all", how="max", inner=Power(8)), 0.1),
]
IDS = [" ".join(str(part) for part in codec.config().values() if not isinstance(part, dict)) for codec, _ in CODECS]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Pictures of the shipped data."""
    from mistique.data import load_fashion_mnist

    return load_fashion_mnist()[0][:300, ..., None].astype(np.float32) / 255


@pytest.fixture(scope="module")
def net() -> keras.Model:
    """Two convolutions and a dense layer."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(6, 3, activation="tanh", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(40, activation="relu", name="dense"),
            layers.Dense(10, activation="softmax", name="classes"),
            # Code of the user's: nobody else runs a network that has it.
            layers.Lambda(lambda probabilities: probabilities, name="code"),
        ]
    )


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory, net: keras.Model, images: np.ndarray) -> Iterator[Store]:
    """A capture by each codec, `by1` and so on, and an exact one, `by0`; only to be read."""
    with mistique.open(tmp_path_factory.mktemp("codecs") / "s.mistique") as store:
        for i, codec in enumerate([Raw(), *(codec for codec, _ in CODECS)]):
            mistique.keras.capture(net, images, store=store, model=f"by{i}", dataset="d", codec=codec)
        # Nobody who did not sign the model runs it: whatever is answered was read.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MISTIQUE_SIGNING_KEY", "a stranger's")
            yield store


def stored_nbytes(store: Store, model: str) -> int:
    nodes = store.catalog.find(f"{model}@1/d/input")[0].intermediates.values()
    return sum(node.stored_nbytes for node in nodes if node.role == "stage")


@pytest.mark.parametrize("number", range(1, len(CODECS) + 1), ids=IDS)
def test_every_layer_comes_back_within_the_bound_and_in_fewer_bytes(captured: Store, number: int) -> None:
    codec, share = CODECS[number - 1]
    for layer in LAYERS:
        exact = mistique.get(captured, f"by0@1/d/{layer}", exact=True).values
        answer = mistique.get(captured, f"by{number}@1/d/{layer}")
        assert answer.plan.chosen.road == "read"
        assert answer.values.shape == exact.shape
        assert np.abs(answer.values - exact).max() <= answer.max_abs_error
        assert (answer.max_abs_error == inf) == isinstance(codec, Threshold)
        part = mistique.get(captured, answer.key, rows=[299, 3], unit=2).values
        assert part.tobytes() == np.ascontiguousarray(answer.values[[299, 3]][..., [2]]).tobytes()
    assert stored_nbytes(captured, f"by{number}") < share * stored_nbytes(captured, "by0")


@pytest.mark.parametrize("number", range(1, len(CODECS) + 1), ids=IDS)
def test_every_question_is_answered(captured: Store, number: int) -> None:
    key, exact_key = f"by{number}@1/d/conv1", "by0@1/d/conv1"
    column = 14 * 28 + 14
    exact = mistique.get(captured, exact_key, columns=[column]).values.reshape(-1)
    top = mistique.topk(captured, key, column=column, k=5)
    assert (np.abs(np.asarray(top.values).reshape(-1) - np.sort(exact)[::-1][:5]) <= top.max_abs_error).all()
    histogram = mistique.col_dist(captured, key, column=column)
    assert histogram.max_abs_error == top.max_abs_error
    plan = mistique.explain(captured, key, unit=2)
    assert plan.chosen.road == "read"


def test_what_was_asked_is_held(captured: Store) -> None:
    numbers = {codec: i for i, (codec, _) in enumerate(CODECS, start=1)}
    for layer in LAYERS:
        exact = mistique.get(captured, f"by0@1/d/{layer}").values
        absolute = mistique.get(captured, f"by{numbers[within(absolute=1e-2)]}@1/d/{layer}")
        assert np.abs(absolute.values - exact).max() <= absolute.max_abs_error <= 1e-2
        relative = mistique.get(captured, f"by{numbers[within(relative=1e-2)]}@1/d/{layer}")
        assert (np.abs(relative.values - exact) <= 1e-2 * np.abs(exact)).all()


def test_a_pool_stores_maps_alone_pooled(captured: Store) -> None:
    codec: Codec = Pool(2)
    number = [c for c, _ in CODECS].index(codec) + 1
    nodes = captured.catalog.find(f"by{number}@1/d/input")[0].intermediates
    kept = {name: node.codec["name"] for name, node in nodes.items()}
    assert [name for name, codec in kept.items() if codec == "pool"] == ["conv1", "pool1", "conv2"]
    assert kept["dense"] == "power"
    assert prod(nodes["conv1"].shape) == 28 * 28 * 8
