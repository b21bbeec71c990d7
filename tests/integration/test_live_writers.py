"""What another process is still writing is never touched, and many who write at once lose nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mistique
from tests.capturing import put
from tests.integration.test_processes import check_whole, start_writer

# Holds a capture of which much is written and nothing committed, until it is told to go on.
SLOW_WRITER = """
import sys
import numpy as np
import mistique
store = mistique.open(sys.argv[1], max_buffer_nbytes=100_000)
with store.capture(model="lab/slow", dataset="train", framework="none", codec="raw") as capture:
    for start in range(0, 4096, 1024):
        capture.append("layer", np.random.default_rng(start).normal(size=(1024, 200)))
    print("written", flush=True)
    sys.stdin.readline()
print(capture.committed, flush=True)
"""
READER = """
import sys
import mistique
n, seen = 0, set()
while n < 400 and len(seen) < int(sys.argv[2]):
    with mistique.open(sys.argv[1], mode="r") as store:
        captures = store.catalog.captures()
        now = {c.id for c in captures}
        assert len({(c.version.model, c.number) for c in captures}) == len(now) == len(captures), "twice"
        assert seen <= now, "lost"
        for capture in captures[-2:]:
            layer = mistique.get(store, f"{capture.prefix}/layer").values
            assert layer.shape == (1500, 40) and (layer == layer[0, 0]).all(), "torn"
        seen, n = now, n + 1
print("right", len(seen))
"""


@pytest.mark.parametrize("collect", [mistique.Store.gc, mistique.Store.compact])
def test_what_killed_writers_left_in_catalog_usage_and_digests_is_removed_once_it_is_old(
    tmp_path: Path, collect: Callable[..., object]
) -> None:
    with mistique.open(tmp_path / "s.mistique") as store:
        key = put(store, np.arange(2000.0))
        mistique.get(store, key)
    folder, left = Path(store.uri), []
    for part in ("catalog", "usage", "digests"):
        (fragment, *_) = (folder / part / "__fragments").iterdir()
        for age in (0, 3000, 5000):
            # As it lies there before its commit.
            name = fragment.name.replace(fragment.name.split("_")[4], f"{age:032x}")
            left.append((Path(shutil.copytree(fragment, fragment.parent / name)), age))
            for path in (*left[-1][0].iterdir(), left[-1][0]):
                os.utime(path, (time.time() - age,) * 2)
    with mistique.open(store.uri) as again:
        collect(again, grace_seconds=4000)
        assert [path.exists() for path, _ in left] == [age < 4000 for _, age in left]
        collect(again, grace_seconds=0)
        assert [path.exists() for path, _ in left] == [age == 0 for _, age in left]
        assert mistique.get(again, key).values.tolist() == list(range(2000))
        assert again.check().is_whole


def test_gc_and_compact_leave_what_a_live_writer_has_not_committed(tmp_path: Path) -> None:
    uri = str(tmp_path / "s.mistique")
    with mistique.open(uri) as store:
        kept = put(store, np.arange(2000.0))
        command = [sys.executable, "-c", SLOW_WRITER, uri]
        writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        begun = {path.name for path in (Path(uri) / "segments").iterdir()}
        assert len(begun) > 1
        for _ in range(2):
            store.gc()
            store.compact()
            assert store.check().is_whole
        assert {path.name for path in (Path(uri) / "segments").iterdir()} >= begun
        said, _ = writer.communicate("go on\n", timeout=60)
        assert said == "lab/slow@1\n"
        values = mistique.get(store, "lab/slow@1/train/layer").values
        assert np.array_equal(values[1024:2048], np.random.default_rng(1024).normal(size=(1024, 200)))
        assert mistique.get(store, kept).values.tolist() == np.arange(2000.0).tolist()


@pytest.mark.slow
def test_eight_writers_and_two_readers_see_everything_once_and_whole(tmp_path: Path) -> None:
    uri, n_each = str(tmp_path / "s.mistique"), 3
    mistique.open(uri).close()
    # Two of each model, so that they count versions together.
    writers = [start_writer(uri, f"lab/{i % 4}", str(n_each)) for i in range(8)]
    readers = [
        subprocess.Popen([sys.executable, "-c", READER, uri, str(8 * n_each)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [line.split() for writer in writers for line in writer.communicate(timeout=300)[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0] * 8
    assert [reader.communicate(timeout=300)[0] for reader in readers] == [f"right {8 * n_each}\n"] * 2
    with mistique.open(uri, mode="r") as store:
        captures = store.catalog.captures()
        # Each under the number that its writer was told, whoever else took a number meanwhile.
        assert len(captures) == len({version for version, _ in said}) == 8 * n_each
        for version, i in said:
            check_whole(store, version, int(i))
        assert store.check().is_whole
