"""Questions of a few neurons of a layer by its index, against a scan of what is stored and against running the model.

VGG16 with ImageNet weights over CIFAR images, its layers stored at 8 bits and by the default codec. DeepEverest (He et
al. 2021, doi 10.14778/3485450.3485460) asks of one, three and ten neurons of a layer for the rows that are highest, and
for those that are nearest to a row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import mistique
from bench.harness import Report, Road, Scratch, interleaved, run
from bench.models import AUTO, BATCH_ROWS, by_road, is_captured, kept_store
from bench.network_storage import network
from mistique.codecs import KBit

# Of maps of 32 x 32 an index keeps the largest of each unit's positions.
_MAPS = "block1_conv2"
# 4 x 4 x 512 and 2 x 2 x 512 values, as DeepEverest's middle and late layers.
_LAYERS = ("block4_conv1", "block5_conv2", _MAPS)
_N_NEURONS = (1, 3, 10)
_K, _ROW = 20, 7
_INDEX_BAR, _SCAN_BAR, _RERUN_BAR = 0.2, 10.0, 60.0


def measure(report: Report, scratch: Scratch) -> None:
    """The same questions of a layer by three roads, each answer held against the others'."""
    from mistique.keras import capture

    n_rows, name = 256 if report.is_quick else 10_000, report.part
    with kept_store(scratch, f"index-{name}-{n_rows}", index_share=0) as store:
        options: dict[str, Any] = {"model": "cifar/vgg16", "store": store, "batch_size": BATCH_ROWS}
        for dataset, codec in (("8 bits", KBit()), (AUTO, AUTO)):
            if not is_captured(store, dataset):
                net, x, _ = network(n_rows)
                capture(net, x, layers=[name], dataset=dataset, codec=codec, **options)
        rerun_seconds = _rerun_seconds(store, f"cifar/vgg16@latest/8%20bits/{name}", is_map=name == _MAPS)
        for dataset in ("8 bits", AUTO):
            _compare(report, store, dataset, name, rerun_seconds)
    report.notes += [
        "scan: the whole layer read, and the highest rows found. re-run: the model, loaded and traced, run from the"
        " stored input for all rows, once a layer: what it takes hardly depends on what is then asked of how many"
        " neurons. `seconds before`: the same question before there was an index.",
    ]


def _rerun_seconds(store: mistique.store.Store, key: str, *, is_map: bool) -> float:
    """Seconds of a question that runs the model: of one unit, as it runs all rows for any number of them."""
    what, ask = next(iter(_questions(store, key, is_map=is_map).items()))
    with by_road(is_rerun=True):
        return interleaved({what: Road(lambda _: ask(key))}, n_rounds=1, n_warm_up=0).median(what)


def _compare(report: Report, store: mistique.store.Store, dataset: str, name: str, rerun_seconds: float) -> None:
    key = f"cifar/vgg16@latest/{dataset.replace(' ', '%20')}/{name}"
    capture, node = store.catalog.find(key)
    if name in capture.indexes:
        store.drop_index(key)  # of an earlier run
    questions = _questions(store, key, is_map=name == _MAPS)
    expected = {what: ask(key) for what, ask in questions.items()}
    made = mistique.index(store, key, max_share=10.0 if report.is_quick else _INDEX_BAR)
    title = f"{name}, {dataset}"
    report.add(f"{title}: index over float32 bytes", made.share, unit="", bar=_INDEX_BAR)
    report.facts[title] = {"rows": node.n_rows, "columns": node.n_columns, "form": made.form, "nbytes": made.nbytes}
    roads = {what: Road(lambda _, ask=ask: ask(key)) for what, ask in questions.items()}
    for what, ask in questions.items():
        by_index = ask(key)
        assert np.array_equal(by_index.positions, expected[what].positions), what
        assert np.array_equal(by_index.values, expected[what].values, equal_nan=True), what
        report.facts[f"{title}, {what}"] = {
            "road": by_index.plan.chosen.road,
            "seconds before": round(expected[what].plan.seconds, 4),
        }
    # Maps are read in a quarter of a minute.
    n_rounds = 1 if report.is_quick or name == _MAPS else 5
    timings = interleaved({**roads, "scan": Road(lambda _: _scan(store, key))}, n_rounds=n_rounds)
    report.facts[title]["seconds"] = timings.medians()
    for what in questions:
        rerun = rerun_seconds / timings.median(what)
        report.add(f"{title}, {what}: scan / index", timings.ratios("scan", what), **_bar(_SCAN_BAR))
        report.add(f"{title}, {what}: re-run / index", rerun, **_bar(_RERUN_BAR))


