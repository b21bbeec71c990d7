"""All that tidies a store up, in one order after the other, beside a reader that reads every key again and again.

Usage: ``python -m tests.storage.maintenance FOLDER SEED N``: in so many orders, drawn at random. Ends with an error
if a key ever read otherwise than it was sent.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

import mistique
from mistique.store import Store
from tests.capturing import put, put_layer

N_MODELS = 4


def upkeep_of(store: Store, rng: random.Random) -> list[Callable[[], object]]:
    """Every kind of work that moves, merges or removes something."""
    return [
        lambda: store.compact(grace_seconds=0),
        lambda: store.gc(grace_seconds=0),
        lambda: store.check(repair=True),
        store._catalog.compact,
        store._usage.compact,
        lambda: store.drop(put(store, np.full(9, rng.random()), model="lab/more")),
    ]


def run(uri: str, seed: str, n_orders: int) -> tuple[list[str], int]:
    """The keys that read otherwise than they were sent, and how often another reader has read them all meanwhile."""
    rng, kept = random.Random(seed), {}
    store = mistique.open(uri)
    for i in range(N_MODELS):
        values = np.random.default_rng(i).normal(size=(600, 5))
        kept[put(store, values, model=f"lab/{i}")] = values.tobytes()
        layer = values.astype(np.float32)
        kept[put_layer(store, layer, model=f"net/{i}")] = layer.tobytes()
    wrong: list[str] = []
    n_read = 0
    is_over = threading.Event()

    def look(reader: Store) -> None:
        wrong.extend(key for key, sent in kept.items() if mistique.get(reader, key).values.tobytes() != sent)

    def read() -> None:
        nonlocal n_read
        while not is_over.is_set():
            try:
                with mistique.open(uri, mode="r") as reader:
                    look(reader)
            except Exception as error:  # noqa: BLE001  nobody else would see it
                wrong.append(repr(error))
            n_read += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        upkeep = upkeep_of(store, rng)
        for _ in range(n_orders):
            for work in rng.sample(upkeep, len(upkeep)):
                work()
                look(store)
    finally:
        is_over.set()
        reader.join()
    store.close()
    return wrong, n_read


if __name__ == "__main__":
    folder, seed, n_orders = sys.argv[1:]
    wrong, n_read = run(str(Path(folder) / "s.mistique"), seed, int(n_orders))
    sys.stdout.write(f"{n_read} readings beside it, {len(wrong)} wrong: {wrong[:9]}\n")
    sys.exit(bool(wrong))
