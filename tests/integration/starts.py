"""A store that is used, and then used again by threads or processes started in one way: again and again.

Usage: ``python -m tests.integration.starts WAY FOLDER N``. Prints as JSON how often it worked and how often it was
refused; ends with an error if one hangs, loses a write or answers wrong.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import mistique
from mistique.errors import StoreClosedError
from mistique.store import Store
from tests.capturing import put

WAYS = ("fork", "fork and open", "spawn", "forkserver", "loky", "threads")
_HANGS_AFTER_SECONDS = 120


def work(given: tuple[Any, str, int]) -> tuple[str, str]:
    """Read what is there and capture something: the key of it, or the error that says why not."""
    store, key, number = given
    try:
        opened: Store = mistique.open(store) if isinstance(store, str) else store
        assert mistique.get(opened, key).values.tolist() == [0.0, 1.0, 2.0]
        return "worked", put(opened, np.arange(3.0) + number, model=f"lab/{number}")
    except StoreClosedError as error:
        return "refused", str(error)


def _inherited(given: tuple[str, int]) -> tuple[str, str]:
    return work((_STORE, *given))


_STORE: Store | None = None


def start(way: str, store: Store, tasks: list[tuple[Any, str, int]]) -> list[tuple[str, str]]:
    """What came of some tasks in threads or processes started in that way, two at a time.

    Raises
    ------
    multiprocessing.TimeoutError
        One hangs.
    """
    global _STORE
    if way == "threads":
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(work, tasks, timeout=_HANGS_AFTER_SECONDS))
    if way == "loky":
        from joblib import Parallel, delayed

        return list(Parallel(n_jobs=2, timeout=_HANGS_AFTER_SECONDS)(delayed(work)(task) for task in tasks))
    _STORE = store
    method, by = way.partition(" ")[0], work
    if way == "fork":
        by, tasks = _inherited, [task[1:] for task in tasks]  # type: ignore[assignment, misc]
    elif way == "fork and open":
        tasks = [(store.uri, *task[1:]) for task in tasks]
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map_async(by, tasks).get(_HANGS_AFTER_SECONDS)


def run(way: str, uri: str, n: int) -> dict[str, int]:
    """Start something so many times beside a store that is open, of which all that was reported is there after each."""
    outcomes: Counter[str] = Counter()
    written: dict[str, int] = {}
    with mistique.open(uri) as store:
        key = put(store, np.arange(3.0))
        for number in range(n):
            mistique.get(store, key)
            tasks = [(store, key, 2 * number + i) for i in (0, 1)]
            for (outcome, said), task in zip(start(way, store, tasks), tasks, strict=True):
                outcomes[outcome] += 1
                written |= {said: task[2]} if outcome == "worked" else {}
            own = put(store, np.arange(3.0) - number, model="lab/parent")
            written[own] = -number
        with mistique.open(uri, mode="r") as reader:
            assert len(reader.catalog.captures()) == len(written) + 1
            for written_key, offset in written.items():
                assert mistique.get(reader, written_key).values.tolist() == (np.arange(3.0) + offset).tolist()
            assert reader.check().is_whole
    assert set(outcomes) == ({"refused"} if way == "fork" else {"worked"}), outcomes
    return dict(outcomes)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "TileDB is a multithreading")
    sys.stdout.write(json.dumps(run(sys.argv[1], str(Path(sys.argv[2]) / "s.mistique"), int(sys.argv[3]))) + "\n")
