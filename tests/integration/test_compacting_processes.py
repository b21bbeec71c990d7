"""Compactions killed, two at once, and beside writers and readers: no answer changes, nothing dangles."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

import mistique
from mistique.store import Store
from tests.capturing import put, put_layer
from tests.storage.test_compaction import ask, fill, segments_of

# Compacts, and dies at the n-th call of something.
KILLED = """
import os, signal, sys
import mistique
from mistique.storage.records import RecordLog
from mistique.storage.remains import Remains
from mistique.storage.segment_writer import SegmentWriter
from mistique.storage.digest_index import DigestIndex

def dies(owner, name, at, after):
    right, calls = getattr(owner, name), [0]
    def wrapped(self, *arguments, **more):
        calls[0] += 1
        if calls[0] == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = right(self, *arguments, **more)
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)

store = mistique.open(sys.argv[1])
where, name = sys.argv[2].split(".")
dies(globals()[where], name, int(sys.argv[3]), sys.argv[4] == "after")
store.compact(grace_seconds=0)
"""
# Captures tables and layers, some new, some that are there, and says what became of each.
WRITER = """
import sys
import numpy as np
import mistique
from mistique.errors import StoreError
store = mistique.open(sys.argv[1])
for i in range(int(sys.argv[3])):
    capture = store.capture(model=sys.argv[2], dataset="train", framework="none", codec="raw")
    try:
        with capture:
            capture.add("table", np.arange(4500.0).reshape(1500, 3) + i % 3)
            capture.append("layer", np.full((1500, 80), i % 4, np.float32))
        print(capture.committed, i, flush=True)
    except StoreError as error:
        print("refused", str(error).replace(chr(10), " "), flush=True)
    if i % 5 == 4:  # so that there is something to take away
        for name in ("table", "layer"):
            try:
                store.drop(f"{sys.argv[2]}@{max(i - 2, 1)}/train/{name}")
            except LookupError:
                pass
"""
READER = """
import sys
import mistique
store = mistique.open(sys.argv[1], mode="r")
right = mistique.get(store, sys.argv[2]).values.tobytes()
print("reading", flush=True)
n = 0
while mistique.get(store, sys.argv[2]).values.tobytes() == right:
    n += 1
    if n % 20 == 0:
        print(n, flush=True)
print("WRONG", flush=True)
"""
COMPACTOR = """
import sys
import mistique
store = mistique.open(sys.argv[1])
for _ in range(int(sys.argv[2])):
    store.compact(grace_seconds=0)
print("done", flush=True)
"""


@contextmanager
def running(*scripts: tuple[str, ...]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that run these scripts; none is left behind."""
    with ExitStack() as stack:
        started = []
        for script in scripts:
            process = subprocess.Popen([sys.executable, "-c", *script], stdout=subprocess.PIPE, text=True)
            started.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield started