def measure_exact(report: Report, scratch: Scratch) -> None:
    """A layer whose values are kept exactly and do not fit an index: bounds, and the rows that can still win."""
    n_rows, n_columns = (8_192, 256) if report.is_quick else (65_536, 1_024)
    random = np.random.default_rng(0)
    mixing = random.normal(size=(32, n_columns)) / 32**0.5
    with mistique.open(scratch.path("exact.mistique"), gamma_min=float("inf"), index_share=0, memory_nbytes=0) as store:
        facts: dict[str, Any] = {"model": "layer", "dataset": "rows", "framework": "none", "batch_rows": 1024}
        with store.capture(codec="raw", **facts) as capture:
            for _ in range(n_rows // 1024):
                rows = random.normal(size=(1024, 32)) @ mixing + 0.3 * random.normal(size=(1024, n_columns))
                capture.append("dense", rows.astype(np.float32))
        key = "layer@1/rows/dense"
        questions = _questions(store, key, is_map=False)
        before = interleaved({what: Road(lambda _, ask=ask: ask(key)) for what, ask in questions.items()}, n_rounds=3)
        expected = {what: ask(key) for what, ask in questions.items()}
        made = mistique.index(store, key)
        report.add("exact layer: index over float32 bytes", made.share, unit="", bar=_INDEX_BAR)
        for what, ask in questions.items():
            found = ask(key)
            assert np.array_equal(found.positions, expected[what].positions), what
            report.facts[f"exact layer, {what}"] = {"road": found.plan.reason}
        roads = {what: Road(lambda _, ask=ask: ask(key)) for what, ask in questions.items()}
        roads["scan"] = Road(lambda _: _scan(store, key))
        timings = interleaved(roads, n_rounds=1 if report.is_quick else 5)
        report.facts["exact layer: seconds"] = {"index": timings.medians(), "columns": before.medians()}
        for what in questions:
            report.add(f"exact layer, {what}: scan / index", timings.ratios("scan", what), **_bar(_SCAN_BAR))
            columns = before.median(what) / timings.median(what)
            report.add(f"exact layer, {what}: columns / index", columns, is_high_better=True)
    report.notes.append(f"a layer of {n_rows:,} rows and {n_columns} normal columns that correlate, kept by raw.")


def _questions(store: mistique.store.Store, key: str, *, is_map: bool) -> dict[str, Callable[[str], Any]]:
    """By what they are: the highest and the nearest rows, of the neurons that one row activates most."""
    (row,) = mistique.get(store, key, rows=[_ROW]).values
    by_unit = np.moveaxis(row, -1, 0)
    if is_map:
        units = np.argsort(-by_unit.reshape(len(by_unit), -1).max(axis=1), kind="stable")
        return {
            f"highest of {n} units": lambda key, n=n: mistique.topk(store, key, unit=units[:n].tolist(), k=_K)
            for n in _N_NEURONS
        }
    columns = np.argsort(-by_unit.reshape(-1), kind="stable")
    found: dict[str, Callable[[str], Any]] = {}
    for n in _N_NEURONS:
        chosen = columns[:n].tolist()
        found[f"highest of {n} neurons"] = lambda key, c=chosen: mistique.topk(store, key, columns=c, k=_K)
        found[f"nearest by {n} neurons"] = lambda key, c=chosen: mistique.knn(
            store, key, position=_ROW, columns=c, k=_K
        )
    return found


def _scan(store: mistique.store.Store, key: str) -> np.ndarray:
    """The whole layer read, and the rows that are highest in a column of it."""
    values = mistique.get(store, key).values
    scores = values.reshape(len(values), -1)[:, 0]
    return np.argsort(-scores, kind="stable")[:_K]


def _bar(bar: float) -> dict[str, Any]:
    return {"bar": bar, "is_high_better": True}


if __name__ == "__main__":
    sys.exit(run("index", __doc__, {**dict.fromkeys(_LAYERS, measure), "exact": measure_exact}))
