"""Models, data and stores of the benchmarks: three pipelines over homes, a CNN over Fashion-MNIST, one over CIFAR-10.

Homes and Fashion-MNIST ship with mistique: King County house sales, and the Fashion-MNIST test split. CIFAR-10 is found
by `bench.data`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import mistique
from bench.harness import Scratch
from mistique.codecs import resolve_codec
from mistique.errors import UnknownCodecError
from mistique.planner import execute
from mistique.planner.choose import choose
from mistique.planner.plan import Plan

BATCH_ROWS = 256
KEPT_STORES = "MISTIQUE_BENCH_STORE"

try:
    resolve_codec("auto")
except UnknownCodecError:
    AUTO = "power"
else:
    AUTO = "auto"


@dataclass(frozen=True)
class Homes:
    """Homes, their prices, and unfitted pipelines by name; they share everything but the last step."""

    X: Any
    y: Any
    pipelines: Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """A trained network, and images that it has not seen."""

    net: Any
    x: np.ndarray
    y: np.ndarray


def homes(n_rows: int = 21_613) -> Homes:
    """The first `n_rows` homes, all 21,613 by default."""
    from mistique.data import load_homes
    from mistique.sklearn.examples import homes_pipelines

    table = load_homes()[:n_rows]
    return Homes(table.drop(columns="price"), table["price"], homes_pipelines())


def fashion(n_rows: int = 5_000) -> Network:
    """A network and `n_rows` images: training takes the first 2,000, so at most 8,000 are left."""
    from mistique.data import load_fashion_mnist
    from mistique.keras.examples import fashion_cnn

    images, classes = load_fashion_mnist()
    x = images.astype(np.float32) / 255
    net = fashion_cnn()
    net.fit(x[:2_000], classes[:2_000], epochs=1, batch_size=64, verbose=0)
    return Network(net, x[2_000 : 2_000 + n_rows], classes[2_000 : 2_000 + n_rows])


def cifar(n_rows: int = 5_000) -> Network:
    """The CNN of Keras's CIFAR-10 example, 4 convolutions and 2 dense layers, trained on 5,000 images for two epochs.

    The images that it has not seen are those of the test split.
    """
    import keras
    from keras import layers

    from bench import data

    keras.utils.set_random_seed(0)
    blocks = [
        layer
        for block, n_filters in enumerate((32, 64), start=1)
        for layer in (
            layers.Conv2D(n_filters, 3, padding="same", activation="relu", name=f"conv{2 * block - 1}"),
            layers.Conv2D(n_filters, 3, activation="relu", name=f"conv{2 * block}"),
            layers.MaxPooling2D(name=f"pool{block}"),
            layers.Dropout(0.25, name=f"dropout{block}"),
        )
    ]
    dense = [layers.Dense(512, activation="relu", name="dense"), layers.Dropout(0.5, name="dropout3")]
    last = layers.Dense(10, activation="softmax", name="classes")
    net = keras.Sequential([keras.Input((32, 32, 3)), *blocks, layers.Flatten(name="flatten"), *dense, last])
    net.compile("adam", "sparse_categorical_crossentropy")
    images, classes = data.cifar("train", 500 if n_rows < 1_000 else 5_000)
    net.fit(images.astype(np.float32) / 255, classes, epochs=2, batch_size=64, verbose=0)
    x, y = data.cifar("test", n_rows)
    return Network(net, x.astype(np.float32) / 255, y)


def extractor(net: Any) -> Any:
    """A model that gives the outputs of all layers of `net` in one compiled forward pass."""
    import keras

    return keras.Model(net.inputs[0], [layer.output for layer in net.layers])


def batches(x: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in the batches that a capture takes them in."""
    for start in range(0, len(x), BATCH_ROWS):
        yield x[start : start + BATCH_ROWS]


def layer_outputs(net: Any, x: np.ndarray, *, layers: list[str] | None = None) -> dict[str, np.ndarray]:
    """Outputs of layers, by name, for all rows."""
    pass_through = extractor(net)
    found: dict[str, list[np.ndarray]] = {layer.name: [] for layer in net.layers}
    for batch in batches(x):
        for parts, output in zip(found.values(), pass_through.predict_on_batch(batch), strict=True):
            parts.append(output)
    return {name: np.concatenate(parts) for name, parts in found.items() if layers is None or name in layers}


def fresh_store(scratch: Scratch) -> tuple[Path, mistique.store.Store]:
    """An empty store, made before any clock runs: its path and itself. It stores nothing but what is captured."""
    path = scratch.path("bench.mistique")
    return path, mistique.open(path, gamma_min=float("inf"), memory_nbytes=0)


def kept_store(scratch: Scratch, name: str, **options: Any) -> mistique.store.Store:
    """A store that takes minutes to fill: in the folder that MISTIQUE_BENCH_STORE names it stays for the next run.

    What an earlier run measured in it goes: the machine may have been busy then.
    """
    folder = os.environ.get(KEPT_STORES)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"{name}.mistique" if folder else scratch.path(f"{name}.mistique")
    for measured in (path / "usage").glob("__[cf]*/*"):  # commits, fragments and what is said of them
        shutil.rmtree(measured) if measured.is_dir() else measured.unlink()
    return mistique.open(path, gamma_min=float("inf"), memory_nbytes=0, **options)


def is_captured(store: mistique.store.Store, dataset: str) -> bool:
    """Whether an earlier run has captured a dataset in a kept store."""
    return any(capture.dataset == dataset for capture in store.catalog.captures())


def close_store(opened: tuple[Path, mistique.store.Store]) -> None:
    """Close a store of `fresh_store` and take it away."""
    path, store = opened
    store.close()
    Scratch.remove(path)


def captured_homes(store: mistique.store.Store, given: Homes, *, keep: str = "all") -> None:
    """Fit every pipeline, captured as ``homes/NAME`` over ``train``."""
    for name, pipe in given.pipelines.items():
        pipe.set_capture(store, model=f"homes/{name}", keep=keep, on_error="raise").fit(given.X, given.y)
        pipe.set_capture(None)


def captured(store: mistique.store.Store, given: Network, *, model: str, codec: str = "raw", keep: str = "all") -> str:
    """Capture a network over its images as ``MODEL/CODEC``; the version's name."""
    from mistique.keras import capture

    options = {"model": f"{model}/{codec}", "dataset": "test", "codec": codec, "keep": keep}
    version = capture(given.net, given.x, given.y, store=store, batch_size=BATCH_ROWS, **options)
    assert version is not None
    return version


@contextmanager
def by_road(*, is_rerun: bool) -> Iterator[None]:
    """Within it every stage or layer is run again from the input, or none is, where it can be so."""

    def choose_road(question: Any, calibration: Any, **options: Any) -> Plan:
        plan = choose(question, calibration, **options)
        fitting = [c for c in plan.candidates if c.is_possible and c.road.startswith("recompute") == is_rerun]
        fitting = [c for c in fitting if c.road == "recompute"] or fitting
        chosen = min(fitting, key=lambda c: c.predicted_seconds, default=plan.chosen)
        return replace(plan, chosen=chosen)

    execute.choose = choose_road
    try:
        yield
    finally:
        execute.choose = choose
