"""Every kind of work, with a fault at each storage operation in turn, and what must be left of the store.

Usage: ``python -m tests.storage.faulted WORK FOLDER [STEP [LOOK_STEP]]``: at every operation of TileDB and at every
look at its files, or at every so many. The last line is JSON: how many of them the work has, how many faults were
tried, and after which of them something was wrong.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import mistique
from mistique.errors import CaptureWarning, MistiqueError
from mistique.planner.budget import in_use_nbytes
from mistique.sklearn import Pipeline
from mistique.storage.artifacts import Artifact
from mistique.storage.usage import Demand
from mistique.store import Store
from tests.capturing import capturing, put, put_layer
from tests.storage.faults import failing, unreadable
from tests.storage.invariants import assert_answers, assert_whole

Stored = dict[str, np.ndarray]

RNG = np.random.default_rng(0)
TABLE, LAYER = RNG.normal(size=(500, 2)), RNG.normal(size=(500, 70)).astype(np.float32)
POLY = PolynomialFeatures(2).fit_transform(TABLE)
SCALED = StandardScaler().fit_transform(POLY)
# What work does not touch, or leaves to be recomputed.
KEPT = {
    "lab/table@1/train/stage": TABLE,
    "lab/layer@1/train/layer": LAYER,
    "lab/pipe@1/train/poly": POLY,
    "lab/pipe@1/train/scale": SCALED,
}
NAMES = {
    "lab/new": {"table", "layer"},
    "lab/fit": {"input", "scale", "prediction", "target"},
    "lab/net": {"input", "wide", "prediction"},
}
KINDS: dict[str, Callable[..., Any]] = {
    "before": failing,
    "after": partial(failing, is_after=True),
    "from then on": partial(failing, is_lasting=True),
    "not looked at": unreadable,
}


def filled(path: Path) -> Path:
    """A store of all that there is to work on."""
    with mistique.open(path) as store:
        put(store, TABLE, model="lab/table")
        put_layer(store, LAYER, model="lab/layer")
        put(store, TABLE + 1, model="lab/dropped")
        put_layer(store, LAYER + 1, model="lab/dropped")
        store.drop("lab/dropped@1/train/stage")
        pipe = Pipeline([("poly", PolynomialFeatures(2)), ("scale", StandardScaler()), ("ridge", Ridge())])
        pipe.set_capture(store, model="lab/pipe").fit(TABLE, TABLE[:, 0])
        store.drop("lab/pipe@1/train/scale")
    return path


def damaged(path: Path) -> Path:
    """The same with a segment missing."""
    with mistique.open(filled(path), mode="r") as store:
        name, _ = store.catalog.find("lab/dropped@2/train/layer")
        segment = store.catalog.references(name)["layer"].segments[0].id
    shutil.rmtree(path / "segments" / segment)
    return path


def capture(store: Store) -> Stored:
    """A table, a layer and a model."""
    with capturing(store, model="lab/new", on_error="warn") as captured:
        captured.add("table", np.concatenate([TABLE[:, :1], TABLE[:, :1] * 3], axis=1))
        captured.append("layer", LAYER * 3)
        captured.keep_model(Artifact("pickle", b"model" * 10))
    return {f"{captured.committed}/train/layer": LAYER * 3} if captured.committed else {}


def fit(store: Store) -> Stored:
    """A captured fit, which ends as one without capture."""
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="lab/fit")
    pipe.fit(TABLE, TABLE[:, 0])
    assert np.array_equal(pipe[-1].coef_, Ridge().fit(pipe[0].transform(TABLE), TABLE[:, 0]).coef_)
    return {"lab/fit@1/train/scale": pipe[0].transform(TABLE)}


def keras(store: Store) -> Stored:
    """A training that is captured; a rate of 0 leaves the weights."""
    from mistique.keras import MistiqueCallback

    hook = MistiqueCallback(store, LAYER, model="lab/net", dataset="train", codec="raw")
    history = network().fit(LAYER, TABLE, epochs=1, verbose=0, callbacks=[hook]).history
    assert len(history["loss"]) == 1
    return {"lab/net@1.1/train/wide": wide_output()}


@cache
def network() -> Any:
    """A network, once in a process."""
    import keras as k

    k.utils.set_random_seed(0)
    wide = k.layers.Dense(20, activation="relu", name="wide")
    net = k.Sequential([k.Input((70,), name="input"), wide, k.layers.Dense(2, name="out")])
    net.compile(k.optimizers.SGD(0.0), "mse")
    return net


@cache
def wide_output() -> np.ndarray:
    """What a layer of it gives, to the bit: captured where nothing fails."""
    from mistique.keras import capture as capture_network

    with tempfile.TemporaryDirectory() as folder, mistique.open(f"{folder}/s.mistique") as store:
        capture_network(network(), LAYER, store=store, model="lab/net", dataset="train", codec="raw")
        values = mistique.get(store, "lab/net@latest/train/wide").values
    kernel, bias = network().get_layer("wide").get_weights()
    assert np.allclose(values, np.maximum(LAYER @ kernel + bias, 0), atol=1e-4)
    return values


def adapt(store: Store) -> Stored:
    """An answer that is recomputed and stored, as it is said to be asked for often."""
    key = "lab/pipe@1/train/scale"
    captured, node = store.catalog.find(key)
    store.worth._demands[captured.id, node.name] = Demand(1000, 1e6)
    assert np.array_equal(mistique.get(store, key).values, SCALED)
    return {}


def evict(store: Store) -> None:
    """The least worth keeping goes."""
    store.evict(max_nbytes=int(in_use_nbytes(store)) - 1)


def compact(store: Store) -> None:
    """All that can be moved and removed."""
    store.compact(grace_seconds=0)


def collect(store: Store) -> None:
    """What nobody refers to goes."""
    store.gc(grace_seconds=0)


def repair(store: Store) -> None:
    """What is damaged goes."""
    store.check(repair=True)


def make(path: Path) -> None:
    """A store that is made, and opened."""
    mistique.open(path).close()


WORK: dict[str, Callable[[Any], Stored | None]] = {
    "make": make,
    "capture": capture,
    "fit": fit,
    "keras": keras,
    "adapt": adapt,
    "evict": evict,
    "compact": compact,
    "delete": lambda store: store.delete("lab/dropped@2"),
    "drop": lambda store: store.drop("lab/dropped@2/train/layer"),
    "rename": lambda store: store.rename("lab/dropped", to="lab/renamed"),
    "gc": collect,
    "repair": repair,
}
# Those in which nothing but a warning may come out.
TRAINING = {"capture", "fit", "keras"}
# Those after which these are there no more, or not surely.
TAKING = {"delete", "drop", "repair"}


def run(work: str, path: Path, kind: str, *, at: int = 0) -> tuple[int, Stored, bool]:
    """Do some work with a fault; how many operations it has, what it says is stored, and whether it ended well.

    Only errors and warnings of ours may come out.
    """
    said: Stored | None = {}
    is_done = False
    subject = path if work == "make" else mistique.open(path, gamma_min=0.0 if work == "adapt" else 1e15)
    with KINDS[kind](at=at) as found, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with nullcontext() if work in TRAINING else suppress(MistiqueError):
            said = WORK[work](subject)
            is_done = True
    categories = [warning.category for warning in caught]
    assert categories in ([], [CaptureWarning]), [str(warning.message) for warning in caught]
    # What a capture names is stored, whatever it warned of; a fit names nothing.
    return len(found.names), {} if categories and work != "capture" else said or {}, is_done


def assert_left(work: str, path: Path, said: Mapping[str, np.ndarray], is_done: bool) -> None:
    """What must hold of the store, by readers that open it afresh."""
    if work == "make":
        with mistique.open(path) as store:
            key = put(store, TABLE)
        assert_whole(path, {key: TABLE}, NAMES)
        return
    with mistique.open(path) as store:
        if work == "repair":
            store.check(repair=True)
        # One that is touched is as it was, or, surely if nobody said otherwise, is gone; under one of its names.
        found = [c for c in store.catalog.captures() if c.version.model in ("lab/dropped", "lab/renamed")]
        layers = {f"{c.prefix}/layer": LAYER + 1 for c in found if "layer" in c.stored}
        assert len(layers) == (0 if is_done and work in TAKING else 1) or (work in TAKING and not layers), layers
        assert all(c.version.model == "lab/renamed" for c in found) or work != "rename" or not is_done
        assert_answers(store, layers)
    assert_whole(path, {**KEPT, **said}, NAMES)


def trials(work: str, kind: str, folder: Path, *, first: int = 1, step: int = 1) -> Iterator[tuple[int, int, str]]:
    """A fault at every so many operations; of each its number, how many there are, and what was wrong after it."""
    if work == "keras":
        wide_output()
    source = folder / "source"
    if work != "make" and not source.exists():
        (damaged if work == "repair" else filled)(source)

    def copied(name: str) -> Path:
        return folder / name if work == "make" else Path(shutil.copytree(source, folder / name))

    n, said, is_done = run(work, copied("counted"), kind)
    assert_left(work, folder / "counted", said, is_done)
    shutil.rmtree(folder / "counted")
    for at in range(1 + (first - 1) % max(min(n, step), 1), n + 1, step):
        # A name of its own: what a store that is not closed still writes can keep a folder from being removed.
        path = copied(f"{kind.replace(' ', '-')}-{at}")
        complaint = ""
        try:
            _, said, is_done = run(work, path, kind, at=at)
            assert_left(work, path, said, is_done)
        except Exception as error:  # noqa: BLE001  the point is to see what comes
            complaint = f"{work}, {kind} {at} of {n}: {error!r}"
        yield at, n, complaint
        shutil.rmtree(path, ignore_errors=True)


def every(
    work: str, folder: Path, *, step: int = 1, look_step: int = 1, kinds: Iterable[str] = KINDS
) -> dict[str, Any]:
    """All faults of a kind of work: how many operations there are, how many faults were tried, and what was wrong."""
    operations, n_tried, complaints = {}, 0, []
    for number, kind in enumerate(kinds):
        operations[kind] = 0
        steps = look_step if KINDS[kind] is unreadable else step
        for at, n, complaint in trials(work, kind, folder, first=1 + number, step=steps):
            operations[kind], n_tried = n, n_tried + 1
            # On the last line when the process dies of the next.
            sys.stdout.write(f"{kind} {at} of {n} {complaint}\n" if __name__ == "__main__" else "")
            sys.stdout.flush()
            complaints += [complaint] * bool(complaint)
    return {"operations": operations, "tried": n_tried, "broken": complaints}


if __name__ == "__main__":
    work, folder, *rest = sys.argv[1:]
    step, look_step = map(int, (*rest, "1", "1")[:2])
    found = every(work, Path(folder), step=step, look_step=look_step)
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.exit(bool(found["broken"]))
