"""Work that is killed at random moments, and what must be left of it: a process of its own, many times over.

Usage: ``python -m tests.integration.kills KIND FOLDER SEED N``, of the kinds fit, grid, keras and compact. Prints how
many captures were reported before they were killed; ends with an error at the first that is not whole.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np

import mistique
from mistique.store import Store
from tests.capturing import put, put_layer

SHARES = {"fit": 3 / 8, "grid": 1 / 8, "keras": 1 / 8, "compact": 3 / 8}
# Each says in a line what was committed: key, then the digest of the bytes that were sent.
# A capture that could not be stored, and said so, ends it: it was not reported.
HEAD = """
import hashlib, os, sys, warnings
import numpy as np
import mistique
warnings.simplefilter("error", mistique.errors.CaptureWarning)
def said(key, values):
    os.write(1, f"{key} {hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()}\\n".encode())
uri = sys.argv[1]
"""
FIT = """
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from mistique.sklearn import Pipeline
store = mistique.open(uri)
X = np.random.default_rng(0).normal(size=(3000, 8))
for i in range(1000):
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())])
    pipe.set_capture(store, model=f"fit/{sys.argv[2]}-{i}")
    pipe.fit(X * (i + 1), X[:, 0])
    said(f"fit/{sys.argv[2]}-{i}@1/train/scale", pipe[0].transform(X * (i + 1)))
"""
GRID = """
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from mistique.sklearn import Pipeline
X = np.random.default_rng(0).normal(size=(2000, 4))
for i in range(1000):
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())])
    pipe.set_capture(mistique.open(uri), model=f"grid/{sys.argv[2]}-{i}")
    GridSearchCV(pipe, {"ridge__alpha": [0.1, 1.0]}, cv=2, n_jobs=2, refit=False).fit(X + i, X[:, 0])
    os.write(1, f"grid/{sys.argv[2]}-{i} 4\\n".encode())
"""
KERAS = """
import keras
from mistique.keras import MistiqueCallback
x = np.random.default_rng(0).normal(size=(600, 12)).astype("float32")
wide = keras.layers.Dense(70, activation="relu", name="wide")
net = keras.Sequential([keras.Input((12,)), wide, keras.layers.Dense(1)])
net.compile("sgd", "mse")
class Report(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        version = f"net/{sys.argv[2]}@1.{epoch + 1}"
        with mistique.open(uri, mode="r") as store:
            values = mistique.get(store, f"{version}/valid/wide").values
        said(f"{version}/valid/wide", values)
store = mistique.open(uri)
hook = MistiqueCallback(store, x, model=f"net/{sys.argv[2]}", dataset="valid", codec="raw")
net.fit(x, x[:, :1], epochs=1000, verbose=0, callbacks=[hook, Report()])
"""
COMPACT = """
store = mistique.open(uri)
os.write(1, b"compacting 0\\n")
for i in range(1000):
    with store.capture(model="lab/more", dataset="train", framework="none", codec="raw") as capture:
        capture.add("table", np.arange(3000.0) + i)
    store.compact(grace_seconds=0)
"""
WORK = {"fit": FIT, "grid": GRID, "keras": KERAS, "compact": COMPACT}


def killed(name: str, uri: str, number: int, seconds: float) -> list[str]:
    """What some work reported before it was killed, that long after its first report."""
    command = [sys.executable, "-c", HEAD + WORK[name], uri, str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)  # its workers, too
    rest, complaints = process.communicate()
    assert lines[0], complaints.decode()[-2000:]
    assert process.returncode == -signal.SIGKILL, complaints.decode()[-2000:]
    lines += rest.splitlines()
    return [line.decode().strip() for line in lines if len(line.split()) == 2]


def assert_right(store: Store, reported: list[str]) -> None:
    for line in reported:
        key, digest = line.split()
        if key.startswith("grid/"):
            captures = [c for c in store.catalog.captures() if c.version.model == key]
            assert len(captures) == int(digest)
        elif "@" in key:
            values = mistique.get(store, key, exact=True).values
            assert sha256(np.ascontiguousarray(values).tobytes()).hexdigest() == digest, key


def assert_none_is_half(store: Store) -> None:
    """All captures of one kind of model have the same intermediates, and all that is stored can be read."""
    names: dict[str, set[frozenset[str]]] = {}
    for capture in store.catalog.captures():
        kind = capture.version.model.partition("/")[0]
        names.setdefault(kind, set()).add(frozenset(capture.intermediates) - {"row_label"})
        for name in capture.stored:
            mistique.get(store, f"{capture.prefix}/{name}")
    assert all(len(found) == 1 for kind, found in names.items() if kind in WORK or kind == "net"), names


def run(name: str, uri: str, seed: str, n: int) -> int:
    """Kill some work so many times, and look at the store after each; the number of captures that were reported."""
    rng = random.Random(seed)
    values, layer = np.arange(3000.0), np.random.default_rng(0).normal(size=(900, 80)).astype(np.float32)
    with mistique.open(uri) as store:
        kept = {put(store, values): values, put_layer(store, layer, model="lab/layer"): layer}
    reported: list[str] = []
    for number in range(n):
        reported += killed(name, uri, number, rng.uniform(0, 1.5))
        with mistique.open(uri, mode="r") as store:
            assert_right(store, reported)
            assert_none_is_half(store)
            for key, expected in kept.items():
                assert mistique.get(store, key).values.tobytes() == expected.tobytes()
            found = store.check()
            assert found.is_whole, found
    assert len(reported) >= n
    with mistique.open(uri) as store:
        store.compact(grace_seconds=0)
        store.gc(grace_seconds=0)
        assert_right(store, reported)
        assert store.check().is_whole
    return len(reported)


if __name__ == "__main__":
    kind, folder, seed, n = sys.argv[1:]
    sys.stdout.write(f"{run(kind, str(Path(folder) / 's.mistique'), seed, int(n))}\n")
