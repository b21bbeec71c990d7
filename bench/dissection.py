"""Concepts of VGG16 layers over street scenes: how many units pick one out, and what asking adds to the arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

import mistique
from bench import data
from bench.harness import Report, Road, Scratch, interleaved
from bench.models import by_road, is_captured, kept_store
from mistique.queries.masks import count_pixels, thresholds_of
from mistique.store import Store

# As they are known: units over IoU 0.04 among the first 256, of labels at half size.
_KNOWN = {
    ("trained", "block4_conv3"): 9,
    ("trained", "block5_conv3"): 10,
    ("random", "block4_conv3"): 3,
    ("random", "block5_conv3"): 1,
}
_N_UNITS = 256


def measure_netdissect(report: Report, scratch: Scratch) -> None:
    """Concepts of two layers of VGG16, trained and at random, over street scenes."""
    n_rows, n_rounds = (8, 1) if report.is_quick else (400, 3)
    images, concepts, names = data.camvid(n_rows)
    concepts = np.ascontiguousarray(concepts[:, ::2, ::2])
    layers = ["block5_conv3"] if report.is_quick else ["block4_conv3", "block5_conv3"]
    asked: dict[str, Any] = {"concepts": concepts, "names": names, "unit": list(range(_N_UNITS))}
    with kept_store(scratch, f"camvid-{n_rows}") as store:
        for kind in ("random", "trained"):
            _capture(store, kind, images, layers)
            for layer in layers:
                key = f"streets/{kind}@1/{kind}/{layer}"
                what = f"CamVid, {layer} with {kind} weights: detectors of {_N_UNITS} units"
                bar, is_trained = float(_KNOWN[kind, layer]), kind == "trained"
                of_pixels = mistique.netdissect(store, key, threshold_of="pixels", **asked)
                report.add(what, len(of_pixels.detectors), unit="", bar=bar, is_high_better=is_trained)
                of_cells = mistique.netdissect(store, key, **asked)
                what += ", threshold of the cells"
                report.add(what, len(of_cells.detectors), unit="", is_high_better=is_trained)
        for layer in layers:
            _time_dissection(report, store, layer, asked, n_rounds=n_rounds)
    report.notes += [
        "bars: the known figures, at least so many trained and at most so many at random. Their recipe upsamples"
        " activations and takes the top 0.5% of each unit, so the bars are on the threshold of upsampled pixels; by the"
        " paper's algorithm 2 it is that of the cells of a unit, which is higher, as interpolation takes off the peaks."
        " Neither gives the very figures, nor did these by a script: corners aligned, nearest cells, labels by"
        " majority or at full size, unlabelled as a concept, pixels without a label left out, images without the"
        " concept left out of the union, the training split alone, values before the ReLU (3 and 18), bicubic in place"
        " of bilinear (16 of block4, 21 of block5, by the quantile of cells), images as RGB, other seeds and inputs of"
        " the random weights; images of 32 x 32, 60 x 80, 96 x 128, 112 x 112 and 128 x 128, 224 x 224 (19 and 21), or"
        " scaled to 0 to 1 and to -1 to 1; the last, every second and randomly chosen 256 units; the quantile taken"
        " strictly, or of what is over zero; scores averaged over images.",
        "arithmetic alone: thresholds, upsampling and counting on activations that lie in memory; by NumPy, images on"
        " which a unit stays below its threshold being left out, and by the kernel of mistique.",
        f"{n_rows} frames, labels of {concepts.shape[2]} x {concepts.shape[1]}.",
    ]


def _capture(store: Store, kind: str, images: np.ndarray, layers: list[str]) -> None:
    import keras

    from mistique.keras import capture

    if is_captured(store, kind):
        return
    x = data.vgg16_input(images)
    keras.utils.set_random_seed(0)
    net = keras.applications.VGG16(weights=None, include_top=False, input_shape=x.shape[1:])
    if kind == "trained":
        trained = data.vgg16()
        for layer in (layer for layer in net.layers if layer.weights):
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    options: dict[str, Any] = {"layers": layers, "codec": mistique.Power(8), "batch_size": 16}
    capture(net, x, store=store, model=f"streets/{kind}", dataset=kind, **options)


def _places(concepts: np.ndarray, names: list[str]) -> np.ndarray:
    """Concepts by their place among those named; what has no name comes last."""
    return np.where(concepts < len(names), concepts, len(names)).astype(np.uint16)


def _time_dissection(report: Report, store: Store, layer: str, asked: dict[str, Any], *, n_rounds: int) -> None:
    key = f"streets/trained@1/trained/{layer}"
    maps = np.ascontiguousarray(np.moveaxis(mistique.get(store, key, unit=asked["unit"]).values, -1, 0))
    names, labels = asked["names"], _places(asked["concepts"], asked["names"])
    expected = mistique.netdissect(store, key, **asked).values
    if not np.allclose(_dissect_by_numpy(maps, labels, len(names)), expected, atol=1e-3):
        raise RuntimeError(f"{layer}: the scores of NumPy are others")

    def by_kernel() -> None:
        thresholds = thresholds_of(maps, 0.005)
        counts = np.zeros((len(maps), len(names) + 1), np.int64)
        count_pixels(maps, thresholds, labels, np.flatnonzero(thresholds > 0), counts)

    roads = {
        "store": Road(lambda _: mistique.netdissect(store, key, **asked)),
        "NumPy": Road(lambda _: _dissect_by_numpy(maps, labels, len(names))),
        "kernel": Road(lambda _: by_kernel()),
    }
    timings = interleaved(roads, n_rounds=n_rounds)
    with by_road(is_rerun=True):
        timings.time("re-run", lambda: mistique.netdissect(store, key, **asked))
    what = f"CamVid, {layer}: NETDISSECT from the store / arithmetic alone"
    report.add(f"{what}, NumPy", timings.ratios("store", "NumPy"), bar=1.2)
    report.add(f"{what}, our kernel", timings.ratios("store", "kernel"))
    rerun = timings.median("re-run") / timings.median("store")
    report.add(f"CamVid, {layer}: NETDISSECT, re-run / read", rerun, is_high_better=True)
    report.facts[what] = timings.medians()


def _dissect_by_numpy(maps: np.ndarray, labels: np.ndarray, n_concepts: int) -> np.ndarray:
    """Scores of all units, shape (n_units, n_concepts)."""
    rows, columns = (_upsampling(n, size) for n, size in zip(maps.shape[2:], labels.shape[1:], strict=True))
    areas = np.bincount(labels.ravel(), minlength=n_concepts + 1)[:n_concepts]
    scores = np.zeros((len(maps), n_concepts))
    for unit, cells in enumerate(maps):
        threshold = np.quantile(cells.astype(np.float64), 1 - 0.005)
        if threshold <= cells.min():
            continue
        images = np.flatnonzero(cells.max(axis=(1, 2)) >= threshold)
        mask = rows @ cells[images] @ columns.T >= threshold
        counts = np.bincount(labels[images][mask], minlength=n_concepts + 1)
        scores[unit] = counts[:-1] / (counts.sum() + areas - counts[:-1])
    return scores


def _upsampling(n_cells: int, n_pixels: int) -> np.ndarray:
    """The matrix that interpolates, shape (n_pixels, n_cells)."""
    places = np.clip((np.arange(n_pixels) + 0.5) * n_cells / n_pixels - 0.5, 0, n_cells - 1)
    before = np.floor(places).astype(int)
    matrix = np.zeros((n_pixels, n_cells), np.float32)
    matrix[np.arange(n_pixels), before] += 1 - (places - before)
    matrix[np.arange(n_pixels), np.minimum(before + 1, n_cells - 1)] += places - before
    return matrix
