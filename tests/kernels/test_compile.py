"""Compiled code where its cache cannot be written, or is written by several processes at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mistique import kernels
from tests.reference.digest import digest

CONTENT, KEY = bytes(range(256)) * 40, bytes(range(16))
# Kernels that call kernels.
SCRIPT = """
import numpy as np
from mistique.kernels import digest
content, out = np.tile(np.arange(256, dtype=np.uint8), 40), np.empty(2, np.uint64)
digest.digest_content(content, np.zeros(2, np.uint64), digest.expand_key(bytes(range(16))), out)
print(digest.__file__, *out)
"""

# Fewer of them, that eight processes may compile.
FEW = """
import numpy as np
from mistique.kernels import neighbours
codes, counts = np.arange(600, dtype=np.uint8).reshape(6, 100), np.zeros(neighbours.N_SUMS, np.int64)
neighbours.count_sums(codes, 2, 1, 1, counts)
print(*counts)
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the kernels, with nothing compiled beside them; all of mistique would compile for half a minute."""
    source = Path(kernels.__file__).parent
    shutil.copytree(source, tmp_path / "mistique/kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mistique/__init__.py").touch()
    return tmp_path


def started(folder: Path, script: str = SCRIPT, **environment: str) -> subprocess.Popen[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return subprocess.Popen(
        [sys.executable, "-B", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**known, "PYTHONPATH": str(folder), **environment},
    )


def test_kernels_work_where_no_cache_can_be_written(installed: Path) -> None:
    # numba 10128: in a read-only install `cache=True` fails at import. A file in the place of a folder stops root too.
    for module in installed.rglob("__init__.py"):
        (module.parent / "__pycache__").write_text("")
    process = started(installed, HOME="/dev/null", XDG_CACHE_HOME="/dev/null", MISTIQUE_CONFIG_DIR="/dev/null/config")
    said, failed = process.communicate(timeout=300)
    assert process.returncode == 0, failed[-2000:]
    assert said.split() == [str(installed / "mistique/kernels/digest.py"), *map(str, digest(CONTENT, KEY))]


def test_processes_that_fill_one_cache_at_once_are_all_right(installed: Path, tmp_path: Path) -> None:
    # numba 4908, 5566, 4032: two that compile at once, and one that crashes later.
    rows = np.arange(600, dtype=np.uint8).reshape(6, 100).astype(int)
    sums = [rows[column - 1] + rows[column - (2 if column >= 2 else 1)] for column in range(1, 6)]
    right = np.bincount(np.concatenate([np.zeros(100, int), *sums]), minlength=511).tolist()
    for n_processes in (8, 1):
        processes = [started(installed, FEW, NUMBA_CACHE_DIR=str(tmp_path / "cache")) for _ in range(n_processes)]
        said = [process.communicate(timeout=300)[0].split() for process in processes]
        assert said == [[*map(str, right)]] * n_processes
        assert any((tmp_path / "cache").rglob("neighbours*.nbc"))