def all_said(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Lines that processes wrote, which all ended well."""
    lines = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return lines


def check_right(store: Store, version: str, i: int) -> None:
    """What a writer reported is there and right, or was dropped by it."""
    model, _, number = version.partition("@")
    captures = [c for c in store.catalog.captures() if (c.version.model, c.number) == (model, number)]
    assert len(captures) == 1
    if "table" in captures[0].stored:
        values = mistique.get(store, f"{version}/train/table").values
        assert (values == np.arange(4500.0).reshape(1500, 3) + i % 3).all()
    if "layer" in captures[0].stored:
        assert (mistique.get(store, f"{version}/train/layer").values == i % 4).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "n", "when"),
    [
        ("SegmentWriter.finish", 1, "before"),  # before a segment
        ("SegmentWriter.finish", 1, "after"),  # between segments and record
        ("RecordLog.append", 1, "after"),  # after the record
        ("RecordLog.append", 2, "after"),  # after the announcement
        ("RecordLog.append", 3, "before"),
        ("Remains.remove", 1, "before"),
        ("Remains.remove", 3, "after"),  # during deletion
        ("DigestIndex._write", 1, "before"),
        ("DigestIndex._write", 1, "after"),
        ("RecordLog.compact", 2, "before"),
    ],
)
def test_a_killed_compaction_changes_no_answer_and_the_next_one_finishes(
    store: Store, what: str, n: int, when: str
) -> None:
    fill(store, n_epochs=3)
    store.drop("lab/model@1.1/train/layer")
    before = ask(store)
    run = subprocess.run([sys.executable, "-c", KILLED, store.uri, what, str(n), when], check=False)
    assert run.returncode == -signal.SIGKILL
    assert ask(store) == ask(mistique.open(store.uri, mode="r")) == before
    with mistique.open(store.uri) as again:
        again.compact(grace_seconds=0)
        assert ask(again) == before
        assert len(segments_of(store)) == 1
        assert again.compact(grace_seconds=0).n_segments_rewritten == 0
    assert ask(store) == before
    key = put(store, np.arange(4000.0), model="lab/later")
    assert mistique.get(store, key).values.tolist() == np.arange(4000.0).tolist()


@pytest.mark.slow
def test_captures_beside_compactions_are_stored_and_right_or_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "s.mistique")
    with mistique.open(uri) as store:
        key = put(store, np.arange(4500.0).reshape(1500, 3), model="lab/before")
    scripts = [(WRITER, uri, f"lab/{name}", "15") for name in ("one", "two")]
    with running(*scripts) as writers, mistique.open(uri) as store:
        n_compactions = 0
        while any(writer.poll() is None for writer in writers):
            store.compact(grace_seconds=0)
            n_compactions += 1
        assert n_compactions >= 3
        reported = [line.split(maxsplit=1) for line in all_said(writers)]
    assert len(reported) == 30
    with mistique.open(uri, mode="r") as store:
        for version, i in reported:
            if version != "refused":
                check_right(store, version, int(i))
        ask(store)  # nothing dangles
    with mistique.open(uri) as store:
        before = ask(store)
        store.compact(grace_seconds=0)
        store.compact(grace_seconds=0)
        assert ask(store) == before
        assert len(segments_of(store)) == 1
        assert mistique.get(store, key).values[-1].tolist() == [4497, 4498, 4499]


@pytest.mark.slow
def test_captures_within_the_grace_period_are_never_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "s.mistique")
    mistique.open(uri).close()
    scripts = [(WRITER, uri, f"lab/{name}", "10") for name in ("one", "two")]
    with running(*scripts) as writers, mistique.open(uri) as store:
        while any(writer.poll() is None for writer in writers):
            store.compact(grace_seconds=600)
        reported = [line.split(maxsplit=1) for line in all_said(writers)]
    assert [line for line in reported if line[0] == "refused"] == []
    assert len(reported) == 20
    with mistique.open(uri) as store:
        for version, i in reported:
            check_right(store, version, int(i))


@pytest.mark.slow
def test_a_reader_goes_on_while_others_capture_and_compact(tmp_path: Path) -> None:
    uri = str(tmp_path / "s.mistique")
    with mistique.open(uri) as store:
        put(store, np.arange(12_000.0).reshape(4000, 3))
        key = put_layer(store, np.random.default_rng(0).normal(size=(4000, 90)).astype(np.float32), model="lab/layer")
        with running((READER, uri, key)) as (reader,):
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
            for i in range(12):
                put(store, np.arange(3000.0) + i, model="lab/more")
                store.compact(grace_seconds=0)
            said = reader.stdout.readline()
            reader.kill()
            said += reader.communicate()[0]
    assert said.startswith("20\n")
    assert "WRONG" not in said


@pytest.mark.slow
def test_two_compactors_at_once_change_no_answer(store: Store) -> None:
    fill(store, n_epochs=3)
    before = ask(store)
    for round_ in range(3):
        with running(*[(COMPACTOR, store.uri, "2")] * 2) as compactors:
            assert all_said(compactors) == ["done", "done"]
        found = ask(store)
        assert {key: found[key] for key in before} == before
        put(store, np.arange(4000.0) + round_, model="lab/more")
        put_layer(store, np.full((4000, 70), round_, np.float32), model="lab/layer")
    before = ask(store)
    store.compact(grace_seconds=0)
    store.compact(grace_seconds=0)
    assert ask(store) == before
    assert len(segments_of(store)) == 1
