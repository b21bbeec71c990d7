"""The paper's questions, and CKA: read from a store against running the model again, and against NumPy.

Parts: homes (pipelines), vgg1 to vgg21 (a layer of VGG16 each, over CIFAR images), similarity (SVCCA and CKA against
arrays in memory), netdissect (VGG16 over street scenes), and memory (neighbours in a layer larger than the memory
allowed).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import sleep
from typing import Any

import numpy as np

import mistique
from bench.dissection import measure_netdissect
from bench.fidelity import svcca as svcca_of_arrays
from bench.harness import Report, Road, Scratch, Timings, in_subprocess, interleaved, run
from bench.models import BATCH_ROWS, by_road, captured_homes, fresh_store, homes, is_captured, kept_store
from bench.network_storage import network
from mistique.store import Store

# As the paper numbers the layers of VGG16: 32 x 32 x 64, 4 x 4 x 512, 2 x 2 x 512 values, and the logits.
_NUMBERED = {1: "block1_conv1", 11: "block4_conv1", 16: "block5_conv2", 21: "logits"}
_BESIDE = {11: "block5_conv2", 16: "block5_pool", 1: "block4_conv1", 21: "block5_pool"}
# Its figure 5: how many times longer re-running took. It shows no layer 16.
_PAPER = {
    "homes": dict(zip(("POINTQ", "TOPK", "COL_DIFF", "COL_DIST", "KNN", "ROW_DIFF", "SVCCA", "VIS"),
                      (98, 156, 239, 387, 7.7, 3.1, 4.9, 2.6), strict=True)),
    21: dict(zip(("POINTQ", "TOPK", "COL_DIFF", "COL_DIST", "KNN", "ROW_DIFF", "SVCCA", "VIS"),
                 (206, 130, 133, 138, 139, 218, 63, 143), strict=True)),
    11: dict(zip(("POINTQ", "TOPK", "COL_DIFF", "COL_DIST", "KNN", "ROW_DIFF", "SVCCA", "VIS"),
                 (42, 3.1, 3.3, 3.2, 2.9, 35, 1.5, 3.0), strict=True)),
    1: dict(zip(("POINTQ", "TOPK", "COL_DIFF", "COL_DIST", "KNN", "ROW_DIFF", "VIS"),
                (7, 6.5 / 16, 6.5 / 16, 6.1 / 16, 6.7 / 19, 8, 6.3 / 16), strict=True)),
}  # fmt: skip
_BARRED = ("POINTQ", "TOPK", "COL_DIST", "ROW_DIFF")
_BAR = 100.0
Asked = Callable[[], Any]


def measure_homes(report: Report, scratch: Scratch) -> None:
    """Each question of three pipelines over 21,613 homes."""
    n_rounds = 1 if report.is_quick else 5
    given = homes(4_000) if report.is_quick else homes()
    _, store = fresh_store(scratch)
    with store:
        captured_homes(store, given)
        labels = given.X.index
        scale, column = "homes/forest@1/train/scale", "sqft_living"
        predicted = "homes/forest@1/train/prediction"
        questions: dict[str, Asked] = {
            "POINTQ": lambda: mistique.get(store, scale, rows=[labels[5]], columns=[column]),
            "TOPK": lambda: mistique.topk(store, scale, column=column),
            "COL_DIFF": lambda: mistique.col_diff(store, predicted, other="homes/boosting@1/train/prediction"),
            "COL_DIST": lambda: mistique.col_dist(store, scale, column=column),
            "KNN": lambda: mistique.knn(store, scale, position=5),
            "ROW_DIFF": lambda: mistique.row_diff(store, scale, positions=(5, 55)),
            "VIS": lambda: mistique.class_means(store, scale, by="condition"),
            "SVCCA": lambda: mistique.svcca(store, scale, other=predicted),
            "CKA": lambda: mistique.cka(store, scale, other=predicted),
        }
        for name, ask in questions.items():
            timings = _read_and_rerun(ask, n_rounds=n_rounds)
            _add(report, f"homes {name}", timings, paper=_PAPER["homes"].get(name))
    report.notes.append("homes: every stage exactly, of a pipeline that scikit-learn runs in a fraction of a second.")


def measure_vgg(number: int) -> Callable[[Report, Scratch], None]:
    """Each question of one layer of VGG16, as the paper numbers them, over 10,000 CIFAR images by 8 bits of power."""

    def measure(report: Report, scratch: Scratch) -> None:
        with _vgg_store(report, scratch) as store:
            # Of layer 1 every neighbour question decodes 2.6 GB.
            n_rows, n_rounds = (64, 1) if report.is_quick else (10_000, 3 if number == 1 else 9)
            questions = _of_layer(store, number, n_rows)
            reruns = {name: _rerun_seconds(questions[name]) for name in ("POINTQ", "ROW_DIFF", "TOPK")}
            for name, ask in questions.items():
                timings = _read(ask, n_rounds=n_rounds)
                timings.seconds["re-run"].append(reruns.get(name, reruns["TOPK"]))
                bar = _BAR if number in (16, 21) and name in _BARRED else None
                paper = _PAPER.get(number, {}).get(name)
                _add(report, f"VGG16 layer {number} {name}", timings, paper=paper, bar=bar)
        report.notes += [
            "re-run, once: the model, loaded, run from the stored input up to the layer, for the rows asked in whole"
            f" batches of {BATCH_ROWS}. Questions of all rows run it for the same rows: it is timed of TOPK and holds"
            " for them all; where two layers are asked that is less than it takes. Read: the median of"
            f" {n_rounds} rounds, page cache warm.",
            "layer 1 is cheaper to run than to read, as in the paper; no bar is set there.",
        ]

    return measure


def measure_similarity(report: Report, scratch: Scratch) -> None:
    """SVCCA and CKA of two layers of VGG16 from the store against NumPy on arrays in memory."""
    with _vgg_store(report, scratch) as store:
        _similarity(report, store, n_rounds=1 if report.is_quick else 9)


def _vgg_store(report: Report, scratch: Scratch) -> Store:
    from mistique.keras import capture

    n_rows = 64 if report.is_quick else 10_000
    layers = list(dict.fromkeys([*_NUMBERED.values(), *_BESIDE.values(), "block5_conv3"]))
    store = kept_store(scratch, f"vgg-{n_rows}")
    if not is_captured(store, "train"):
        net, x, classes = network(n_rows)
        options: dict[str, Any] = {"layers": layers, "codec": mistique.Power(8), "batch_size": BATCH_ROWS}
        capture(net, x, classes, store=store, model="cifar/vgg16", dataset="train", **options)
    return store


def _of_layer(store: Store, number: int, n_rows: int) -> dict[str, Asked]:
    key = f"cifar/vgg16@1/train/{_NUMBERED[number]}"
    other = f"cifar/vgg16@1/train/{_BESIDE[number]}"
    rows = (n_rows // 3, n_rows // 2)
    questions: dict[str, Asked] = {
        "POINTQ": lambda: mistique.get(store, key, rows=[rows[0]], unit=5),
        "TOPK": lambda: mistique.topk(store, key, unit=5),
        "COL_DIFF": lambda: mistique.col_diff(store, key, other=other, column=5),
        "COL_DIST": lambda: mistique.col_dist(store, key, unit=5),
        "KNN": lambda: mistique.knn(store, key, row=rows[0], k=50),
        "ROW_DIFF": lambda: mistique.row_diff(store, key, rows=rows),
        "VIS": lambda: mistique.class_means(store, key),
    }
    if number == 21:
        questions["SVCCA"] = lambda: mistique.svcca(store, key, other=other, **_columns(n_rows))
        questions["CKA"] = lambda: mistique.cka(store, key, other=other)
    return questions


def _columns(n_rows: int) -> dict[str, Any]:
    """For the small version: fewer columns than rows."""
    return {} if n_rows > 512 else {"other_columns": list(range(32))}


def _similarity(report: Report, store: Store, *, n_rounds: int) -> None:
    """SVCCA and CKA of layers 16 and 19 from the store against NumPy on arrays that lie in memory."""
    keys = [f"cifar/vgg16@1/train/{layer}" for layer in ("block5_conv2", "block5_pool")]
    arrays = [mistique.get(store, key).values for key in keys]
    arrays = [array.reshape(len(array), -1) for array in arrays]
    chosen: dict[str, Any] = {}
    if report.is_quick:
        chosen = {"columns": list(range(32)), "other_columns": list(range(32))}
        units = mistique.get(store, keys[0], columns=list(range(32))).values
        arrays = [units.reshape(len(units), -1), mistique.get(store, keys[1], columns=list(range(32))).values]
        arrays[1] = arrays[1].reshape(len(units), -1)
    ours = mistique.svcca(store, keys[0], other=keys[1], **chosen).coefficient
    theirs = svcca_of_arrays(*arrays)
    if abs(ours - theirs) > 1e-4:
        raise RuntimeError(f"SVCCA: {ours} from the store, {theirs} by NumPy")
    compared: dict[str, tuple[Asked, Asked]] = {
        "SVCCA": (
            lambda: mistique.svcca(store, keys[0], other=keys[1], **chosen),
            lambda: svcca_of_arrays(*arrays),
        )
    }
    if not report.is_quick:
        likeness = mistique.cka(store, keys[0], other=keys[1]).similarity
        if abs(likeness - _cka_of_arrays(*arrays)) > 1e-4:
            raise RuntimeError(f"CKA: {likeness} from the store, {_cka_of_arrays(*arrays)} by NumPy")
        compared["CKA"] = (
            lambda: mistique.cka(store, keys[0], other=keys[1]),
            lambda: _cka_of_arrays(*arrays),
        )
    for name, (from_store, in_memory) in compared.items():
        roads = {
            "store": Road(lambda _, ask=from_store: ask(), _let_blas_rest),
            "NumPy": Road(lambda _, ask=in_memory: ask(), _let_blas_rest),
        }
        # A fifth of a second each: of 9 rounds the median scattered by a tenth, of 27 by a twentieth.
        timings = interleaved(roads, n_rounds=min(n_rounds, 3) if name == "SVCCA" else 6 * n_rounds)
        what = f"VGG16 layers 16 and 19, {name} from the store / NumPy in memory"
        report.add(what, timings.ratios("store", "NumPy"), bar=1.5)
        report.facts[what] = timings.medians()


def _let_blas_rest() -> None:
    """Its threads wait for one more product for a while, and take the cores from whoever is measured next."""
    sleep(0.5)


def _cka_of_arrays(one: np.ndarray, other: np.ndarray, *, batch_rows: int = 256) -> float:
    """Minibatch CKA as one would write it: Gram matrices of batches, U-centred."""
    total = np.zeros((2, 2))
    starts = list(range(0, len(one), batch_rows))
    if len(one) - starts[-1] < batch_rows / 2:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(one)], strict=True):
        grams = []
        for rows in (one[start:end], other[start:end]):
            n = len(rows)
            rows = rows - rows.mean(axis=0)
            gram = (rows @ rows.T).astype(np.float64)
            np.fill_diagonal(gram, 0.0)
            sums = gram.sum(axis=1) / (n - 2)
            gram -= sums[:, None] + sums[None, :] - sums.sum() / (n - 1)
            np.fill_diagonal(gram, 0.0)
            grams.append(gram.ravel())
        both = np.stack(grams)
        total += n * (both @ both.T) / (n * (n - 3))
    return float(total[0, 1] / np.sqrt(total[0, 0] * total[1, 1]))


def measure_memory(report: Report, scratch: Scratch) -> None:
    """Neighbours in a layer of 3 GB, in a process of its own."""
    n_batches = 12 if report.is_quick else 192
    path = str(scratch.path("large.mistique"))
    in_subprocess("bench.queries", "--capture-large", path, str(n_batches))
    found = in_subprocess("bench.queries", "--search-large", path, str(n_batches))
    nbytes = n_batches * 1024 * 4096 * 4
    report.add(f"KNN in {nbytes / 1e9:.2f} GB: peak memory", found["peak_nbytes"] / 1e9, unit="GB", bar=1.0)
    report.facts["KNN in a large layer"] = found
    report.notes.append("memory: a layer of equal batches, stored once, read and searched one by one all the same.")


def _large(doing: str, path: str, n_batches: int) -> None:
    """What `measure_memory` runs in processes of their own."""
    import json
    from time import perf_counter

    from bench.harness import peak_nbytes

    store = mistique.open(path)
    if doing == "--capture-large":
        batch = np.random.default_rng(0).integers(0, 9, (1024, 4096)).astype(np.float32)
        facts: dict[str, Any] = {"model": "large", "dataset": "rows", "framework": "none", "batch_rows": 1024}
        with store.capture(codec="raw", **facts) as capture:
            for _ in range(n_batches):
                capture.append("layer", batch)
        print("{}")
        return
    started = perf_counter()
    answer = mistique.knn(store, "large@1/rows/layer", position=3, k=n_batches)
    if answer.rows.tolist()[:-1] != [1024 * i + 3 for i in range(1, n_batches)] or answer.values[:-1].any():
        raise RuntimeError(f"neighbours: expected the equal rows of the other batches, got {answer.rows}")
    print(json.dumps({"peak_nbytes": peak_nbytes(), "seconds": perf_counter() - started}))


def _read_and_rerun(ask: Asked, *, n_rounds: int) -> Timings:
    """Seconds of both roads, each after one that warms up."""
    timings = _read(ask, n_rounds=n_rounds)
    with by_road(is_rerun=True):
        ask()
        for _ in range(n_rounds):
            timings.time("re-run", ask)
    return timings


def _read(ask: Asked, *, n_rounds: int) -> Timings:
    timings = Timings()
    with by_road(is_rerun=False):
        ask()
        for _ in range(n_rounds):
            timings.time("read", ask)
    return timings


def _rerun_seconds(ask: Asked) -> float:
    timings = Timings()
    with by_road(is_rerun=True):
        timings.time("re-run", ask)
    return timings.median("re-run")


def _add(report: Report, what: str, timings: Timings, *, paper: float | None, bar: float | None = None) -> None:
    read, rerun = timings.median("read"), timings.median("re-run")
    beside = "" if paper is None else f" (paper: {paper:.3g} x)"
    report.add(f"{what}: re-run / read{beside}", rerun / read, bar=bar, is_high_better=True)
    report.facts[what] = {"read": read, "re-run": rerun, "paper": paper}


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].endswith("-large"):
        _large(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        sys.exit(0)
    parts = {
        "homes": measure_homes,
        **{f"vgg{number}": measure_vgg(number) for number in _NUMBERED},
        "similarity": measure_similarity,
        "netdissect": measure_netdissect,
        "memory": measure_memory,
    }
    sys.exit(run("queries", __doc__, parts))
