"""Flips bytes of a store, one at a time, and asks it everything again: a process of its own, because it may crash.

Usage: ``python -m tests.storage.flip_bytes STORE PART SEED N``. Prints what came out wrong; ends with 0 if nothing did.
"""

from __future__ import annotations

import gc
import random
import resource
import sys
from collections import Counter
from pathlib import Path

import mistique
from mistique.errors import MistiqueError
from mistique.storage.encryption import KeySource

# The limit on memory counts the stacks of threads, too.
_FEW_THREADS = {"sm.compute_concurrency_level": "1", "sm.io_concurrency_level": "1"}


def ask(path: Path, key: KeySource | None = None) -> dict[str, object]:
    """Everything that can be asked of that store, as plain values."""
    with mistique.open(path, mode="r", config=_FEW_THREADS, key=key) as store:
        answers: dict[str, object] = {}
        for name in ("table", "layer", "coded"):
            answer = mistique.get(store, f"lab/model@1.2/train/{name}")
            answers[name] = repr((answer.values.tolist(), answer.rows.tolist(), answer.columns))
        answers["highest"] = repr(mistique.topk(store, "lab/model@1.2/train/layer", unit=3, k=3).values.tolist())
        artifact = store.catalog.find("lab/model@1.1/train/table")[0].version.artifact
        assert artifact is not None
        answers["model"] = store._artifacts.get(artifact).payload
        return answers


def main(path: Path, part: str, seed: str, n: int) -> int:
    """The number of flips that gave a wrong value or an error that is not ours."""
    right = ask(path)
    # A flipped size asks for gigabytes: refused at once under a limit, zeroed for half a minute without.
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, resource.RLIM_INFINITY))
    files = sorted(file for file in (path / part).rglob("*") if file.is_file() and file.stat().st_size)
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(n):
        file = rng.choice(files)
        content = file.read_bytes()
        position, bit = rng.randrange(len(content)), rng.randrange(8)
        flipped = bytearray(content)
        flipped[position] ^= 1 << bit
        file.write_bytes(flipped)
        where = f"bit {bit} of byte {position} of {file.relative_to(path)}"
        # On the last line when the process dies of it.
        sys.stdout.write(f"{where}\n")
        sys.stdout.flush()
        try:
            outcome = "right" if ask(path) == right else f"WRONG: {where}"
        except MistiqueError:
            outcome = "refused"
        except Exception as error:  # noqa: BLE001  the point is to see what comes
            outcome = f"CRASH: {where}: {error!r}"
        outcomes[outcome] += 1
        # What an error held, threads and their stacks among it, must not count against the next flip.
        gc.collect()
        file.write_bytes(content)
    sys.stdout.write(f"{dict(outcomes)}\n")
    return n - outcomes["right"] - outcomes["refused"]


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])), 100))
