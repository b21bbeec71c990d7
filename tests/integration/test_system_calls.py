"""What the kernel refuses a writing process: the capture is there, whole, or one warning says that it is not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.system_calls import Worker, is_traceable, run

# Of several hundred; all of them by `python -m bench.safety calls`.
STEPS = {"pwrite64": 70, "openat": 160, "mkdir": 9}


@pytest.mark.slow
@pytest.mark.skipif(not is_traceable(), reason="no strace that may look into processes")
def test_a_system_call_that_fails_costs_a_capture_at_most_and_not_without_a_word(tmp_path: Path) -> None:
    with closing(Worker(tmp_path)) as worker:
        for call, step in STEPS.items():
            outcomes, complaints = run(worker, call, step=step)
            assert not complaints
            assert outcomes["not stored"]
