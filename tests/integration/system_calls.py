"""System calls of a captured fit that fail, one after the other, as the kernel would have it: strace stands in for it.

Usage: ``python -m tests.integration.system_calls FOLDER CALL [STEP]``. After each either the capture is in the
store, whole, or one warning has said that it is not; what was there before is there. Prints what is not so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import mistique
from mistique.errors import MistiqueError

# Those by which TileDB 2.30 writes, and what the kernel says of them when a disk is full, damaged or out of reach.
FAULTS = {"pwrite64": "ENOSPC", "mkdir": "ENOSPC", "openat": "EMFILE", "fsync": "EIO", "unlink": "EIO", "close": "EIO"}
# Fits on demand, each into the store that it is told, with a compaction of the log in it.
WORKER = """
import hashlib, json, sys, warnings
import numpy as np
import mistique
from mistique.sklearn import Pipeline
from mistique.storage.options import StorageOptions
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
X = np.random.default_rng(0).normal(size=(700, 8))
for number, uri in enumerate(sys.stdin, 1):
    store = mistique.open(uri.strip())
    store._catalog._log._options = StorageOptions(compact_fragments=4)
    store.catalog.captures()
    print("open", flush=True)
    sys.stdin.readline()
    pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="lab/fit")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipe.fit(X * number, X[:, 0])
    said = [f"{w.category.__name__}: {w.message}" for w in caught]
    print(json.dumps([hashlib.sha256(pipe[0].transform(X * number).tobytes()).hexdigest(), said]), flush=True)
    sys.stdin.readline()
    try:
        store.close()
    except mistique.errors.MistiqueError:
        pass
    print("closed", flush=True)
"""


class Worker:
    """A process that fits, now and then under strace, and a store of four fits beside it."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", WORKER]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.folder, self.base = folder, folder / "base"
        for _ in range(4):
            self.fit(self.base)

    def fit(self, store: Path, *strace: str) -> tuple[str, list[str]]:
        """The digest of what the scaler gave, and what was warned of."""
        assert self._told(str(store)) == "open"
        tracer = _attached(self._process.pid, strace) if strace else None
        said = self._told("fit")
        if tracer is not None:
            tracer.terminate()
            tracer.communicate()
        assert self._told("close") == "closed", self._process.poll()
        digest, warned = json.loads(said)
        return digest, warned

    def close(self) -> None:
        """No more of it."""
        self._process.communicate()

    def _told(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def _attached(pid: int, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pid), *arguments], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    assert b"attached" in line, line
    time.sleep(0.05)  # to all of its threads
    return tracer


def is_traceable() -> bool:
    """Whether there is a strace, and it may look into processes."""
    if shutil.which("strace") is None:
        return False
    return not subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode


def contents(store: Path) -> dict[str, str]:
    """What the scaler gave in each capture that can be seen, all of which is read.

    Raises
    ------
    MistiqueError
        Something that is seen cannot be read.
    """
    with mistique.open(store, mode="r") as opened:
        for capture in opened.catalog.captures():
            for name in capture.stored:
                mistique.get(opened, f"{capture.prefix}/{name}")
        if not (found := opened.check()).is_whole:
            raise MistiqueError(str(found))
        keys = [f"{capture.prefix}/scale" for capture in opened.catalog.captures()]
        return {key: sha256(mistique.get(opened, key).values.tobytes()).hexdigest() for key in keys}


def run(worker: Worker, call: str, *, step: int = 1) -> tuple[Counter[str], list[str]]:
    """Let a call fail in turn, in every thread; how often what came of it, and what was wrong."""
    kept, copy, trace = contents(worker.base), worker.folder / "copy", worker.folder / "trace"
    shutil.copytree(worker.base, copy)
    worker.fit(copy, "-o", str(trace), "-e", f"trace={call}")
    n_calls = Counter(line.split()[0] for line in trace.read_text().splitlines() if f" {call}(" in line)
    assert n_calls, f"a fit without {call}"
    outcomes: Counter[str] = Counter()
    complaints = []
    for when in range(1, max(n_calls.values()) + 1, step):
        shutil.rmtree(copy)
        shutil.copytree(worker.base, copy)
        inject = f"inject={call}:error={FAULTS[call]}:when={when}"
        digest, warned = worker.fit(copy, "-o", str(trace), "-e", f"trace={call}", "-e", inject)
        try:
            found = contents(copy)
        except MistiqueError as wrong:
            complaints.append(f"{inject}: {wrong}")
            continue
        new = [value for key, value in found.items() if key not in kept]
        is_said = len(warned) == 1 and warned[0].startswith("CaptureWarning")
        if not kept.items() <= found.items() or new not in ([], [digest]) or not (is_said or (new and not warned)):
            complaints.append(f"{inject}: {len(found)} captures, {len(new)} new, {warned}")
        outcomes["stored" if new else "not stored"] += 1
    shutil.rmtree(copy)
    return outcomes, complaints


if __name__ == "__main__":
    with closing(Worker(Path(sys.argv[1]))) as at_work:
        came, wrong = run(at_work, sys.argv[2], step=int((*sys.argv, "1")[3]))
    sys.stdout.write(f"{dict(came)}\n" + "".join(f"{line}\n" for line in wrong))
    sys.exit(bool(wrong))
