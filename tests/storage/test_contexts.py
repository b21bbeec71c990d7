"""Contexts of TileDB: renewed under a store that goes on, freed when nothing needs them, never after a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mistique
from mistique.errors import MistiqueError
from mistique.storage import contexts
from mistique.storage.options import StorageOptions, damage_as_error
from tests.capturing import put

# A fresh context for every third operation, while threads read, write and fail, and the garbage is collected.
STRESS = """
import gc, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import mistique
from mistique.errors import MistiqueError
from mistique.storage import contexts
from tests.capturing import put
contexts.RENEW_EVERY = 3
path = sys.argv[1]
store = mistique.open(path, memory_nbytes=0)
keys = [put(store, np.arange(5000.0) + i, model=f"lab/{i}") for i in range(4)]
broken = put(store, np.arange(3.0), model="lab/broken")
segment = store.catalog.references(store.catalog.find(broken)[0])["stage"].segments[0]
for file in sorted((__import__("pathlib").Path(path) / "segments" / segment.id).rglob("*.tdb")):
    file.write_bytes(b"x" * 10)
def work(number):
    key = keys[number % 4]
    assert mistique.get(store, key, rows=[number]).values.tolist() == [number + number % 4]
    if number % 10 == 0:
        put(mistique.open(path), np.arange(7.0) + number, model="lab/more")
    if number % 7 == 0:
        try:
            mistique.get(mistique.open(path, mode="r"), broken)
            raise AssertionError("it was read")
        except MistiqueError:
            pass
    if number % 25 == 0:
        gc.collect()
    return 1
with ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(work, range(150))) == 150
assert store.check().damages
"""

# What makes arrays, reads and writes them, on a thread of its own each time. TileDB-Py would make a context for each.
ON_THREADS = """
import gc, sys
from threading import Thread
import numpy as np
import tiledb
import mistique
from tests.capturing import put
def work(number):
    store = mistique.open(sys.argv[1])
    key = put(store, np.arange(3.0) + number, model=f"lab/{number}")
    assert mistique.get(store, key).values[0] == number
    assert store.check().is_whole
    store.compact()
gc.disable()
for number in range(4):
    thread = Thread(target=work, args=(number,))
    thread.start()
    thread.join()
print(sum(isinstance(thing, tiledb.Ctx) for thing in gc.get_objects()))
"""


def test_a_thread_leaves_no_context_behind_that_a_forked_process_would_wait_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_THREADS, str(tmp_path / "s.mistique")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "2\n", done.stderr[-3000:]  # the store's, and the one that stands in for none


def test_a_store_goes_on_in_another_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Settings that nobody else has: a context that is shared may have failed in another test, and then stays longer.
    store = mistique.open(str(tmp_path / "s.mistique"), config={"vfs.max_batch_size": "12345679"})
    key, before = put(store, np.arange(5.0)), store._ctx
    monkeypatch.setattr(contexts, "RENEW_EVERY", 1)
    assert mistique.get(store, key).values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert store._ctx is not before
    again = put(store, np.arange(5.0) + 1)
    assert mistique.get(store, again).values[0] == 1.0


def test_what_nothing_uses_is_freed_and_what_failed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "RENEW_EVERY", 1)
    options = StorageOptions(config={"vfs.max_batch_size": "12345678"})  # nobody else has it

    def renew() -> None:
        with contexts.operation():
            pass
        options.context()

    held = options.context()
    renew()
    assert held in [lent.ctx for lent in contexts._retired]
    n_retired = len(contexts._retired)
    del held
    for _ in range(5):
        renew()
    assert len(contexts._retired) <= n_retired
    with pytest.raises(MistiqueError), damage_as_error("here", "nothing"):
        raise ValueError
    failed = id(options.context())
    for _ in range(5):
        renew()
    assert id(options.context()) == failed
    for _ in range(20):
        renew()
    assert failed in [id(lent.ctx) for lent in contexts._retired]


def test_threads_read_write_and_fail_while_contexts_are_renewed(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", STRESS, str(tmp_path / "s.mistique")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_no_query_gives_back_the_memory_of_the_process_unless_that_is_asked_for(tmp_path: Path) -> None:
    put(mistique.open(tmp_path / "s.mistique"), np.arange(5.0))
    made = [lent.ctx for lent in contexts._lent.values()] + [contexts._default()]
    assert {ctx.config()["sm.mem.malloc_trim"] for ctx in made} == {"false"}
    asked = StorageOptions(config={"sm.mem.malloc_trim": "true"}).context()
    assert asked.config()["sm.mem.malloc_trim"] == "true"
