"""Drop-in means drop-in: scikit-learn's own tests of Pipeline pass on ours, with capture on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn

# Names of tests that are left out, each with a reason that is a real difference of intent. None is known.
DESELECTED: dict[str, str] = {}


@pytest.mark.supported("scikit-learn's own tests of Pipeline", "all pass with capture on")
@pytest.mark.slow
def test_every_test_of_scikit_learns_pipeline_passes_on_ours_with_capture_on(tmp_path: Path) -> None:
    module = str(Path(sklearn.__file__).parent / "tests" / "test_pipeline.py")
    command = [
        *(sys.executable, "-m", "pytest", module, "-q", "-p", "own_suite_plugin", "-p", "no:cacheprovider"),
        *("-c", os.devnull, "--rootdir", str(tmp_path), "-W", "ignore::mistique.errors.CaptureWarning"),
        *(f"--deselect={module}::{name}" for name in DESELECTED),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "MISTIQUE_OWN_SUITE_STORE": str(tmp_path / "own.mistique"),
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    committed = re.search(r"captures committed: (\d+)", done.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 150
    assert committed is not None
    assert int(committed.group(1)) > 60
