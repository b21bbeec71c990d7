"""Hosts whose clocks are an hour apart write one store, and all see the same newest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mistique

libfaketime = pytest.importorskip("libfaketime", reason="libfaketime is not installed")
pytestmark = pytest.mark.slow
# Shifts the clocks of a process, TileDB's own among them.
LIBRARY = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
HOST = """
import sys, time
import numpy as np
import mistique
from tests.capturing import put
store = mistique.open(sys.argv[1])
print(time.time(), flush=True)
for line in sys.stdin:
    what, _, value = line.strip().partition(" ")
    if what == "put":
        put(store, np.full(3, float(value)))
    elif what == "compact":
        store.compact(grace_seconds=0)
    versions = [c.number for c in store.catalog.captures()]
    print(mistique.get(store, "lab/model@latest/train/stage").values[0], *versions, flush=True)
"""


class Host:
    """A process with a clock of its own."""

    def __init__(self, uri: str, shift: str) -> None:
        around = {**os.environ, "LD_PRELOAD": str(LIBRARY), "FAKETIME": shift, "DONT_FAKE_MONOTONIC": "1"}
        command = [sys.executable, "-c", HOST, uri]
        self._process = subprocess.Popen(command, env=around, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.unix_seconds = float(self._read())

    def tell(self, command: str) -> str:
        """What it sees after that."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.mark.skipif(not LIBRARY.exists(), reason="libfaketime has no library for this system")
def test_hosts_with_clocks_an_hour_apart_see_the_same_newest(tmp_path: Path) -> None:
    uri = str(tmp_path / "s.mistique")
    hosts: list[Host] = []
    try:
        hosts.append(Host(uri, "+1h"))  # makes the store
        assert hosts[0].tell("put 0") == "0.0 1"
        hosts += [Host(uri, shift) for shift in ("-1h", "+0s")]
        assert hosts[0].unix_seconds - hosts[1].unix_seconds > 7000
        numbers = ["1"]
        # Each writes after each other: whatever its clock says, what was written last is the newest.
        for value, writer in enumerate([0, 1, 2, 1, 0, 2, 0], start=1):
            numbers.append(str(value + 1))
            expected = " ".join([f"{value:.1f}", *numbers])
            assert hosts[writer].tell(f"put {value}") == expected
            assert [host.tell("look") for host in hosts] == [expected] * 3
            if value in (3, 5):
                assert hosts[value % 3].tell("compact") == expected
                assert [host.tell("look") for host in hosts] == [expected] * 3
    finally:
        for host in hosts:
            host.close()
    with mistique.open(uri, mode="r") as store:
        for value, capture in enumerate(store.catalog.captures()):
            assert mistique.get(store, f"{capture.prefix}/stage").values.tolist() == [float(value)] * 3
        assert store.check().is_whole
