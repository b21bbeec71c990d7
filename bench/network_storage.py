"""The bytes of a network's activations, and how well what is stored answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mistique
from bench import data
from bench.fidelity import is_among_top, neighbour_overlap, svcca
from bench.harness import Report, Scratch, nbytes_of
from bench.models import AUTO, BATCH_ROWS, batches
from bench.peers import HOW, peers

LAYERS = tuple(
    f"block{block}_{layer}"
    for block, n_convolutions in enumerate((2, 2, 3, 3, 3), start=1)
    for layer in (*(f"conv{number}" for number in range(1, n_convolutions + 1)), "pool")
)
# The paper numbers the layers of VGG16 as Keras does, the input being 0: 4 x 4 x 512, 2 x 2 x 512 and 512 values.
_NUMBERED = {11: "block4_conv1", 16: "block5_conv2", 19: "block5_pool"}
_N_UNITS = 200


def measure_vgg(report: Report, scratch: Scratch) -> None:
    """VGG16 over CIFAR images, with the default codec: bytes a value, and the fidelity of that same store."""
    from mistique.keras import capture

    net, x, _ = network(96 if report.is_quick else 10_000)
    path = scratch.path("vgg.mistique")
    with mistique.open(path) as store:
        options: dict[str, Any] = {"layers": LAYERS, "codec": AUTO, "batch_size": BATCH_ROWS}
        capture(net, x, store=store, model="cifar/vgg16", dataset="train", **options)
        _bytes_a_value(report, store, path, f"VGG16 by {AUTO}, {len(x):,} images", bar=0.376)
        _fidelity(report, store, net, x)


def measure_lossless(report: Report, scratch: Scratch) -> None:
    """The same layers exactly."""
    from mistique.keras import capture

    net, x, _ = network(32 if report.is_quick else 2_000)
    path = scratch.path("vgg.mistique")
    with mistique.open(path) as store:
        options: dict[str, Any] = {"layers": LAYERS, "codec": "raw", "batch_size": BATCH_ROWS}
        capture(net, x, store=store, model="cifar/vgg16", dataset="train", **options)
        _bytes_a_value(report, store, path, f"VGG16 exactly, {len(x):,} images", bar=1.95)
    sample = x[: 16 if report.is_quick else 512]
    found = dict.fromkeys(peers(), 0)
    n_values = 0
    for name in LAYERS[::4] if report.is_quick else LAYERS:
        (values,) = _outputs(net, sample, [name])
        n_values += values.size
        for kind, peer in peers().items():
            file = scratch.path(f"layer.{kind}")
            peer.write_matrix(file, units_together(values))
            found[kind] += nbytes_of(file)
            Scratch.remove(file)
    for kind, nbytes in found.items():
        report.add(f"VGG16 in {kind}, {len(sample)} images: bytes a value", nbytes / n_values, unit="B")
    report.notes.append("files by hand: " + "; ".join(f"{name}: {how}" for name, how in HOW.items()))


def measure_finetuning(report: Report, scratch: Scratch) -> None:
    """VGG16 frozen under two dense layers that train, every layer captured after every epoch."""
    import keras

    from mistique.keras import MistiqueCallback

    n_rows, n_epochs = (32, 2) if report.is_quick else (1_000, 10)
    trained = ["dense1", "logits"]
    net, x, classes = network(2 * n_rows, dense=(256, 10))
    for layer in net.layers:
        layer.trainable = layer.name in trained
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile("adam", loss)
    x_valid, y_valid = x[n_rows:], classes[n_rows:]
    paths = {"all": scratch.path("all.mistique"), "trained": scratch.path("trained.mistique")}
    nbytes: dict[str, list[int]] = {"all": [], "trained": [], "models": []}

    def count(epoch: int, logs: Any) -> None:
        for what, path in paths.items():
            nbytes[what].append(nbytes_of(path) - _model_nbytes(path))
        nbytes["models"].append(_model_nbytes(paths["all"]))

    with mistique.open(paths["all"]) as store, mistique.open(paths["trained"]) as beside:
        options: dict[str, Any] = {"model": "cifar/finetuned", "codec": AUTO, "on_error": "raise"}
        watch = [
            MistiqueCallback(store, x_valid, y_valid, **options),
            MistiqueCallback(beside, x_valid, y_valid, layers=trained, **options),
            keras.callbacks.LambdaCallback(on_epoch_end=count),
        ]
        net.fit(x[:n_rows], classes[:n_rows], epochs=n_epochs, batch_size=64, verbose=0, callbacks=watch)
        n_values = sum(
            node.n_rows * int(np.prod(node.shape))
            for capture in store.catalog.captures()
            for node in capture.intermediates.values()
            if node.role not in ("input", "target")
        )
    allowed = nbytes["all"][0] + nbytes["trained"][-1] - nbytes["trained"][0]
    what = f"VGG16 finetuned, {n_epochs} epochs x {n_rows:,} images by {AUTO}"
    report.add(f"{what}: stored / one epoch and what trained", nbytes["all"][-1] / allowed, bar=1.2)
    report.add(f"{what}: bytes a value", nbytes["all"][-1] / n_values, unit="B")
    with_models = nbytes["all"][-1] + nbytes["models"][-1]
    report.add(f"{what}: bytes a value, kept models included", with_models / n_values, unit="B")
    report.facts |= {"nbytes after each epoch": nbytes, "allowed": allowed, "n_values": n_values, "trained": trained}
    report.notes += [
        "what trained: the growth of a second store, captured beside it, of the trained layers alone; input, target and"
        " catalog are in both. The models that are kept to recompute are not in the bar: Keras files of 60 MB.",
    ]


def network(n_rows: int, *, dense: tuple[int, ...] = (10,)) -> tuple[Any, np.ndarray, np.ndarray]:
    """VGG16, and images of CIFAR-10 as it takes them with their classes."""
    images, classes = data.cifar("train", n_rows)
    return data.vgg16(dense=dense), data.vgg16_input(images), classes


def units_together(values: np.ndarray) -> np.ndarray:
    """A layer as a matrix in which the positions of a unit lie side by side."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 1).reshape(len(values), -1))


