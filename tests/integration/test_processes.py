"""Several processes and one store: killed, failing, forked, spawned, side by side."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mistique
from mistique.errors import CaptureWarning, StoreClosedError, StoreError
from mistique.store import Store
from tests.capturing import capturing, put

# Commits captures one after the other, and says of each on stdout that it was committed.
WRITER = """
import sys
import numpy as np
import mistique
store = mistique.open(sys.argv[1], max_buffer_nbytes=200_000)
for i in range(int(sys.argv[3]) if len(sys.argv) > 3 else 10_000):
    with store.capture(model=sys.argv[2], dataset="train", framework="none", codec="raw") as capture:
        capture.set_labels([f"r{j}" for j in range(1500)])
        capture.add("table", np.arange(4500.0).reshape(1500, 3) + 1000 * i)
        for start in range(0, 1500, 500):
            capture.append("layer", np.full((500, 40), i, np.float32))
    print(capture.committed, i, flush=True)
"""


def start_writer(uri: str, model: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, uri, model, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check_whole(store: Store, version: str, i: int) -> None:
    table = mistique.get(store, f"{version}/train/table")
    assert (table.values == np.arange(4500.0).reshape(1500, 3) + 1000 * i).all()
    assert table.rows[[0, -1]].tolist() == ["r0", "r1499"]
    layer = mistique.get(store, f"{version}/train/layer").values
    assert layer.shape == (1500, 40)
    assert (layer == i).all()


@pytest.mark.slow
def test_what_a_killed_writer_reported_is_whole_and_nothing_else_is_half(tmp_path: Path) -> None:
    uri, rng = str(tmp_path / "s.mistique"), random.Random(0)
    put(mistique.open(uri), np.arange(5.0), model="lab/before")
    n_reported = 0
    for kill in range(6):
        writer = start_writer(uri, f"lab/kill-{kill}")
        assert writer.stdout is not None
        reported = [writer.stdout.readline()]
        time.sleep(rng.uniform(0, 0.25))
        writer.send_signal(signal.SIGKILL)
        reported += [line for line in writer.stdout.read().splitlines() if line]
        writer.wait()
        writer.stdout.close()
        with mistique.open(uri) as store:
            for line in reported:
                version, i = line.split()
                check_whole(store, version, int(i))
            seen = [c for c in store.catalog.captures() if c.version.model == f"lab/kill-{kill}"]
            # One more may have been committed before it could be reported.
            assert len(seen) - len(reported) in (0, 1)
            for i, capture in enumerate(seen):
                assert set(capture.intermediates) == {"row_label", "table", "layer"}
                check_whole(store, f"{capture.version.model}@{capture.number}", i)
            assert mistique.get(store, "lab/before@1/train/stage").values.tolist() == [0, 1, 2, 3, 4]
        n_reported += len(reported)
    assert n_reported >= 6


@pytest.mark.slow
def test_two_processes_writing_at_once_lose_nothing(tmp_path: Path) -> None:
    uri = str(tmp_path / "s.mistique")
    # They make the store together, too; and the same model, so they count its versions together.
    writers = [start_writer(uri, "lab/same", "6") for _ in range(2)]
    reported = [line.split() for writer in writers for line in writer.communicate()[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0, 0]
    with mistique.open(uri, mode="r") as store:
        captures = store.catalog.captures()
        assert [c.number for c in captures] == [str(n) for n in range(1, 13)]
        found = sorted(float(mistique.get(store, f"lab/same@{c.number}/train/layer").values[0, 0]) for c in captures)
    assert found == sorted(float(i) for _, i in reported) == sorted([0.0, 1, 2, 3, 4, 5] * 2)


FAILING = """
import resource, signal, sys, warnings
import numpy as np
import mistique
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = mistique.open(sys.argv[1], max_buffer_nbytes=100_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with store.capture(model="lab/full", dataset="train", framework="none", codec="raw", on_error="warn") as capture:
        values = np.random.default_rng(0).normal(size=(4096, 40))
        capture.add("first", values[:, :2])
        capture.append("layer", values)
        capture.add("last", values[:, :2] + 1)
print(capture.committed, [w.category.__name__ for w in caught], flush=True)
"""


@pytest.mark.parametrize("n_bytes", [0, 100, 1_000, 10_000, 50_000])
def test_a_disk_that_is_full_costs_the_capture_and_one_warning_and_nothing_else(tmp_path: Path, n_bytes: int) -> None:
    uri = str(tmp_path / "s.mistique")
    with mistique.open(uri) as store:
        key = put(store, np.arange(3000.0))
    run = subprocess.run(
        [sys.executable, "-c", FAILING, uri, str(n_bytes)], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.strip() == "None ['CaptureWarning']", run.stderr[-1500:]
    with mistique.open(uri) as store:
        assert [c.version.model for c in store.catalog.captures()] == ["lab/model"]
        assert mistique.get(store, key).values.tolist() == np.arange(3000.0).tolist()
        again = put(store, np.arange(3000.0) + 1)
        assert mistique.get(store, again).values[0] == 1


FORBIDDEN = """
import os, sys, warnings
import numpy as np
import mistique
uri, part = sys.argv[1:]
store = mistique.open(uri)
os.chmod(part, 0o500)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with store.capture(model="lab/new", dataset="train", framework="none", codec="raw", on_error="warn") as capture:
        capture.add("x", np.arange(5.0))
os.chmod(part, 0)
try:
    opened = mistique.open(uri)
    opened.catalog.captures(), mistique.get(opened, "lab/model@1/train/stage")
except mistique.errors.StoreError:
    print(capture.committed, [w.category.__name__ for w in caught], "refused")
os.chmod(part, 0o700)
"""


@pytest.mark.parametrize("part", ["segments", "catalog/__fragments", ""])
def test_a_folder_that_may_not_be_written_costs_the_capture_and_one_that_may_not_be_read_is_refused(
    tmp_path: Path, part: str
) -> None:
    with mistique.open(tmp_path / "s.mistique") as store:
        key = put(store, np.arange(3.0))
    command = [sys.executable, "-c", FORBIDDEN, store.uri, str(Path(store.uri) / part)]
    if os.geteuid() == 0:  # who else may do everything
        if shutil.which("setpriv") is None:
            pytest.skip("root reads and writes what nobody may, and there is no setpriv")
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    expected = "None ['CaptureWarning'] refused" if part else "lab/new@1 [] refused"
    assert run.stdout.strip() == expected, run.stderr[-1500:]
    with mistique.open(store.uri) as again:
        assert mistique.get(again, key).values.tolist() == [0, 1, 2]


def test_a_store_whose_segments_cannot_be_written_keeps_what_it_has(store: Store) -> None:
    key = put(store, np.arange(3.0))
    segments = Path(store.uri) / "segments"
    segments.rename(segments.with_name("aside"))
    segments.write_text("not a folder any more")
    with pytest.warns(CaptureWarning, match="nothing of lab/model") as caught, capturing(store, on_error="warn") as c:
        c.add("x", np.arange(9.0))
        c.add("y", np.arange(9.0) + 1)
    assert (len(caught), c.committed) == (1, None)
    with pytest.raises(StoreError), capturing(store) as c:
        c.add("x", np.arange(9.0))
    segments.unlink()
    segments.with_name("aside").rename(segments)
    with mistique.open(store.uri) as again:
        assert mistique.get(again, key).values.tolist() == [0, 1, 2]
        assert len(again.catalog.captures()) == 1


# TileDB and, from 3.12 on, Python say that a fork is dangerous: that is what is tested.
FORKS_ON_PURPOSE = pytest.mark.filterwarnings("ignore:TileDB is a multithreading", "ignore:.*fork.*:DeprecationWarning")


def in_child(work: object) -> str:
    """What a forked child says that came of it; a hang is an error after a minute."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001  it is told to the parent
            said = type(error).__name__
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    signal.alarm(60)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    signal.alarm(0)
    os.waitpid(child, 0)
    return said


@FORKS_ON_PURPOSE
def test_a_forked_child_is_told_at_once_and_the_parent_goes_on(store: Store) -> None:
    key = put(store, np.arange(3.0))
    mistique.get(store, key)

    def capture_there() -> str:
        put(store, np.arange(4.0))
        return "wrote under its parent's identity"

    assert in_child(lambda: str(mistique.get(store, key))) == StoreClosedError.__name__
    assert in_child(capture_there) == StoreClosedError.__name__
    assert in_child(lambda: repr(store)).startswith("closed store")
    assert mistique.get(store, put(store, np.arange(4.0))).values.tolist() == [0, 1, 2, 3]
    assert len(store.catalog.captures()) == 2


@FORKS_ON_PURPOSE
def test_a_capture_that_a_fork_carries_along_is_told_too(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("x", np.arange(3.0))

        def finish_there() -> str:
            capture.commit()
            return "committed"

        assert in_child(finish_there) == StoreClosedError.__name__
    assert mistique.get(store, "lab/model@1/train/x").values.tolist() == [0, 1, 2]
    assert len(mistique.open(store.uri, mode="r").catalog.captures()) == 1


def double(store: Store, key: str) -> tuple[list[float], str]:
    """Run in a spawned process: reads with a store that came by pickle, and writes with it."""
    values = mistique.get(store, key).values
    return values.tolist(), put(store, values * 2, model="lab/worker")


@pytest.mark.slow
def test_a_pickled_store_reads_and_writes_in_a_spawned_process(store: Store) -> None:
    key = put(store, np.arange(3.0))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        values, written = pool.apply(double, (store, key))
    assert values == [0, 1, 2]
    assert mistique.get(store, written).values.tolist() == [0, 2, 4]


def test_a_pickled_store_keeps_its_mode_and_holds_no_credentials(tmp_path: Path) -> None:
    mistique.open(tmp_path / "s").close()
    secret = {"vfs.s3.aws_secret_access_key": "hush"}
    reader = mistique.open(tmp_path / "s", mode="r", config=secret)
    content = pickle.dumps(reader)
    assert b"hush" not in content
    assert pickle.loads(content).mode == "r"
