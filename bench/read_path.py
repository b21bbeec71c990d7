"""How fast a store is read, whole or in part, against files that people make by hand.

Parts: whole (a stage of a pipeline, layers of a CNN), some (a column, rows, and a unit of wide layers of VGG16), and
widths (the same from blocks and chunks of other sizes).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import mistique
from bench import data
from bench.harness import Report, Road, Scratch, Timings, interleaved, nbytes_of, run
from bench.models import AUTO, BATCH_ROWS, by_road, captured, cifar, fresh_store, layer_outputs
from bench.network_storage import network, passes, units_together
from bench.peers import HOW, Opened, open_peers, peers
from bench.pipelines import homes_pipelines
from bench.widths import measure_widths

_HOW = "peers: " + "; ".join(f"{name}: {how}" for name, how in HOW.items()) + "."


def measure_whole(report: Report, scratch: Scratch) -> None:
    """Two stages of homes pipelines, and layers of the CIFAR CNN exactly and quantized, read whole."""
    n_rounds = 1 if report.is_quick else 7
    report.notes += [
        "page cache warm for all. The store is open, as it is in a session. A peer's file is opened, read and decoded;"
        " a stage becomes a frame, a layer an array.",
        "the best peer: the fastest of those that are made to be small; npy is shown beside.",
        _HOW,
    ]
    X, y = data.homes(3_000 if report.is_quick else None)
    path, store = fresh_store(scratch)
    with store:
        for template in (template for template in homes_pipelines() if template.name in ("ridge", "components")):
            pipe = next(template.pipelines())
            pipe.set_capture(store, model=f"homes/{template.name}", on_error="raise").fit(X, y)
            key = f"homes/{template.name}@1/train/scale"
            ours = {"mistique": lambda k=key: _read(store, k).to_frame()}
            frame = mistique.get(store, key).to_frame()
            what = f"homes {template.name} scale, {len(X):,} x {frame.shape[1]}"
            _compare_whole(report, scratch, what, frame, ours, n_rounds=n_rounds)
    Scratch.remove(path)
    given = cifar(256 if report.is_quick else 5_000)
    path, store = fresh_store(scratch)
    with store:
        # Exactly last: what is held exactly would stand in for the quantized values.
        codecs = tuple(dict.fromkeys((AUTO, "raw")))
        versions = {codec: captured(store, given, model="cifar", codec=codec) for codec in codecs}
        for name, layer in layer_outputs(given.net, given.x, layers=["conv2", "conv4", "dense"]).items():
            ours = {
                f"mistique {codec}": lambda k=f"{version}/test/{name}": _read(store, k).values
                for codec, version in versions.items()
            }
            what = f"CNN {name}, {len(layer):,} x {layer[0].size:,}"
            _compare_whole(report, scratch, what, layer, ours, n_rounds=n_rounds)
    Scratch.remove(path)


def _compare_whole(
    report: Report, scratch: Scratch, what: str, whole: Any, ours: Mapping[str, Callable[[], Any]], *, n_rounds: int
) -> None:
    is_layer = isinstance(whole, np.ndarray)
    nbytes = whole.nbytes if is_layer else whole.to_numpy().nbytes
    roads = {name: Road(lambda _, r=read: r()) for name, read in ours.items()}
    files = {}
    for name, peer in peers().items():
        files[name] = scratch.path(f"whole.{name}")
        write, read = (peer.write_matrix, peer.read_matrix) if is_layer else (peer.write_table, peer.read_table)
        write(files[name], whole.reshape(len(whole), -1) if is_layer else whole)
        roads[name] = Road(lambda _, r=read, p=files[name]: r(p))
    expected = np.asarray(whole).reshape(len(whole), -1)
    for name, road in roads.items():
        found = np.asarray(road.run(None)).reshape(len(whole), -1)
        _check(f"{what} by {name}", found, expected)
    timings = interleaved(roads, n_rounds=n_rounds)
    best = _fastest(timings, [name for name, peer in peers().items() if peer.is_compressed])
    for name in ours:
        title = f"{what}, whole: {best} / {name}"
        report.add(title, timings.ratios(best, name), bar=1.0, is_high_better=True)
        report.add(f"{what}, whole: npy / {name}", timings.ratios("npy", name), is_high_better=True)
    report.facts[what] = {
        "nbytes": nbytes,
        "MB/s": {name: round(nbytes / 1e6 / seconds, 1) for name, seconds in timings.medians().items()},
        "file nbytes": {name: nbytes_of(path) for name, path in files.items()},
    }
    for path in files.values():
        Scratch.remove(path)


@dataclass(frozen=True)
class Question:
    """Part of a wide layer, another each round.

    Parameters
    ----------
    what, layer : str
    of_store : callable
        The arguments of `mistique.get` in a round.
    of_file : callable
        The same from an opened file.
    expected : callable
        The same from the whole layer as a matrix.
    """

    what: str
    layer: str
    of_store: Callable[[int], dict[str, Any]]
    of_file: Callable[[Opened, int], np.ndarray]
    expected: Callable[[np.ndarray, int], np.ndarray]


def measure_some(report: Report, scratch: Scratch) -> None:
    """One column and ten scattered rows of a 4,096-wide layer, one unit of a 65,536-wide layer."""
    n_rows, n_rounds = (128, 2) if report.is_quick else (10_000, 9)
    report.notes += [
        "page cache warm for all; the store and the peers' files are open before the clock runs. Each round asks for"
        " another column, other rows, another unit, the same of all: nothing is answered from what was decoded before.",
        "each peer has one layout for all three questions. The best peer is the fastest of the compressing ones at that"
        " question; 'all-round' is the one whose three times have the smallest product. npy, mapped into memory, does"
        " not compress and is shown beside.",
        _HOW,
    ]
    net, x, _ = network(n_rows)
    questions = _questions(net, n_rows, "block2_pool" if report.is_quick else "block1_conv1")
    _, store = fresh_store(scratch)
    seconds: dict[str, dict[str, float]] = {}
    with store:
        from mistique.keras import capture

        versions = {}
        wanted = list(dict.fromkeys(question.layer for question in questions))
        for codec in dict.fromkeys((AUTO, "raw")):  # exactly last, as above
            options: dict[str, Any] = {"layers": wanted, "codec": codec, "batch_size": BATCH_ROWS}
            versions[codec] = capture(net, x, store=store, model=f"vgg/{codec}", dataset="train", **options)
        for name in wanted:
            layer = np.concatenate([units_together(part) for (part,) in passes(net, x, [name])])
            with _peer_files(report, scratch, name, layer) as files:
                for question in (question for question in questions if question.layer == name):
                    ours = {
                        f"mistique {codec}": lambda r, k=f"{version}/train/{name}", q=question: _matrix(
                            _read(store, k, **q.of_store(r)).values
                        )
                        for codec, version in versions.items()
                    }
                    theirs = {n: lambda r, f=file, q=question: q.of_file(f, r) for n, file in files.items()}
                    found = _compare_some(report, question, layer, ours, theirs, n_rounds=n_rounds)
                    seconds[question.what] = found
    compressing = [name for name, peer in open_peers().items() if peer.is_compressed]
    all_round = min(compressing, key=lambda name: float(np.prod([found[name] for found in seconds.values()])))
    for what, found in seconds.items():
        for codec in versions:
            ratio = found[all_round] / found[f"mistique {codec}"]
            report.add(f"{what}: {all_round}, the best all-round / mistique {codec}", ratio, is_high_better=True)
    report.facts["seconds"] = seconds


def _questions(net: Any, n_rows: int, wide: str) -> list[Question]:
    """One column and ten rows of block3_pool, and one unit of a wider layer."""
    height, width, n_units = net.get_layer(wide).output.shape[1:]
    n_positions = height * width

    def column(number: int) -> int:
        return (17 + 997 * number) % 4096

    def rows(number: int) -> list[int]:
        chosen = np.random.default_rng(number).choice(n_rows, size=10, replace=False)
        return sorted(chosen.tolist())

    def unit(number: int) -> int:
        return (5 + 11 * number) % n_units

    def of_unit(number: int) -> range:
        return range(unit(number) * n_positions, (unit(number) + 1) * n_positions)

    return [
        Question(
            f"one column of {n_rows:,} x 4,096",
            "block3_pool",
            lambda r: {"columns": [column(r)]},
            lambda file, r: file.columns([column(r)]),
            lambda layer, r: layer[:, [column(r)]],
        ),
        Question(
            f"10 scattered rows of {n_rows:,} x 4,096",
            "block3_pool",
            lambda r: {"rows": rows(r)},
            lambda file, r: file.rows(rows(r)),
            lambda layer, r: layer[rows(r)],
        ),
        Question(
            f"one unit of {n_rows:,} x {n_positions * n_units:,}",
            wide,
            lambda r: {"unit": unit(r)},
            lambda file, r: file.columns(of_unit(r)),
            lambda layer, r: layer[:, of_unit(r)],
        ),
    ]


def _compare_some(
    report: Report,
    question: Question,
    layer: np.ndarray,
    ours: Mapping[str, Callable[[int], np.ndarray]],
    theirs: Mapping[str, Callable[[int], np.ndarray]],
    *,
    n_rounds: int,
) -> dict[str, float]:
    roads = {**ours, **theirs}
    for name, ask in roads.items():  # the warm-up
        _check(f"{question.what} by {name}", ask(n_rounds), question.expected(layer, n_rounds))
    timings = Timings()
    for number in range(n_rounds):
        for name in list(roads) if number % 2 == 0 else list(reversed(roads)):
            timings.time(name, lambda n=name, r=number: roads[n](r))
    best = _fastest(timings, [name for name, peer in open_peers().items() if peer.is_compressed])
    for name in ours:
        title = f"{question.what}: {best} / {name}"
        report.add(title, timings.ratios(best, name), bar=3.0, is_high_better=True)
        report.add(f"{question.what}: npy / {name}", timings.ratios("npy", name), is_high_better=True)
    return timings.medians()


@contextmanager
def _peer_files(report: Report, scratch: Scratch, name: str, layer: np.ndarray) -> Iterator[dict[str, Opened]]:
    """A layer in the file of each peer, opened."""
    paths, opened = {}, {}
    for kind, peer in open_peers().items():
        paths[kind] = scratch.path(f"{name}.{kind}")
        peer.write_matrix(paths[kind], layer)
        assert peer.open_matrix is not None
        opened[kind] = peer.open_matrix(paths[kind])
    report.facts[f"{name}, file nbytes"] = {kind: nbytes_of(path) for kind, path in paths.items()}
    try:
        yield opened
    finally:
        for kind, file in opened.items():
            file.close()
            Scratch.remove(paths[kind])


def _read(store: mistique.store.Store, key: str, **asked: Any) -> Any:
    """An answer that was read: what is measured here is not how fast a model is."""
    with by_road(is_rerun=False):
        return mistique.get(store, key, **asked)


def _matrix(values: np.ndarray) -> np.ndarray:
    """Rows as they came, and the rest in one dimension, units first where they are still apart."""
    if values.ndim == 4:
        return units_together(values)
    return values.reshape(len(values), -1)


def _check(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Nobody is measured who answers something else; a quantized answer is off by at most a share of the largest."""
    difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    allowed = float(np.abs(expected).max()) / (10 if AUTO in what.split() else 1e5)
    if found.shape != expected.shape or not difference <= allowed:
        raise AssertionError(f"{what}: {found.shape} for {expected.shape}, off by {difference}, allowed {allowed}")


def _fastest(timings: Timings, names: list[str]) -> str:
    return min(names, key=timings.median)


PARTS = {"whole": measure_whole, "some": measure_some, "widths": measure_widths}

if __name__ == "__main__":
    sys.exit(run("read_path", __doc__, PARTS))
