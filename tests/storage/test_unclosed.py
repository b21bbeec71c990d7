"""Stores that nobody closes let go of what they hold, in the order that TileDB needs, whoever collects them."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import mistique
from mistique.store import Store
from tests.capturing import put, put_layer

# Opens stores, asks them, and leaves them to the garbage collector, from several threads.
LEFT = """
import gc, sys, threading
import mistique
gc.set_threshold(40, 2, 2)
def work():
    for _ in range(int(sys.argv[2])):
        store = mistique.open(sys.argv[1], mode="r")
        cycle = [store]
        cycle.append(cycle)
        for key in ("lab/model@1/train/stage", "lab/layer@1/train/layer"):
            mistique.get(store, key)
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
gc.collect()
print("done")
"""
FORKED = """
import gc, os, sys
import mistique
store = mistique.open(sys.argv[1], mode="r")
mistique.get(store, "lab/model@1/train/stage")
child = os.fork()
if child == 0:
    del store
    gc.collect()
    os._exit(7)  # as multiprocessing does
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print(len(mistique.get(store, "lab/model@1/train/stage")))
"""


@pytest.fixture
def filled(store: Store) -> str:
    put(store, np.arange(20_000.0).reshape(10_000, 2))
    put_layer(store, np.ones((3000, 80), np.float32), model="lab/layer")
    store.close()
    return store.uri


def test_a_store_that_nobody_holds_goes_at_once_and_closes_its_arrays(filled: str) -> None:
    store = mistique.open(filled, mode="r")
    mistique.get(store, "lab/model@1/train/stage")
    arrays = [handle.array for handle in store.segments._open.values()]
    assert all(array.isopen for array in arrays)
    seen, n_threads = weakref.ref(store), threading.active_count()
    gc.disable()
    try:
        del store
        assert seen() is None
    finally:
        gc.enable()
    assert len(arrays) == 1
    assert not any(array.isopen for array in arrays)
    assert threading.active_count() <= n_threads


def test_stores_that_threads_leave_to_the_garbage_collector_do_no_harm(filled: str) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", LEFT, filled, "6"]
    # glibc then overwrites what is freed: whoever uses it afterwards dies of it.
    environment = {**os.environ, "MALLOC_PERTURB_": "165"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]


def test_a_forked_child_that_ends_does_not_hang_on_the_store_of_its_parent(filled: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, filled]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "10000\n"), done.stderr[-3000:]


def test_contexts_outlive_their_stores(filled: str) -> None:
    """What a failed read leaves behind points to its context, and does not hold it."""
    first, second = (mistique.open(filled, mode="r")._ctx for _ in range(2))
    assert first is second
    other = mistique.open(filled, mode="r", config={"vfs.min_batch_gap": "1"})._ctx
    assert other is not first
