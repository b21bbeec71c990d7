"""After a store was opened, threads and processes started in every way work or are told so; none hangs or loses a
write.

Two starts of each here; the parts ``starts-*`` of ``python -m bench.safety`` make fifty of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.starts import WAYS


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_store_outlives_the_start_of_others_beside_it(way: str, tmp_path: Path) -> None:
    # In a process of its own, as a fork takes along whatever TileDB does in this one.
    command = [sys.executable, "-m", "tests.integration.starts", way, str(tmp_path), "2"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads(run.stdout) == {"refused" if way == "fork" else "worked": 4}