def _model_nbytes(path: Path) -> int:
    return nbytes_of(path / "artifacts") if (path / "artifacts").exists() else 0


def _bytes_a_value(report: Report, store: mistique.store.Store, path: Path, what: str, *, bar: float) -> None:
    (captured,) = store.catalog.captures()
    layers = [captured.intermediates[name] for name in LAYERS]
    n_values = sum(node.n_rows * int(np.prod(node.shape)) for node in layers)
    whole, models = nbytes_of(path), _model_nbytes(path)
    report.notes.append(
        "bytes a value: every file of the store but the model that is kept to recompute (59 MB whatever the images),"
        " the exact input included, over the values of the 18 layers."
    )
    report.add(f"{what}: bytes a value", (whole - models) / n_values, unit="B", bar=bar)
    report.add(f"{what}: bytes a value, the kept model included", whole / n_values, unit="B")
    report.facts |= {
        "n_values": n_values,
        "nbytes": {"store": whole, "kept model": models},
        "layers": {
            node.name: {"values": node.n_rows * int(np.prod(node.shape)), "stored": node.stored_nbytes}
            for node in captured.intermediates.values()
        },
        "stored": sorted(captured.stored),
    }


def _fidelity(report: Report, store: mistique.store.Store, net: Any, x: np.ndarray) -> None:
    n_queries = min(500, len(x) // 4)
    units = _spread_units(net)
    exact, scores = _exact(net, x, units)
    prefix = "cifar/vgg16@1/train"
    found = {number: mistique.get(store, f"{prefix}/{name}").values for number, name in _NUMBERED.items()}
    for number, name in _NUMBERED.items():
        overlap = neighbour_overlap(exact[name], found[number], n_queries=n_queries)
        report.add(f"overlap of 50 neighbours, layer {number}", overlap, unit="", bar=0.96, is_high_better=True)
    for number in (11, 16):
        true = svcca(exact[_NUMBERED[number]], exact[_NUMBERED[19]])
        stored = svcca(found[number], found[19])
        report.add(f"SVCCA of layers {number} and 19, off by", abs(stored - true), unit="", bar=0.002)
        report.facts[f"SVCCA of layers {number} and 19"] = {"exact": true, "stored": stored}
    shares = [
        is_among_top(scores[name][:, i], mistique.topk(store, f"{prefix}/{name}", unit=unit, k=10).positions)
        for name, chosen in units.items()
        for i, unit in enumerate(chosen)
    ]
    top = float(np.mean(shares))
    report.add(f"top-10 of {len(shares)} units, right rows", top, unit="", bar=0.95, is_high_better=True)
    report.notes += [
        f"layers as the paper numbers them, of Keras's VGG16: {_NUMBERED}.",
        f"neighbours: Euclidean, {n_queries} rows that ask, spread evenly, among all {len(x):,}.",
        "SVCCA: 99% of the variance, all rows, mean over the smaller layer's directions. With fewer rows than columns"
        " (8,192 in layer 11) it says little: two random matrices are then alike.",
        f"top-10: largest value over a unit's positions; {len(shares)} of all units of the 18 layers, spread evenly; a"
        " row is right if its exact score is no lower than the tenth largest.",
        "exact: recomputed in the compiled forward pass, batch by batch.",
    ]


def _spread_units(net: Any) -> dict[str, list[int]]:
    every = [(name, unit) for name in LAYERS for unit in range(net.get_layer(name).output.shape[-1])]
    chosen: dict[str, list[int]] = {name: [] for name in LAYERS}
    for number in np.linspace(0, len(every) - 1, _N_UNITS).astype(int):
        chosen[every[number][0]].append(every[number][1])
    return {name: units for name, units in chosen.items() if units}


def _exact(net: Any, x: np.ndarray, units: dict[str, list[int]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The numbered layers, and the largest value of each unit on each row, in one pass that keeps nothing else."""
    kept: dict[str, list[np.ndarray]] = {name: [] for name in _NUMBERED.values()}
    scores: dict[str, list[np.ndarray]] = {name: [] for name in units}
    for outputs in passes(net, x, list(LAYERS)):
        for name, values in zip(LAYERS, outputs, strict=True):
            if name in kept:
                kept[name].append(values)
            if name in scores:
                scores[name].append(values[..., units[name]].max(axis=(1, 2)))
    return (
        {name: np.concatenate(parts) for name, parts in kept.items()},
        {name: np.concatenate(parts) for name, parts in scores.items()},
    )


def _outputs(net: Any, x: np.ndarray, layers: list[str]) -> list[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*passes(net, x, layers), strict=True)]


def passes(net: Any, x: np.ndarray, layers: list[str]) -> Iterator[list[np.ndarray]]:
    """The outputs of some layers, batch by batch, from the compiled forward pass."""
    import keras

    forward = keras.Model(net.input, [net.get_layer(name).output for name in layers])
    for batch in batches(x):
        found = forward.predict_on_batch(batch)
        yield found if isinstance(found, list) else [found]
