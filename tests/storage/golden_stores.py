"""Makes the golden stores of the format version of today, one encrypted, which later versions must read bit for bit.

Usage: ``python -m tests.storage.golden_stores``. It never overwrites: a store that was released stays as it is.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import mistique
from mistique.codecs import KBit, LowPrecision, Pool, Power, Threshold, within
from mistique.schema import FORMAT_VERSION
from mistique.storage.artifacts import Artifact
from tests.capturing import capturing

FOLDER = Path(__file__).parent / "golden"
N_ROWS = 60
# Of the encrypted one; no secret. And what it was given, as what is encrypted does not get smaller.
KEY = "the key of the golden stores"
SEALED_LAYERS = ("raw", "power")
SEALED_COLUMNS = ["float", "nullable", "text", "category", "when"]


def table() -> pd.DataFrame:
    """Every kind of column."""
    n = np.arange(N_ROWS)
    return pd.DataFrame(
        {
            "float": n * 1.25 - 3,
            "few": n % 7 * 0.5,
            "double the few": n % 7 * 1.0,
            "integer": n * n - 40,
            "nullable": pd.array([None if i % 5 == 0 else i for i in n], dtype="Int64"),
            "text": pd.array([None if i % 9 == 0 else f"café {i % 4}" for i in n], dtype="str"),
            "category": pd.Categorical(["low", "high", None] * (N_ROWS // 3), ["low", "mid", "high"], ordered=True),
            "bool": n % 3 == 0,
            "when": pd.date_range("2024-02-28", periods=N_ROWS, freq="7h", tz="Europe/Paris"),
            "how long": pd.to_timedelta(n * 90, unit="min"),
        }
    )


def layers() -> dict[str, tuple[np.ndarray, object]]:
    """Layers by every codec."""
    ramp = (np.arange(N_ROWS * 70) * 7919 % 1009).reshape(N_ROWS, 70).astype(np.float32) / 100 - 3
    maps = (np.arange(N_ROWS * 4 * 4 * 3) * 7919 % 1013).reshape(N_ROWS, 4, 4, 3).astype(np.float32) / 50
    return {
        "raw": (ramp, "raw"),
        "half": (ramp.astype(np.float16), "raw"),
        "power": (np.maximum(ramp, 0), Power(bits=5)),
        "kbit": (ramp, KBit(bits=4)),
        "low precision": (ramp, LowPrecision()),
        "within": (ramp, within(absolute=0.01)),
        "threshold": (ramp, Threshold()),
        "pool": (maps, Pool()),
    }


def make(path: Path) -> None:
    """Two captures, one of them partly moved by a compaction, and one that was dropped."""
    with mistique.open(path) as store:
        for epoch in (1, 2):
            with capturing(store, model="golden/net", run_id="7" * 32, epoch=epoch) as capture:
                capture.set_labels([f"row-{i}" for i in range(N_ROWS)])
                capture.add("table", table())
                for name, (values, codec) in layers().items():
                    capture.append(name, values + values.dtype.type(epoch), codec=codec)
                capture.keep_model(Artifact("cloudpickle", b"no model at all"))
        store.compact(grace_seconds=0)
        with capturing(store, model="golden/later") as capture:
            capture.add("table", table().iloc[::-1])
            capture.append("dropped", np.ones((N_ROWS, 3), np.float32))
        store.drop("golden/later@1/train/dropped")


def make_sealed(path: Path) -> None:
    """One capture in a store with a key."""
    with mistique.open(path, key=lambda: KEY) as store, capturing(store, model="golden/net") as capture:
        capture.set_labels([f"row-{i}" for i in range(N_ROWS)])
        capture.add("table", table()[SEALED_COLUMNS])
        for name in SEALED_LAYERS:
            values, codec = layers()[name]
            capture.append(name, values, codec=codec)
        capture.keep_model(Artifact("cloudpickle", b"no model at all"))


TARGETS = {
    FOLDER / f"format-{FORMAT_VERSION}.tar.xz": make,
    FOLDER / f"format-{FORMAT_VERSION}-encrypted.tar.xz": make_sealed,
}


def main() -> int:
    """Make those that are not there; 1 if one is."""
    for target, made_by in TARGETS.items():
        if target.exists():
            sys.stderr.write(f"{target} is there: what was written stays as it is\n")
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "golden.mistique"
            made_by(path)
            with tarfile.open(target, "x:xz") as archive:
                archive.add(path, "golden.mistique")
    return 1


if __name__ == "__main__":
    sys.exit(main())
