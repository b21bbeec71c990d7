"""`import mistique` is quick because it leaves the heavy libraries to those who use them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "sklearn", "matplotlib", "pandas")


@pytest.fixture(scope="module")
def loaded_modules() -> set[str]:
    """The top-level modules that a new process holds after `import mistique`."""
    script = "import sys, mistique; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_the_probe_sees_what_was_imported(loaded_modules: set[str]) -> None:
    assert {"mistique", "numpy"} <= loaded_modules


@pytest.mark.parametrize("library", HEAVY)
def test_import_mistique_leaves_out(library: str, loaded_modules: set[str]) -> None:
    assert library not in loaded_modules
