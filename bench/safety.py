"""Stores damaged 2,000 times, writers killed 200 times, system calls that fail, and 50 starts in each way.

Kills, calls and starts are a part for each kind, ``kills-fit``, ``calls-openat``, ``starts-spawn``, so that a run can
be cut into pieces. Each part runs in portions, every one a process of its own, which may die: that is what is counted.
``--by "nice"`` puts a command before each of them.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from bench import harness
from tests.integration.kills import SHARES
from tests.integration.starts import WAYS
from tests.integration.system_calls import FAULTS, is_traceable

_N_DAMAGES, _N_KILLS, _N_STARTS = 2_000, 200, 50
_BY: list[str] = []
_SECONDS = 1_800
# Of several hundred calls, these are often of one kind in a row.
_EVERY = {"openat": 3, "close": 3, "pwrite64": 2}


def _portion(report: harness.Report, module: str, before: list[str], after: list[str]) -> bool:
    """Whether a portion, a module that is given a fresh folder, came to its end without a complaint."""
    with tempfile.TemporaryDirectory(prefix="mistique-safety-") as folder:
        command = [*_BY, sys.executable, "-X", "faulthandler", "-m", module, *before, folder, *after]
        done = subprocess.run(
            command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    if done.returncode:
        complaint = f"{' '.join([*before, *after])}: ended with {done.returncode}: {done.stdout[-500:]}"
        report.notes.append(complaint + done.stderr[-1500:])
        print(complaint, file=sys.stderr)
    return not done.returncode


def damages(report: harness.Report, scratch: harness.Scratch) -> None:
    """Random damage, in 16 of 50 cases to an encrypted store, then every question."""
    n, size = (40, 20) if report.is_quick else (_N_DAMAGES, 50)
    bad = sum(not _portion(report, "tests.storage.hostile", [], [f"seed-{i}", str(size)]) for i in range(n // size))
    report.add(f"portions of {size} damages with a wrong value, an error not ours or a dead process", bad, bar=0)
    report.facts["damages"] = n


def kills(kind: str, report: harness.Report, scratch: harness.Scratch) -> None:
    """SIGKILL at random moments of a fit, a grid search with workers, a training or a compaction."""
    n, size = (8, 1) if report.is_quick else (_N_KILLS, 5)
    n_portions = round(n * SHARES[kind] / size)
    module = "tests.integration.kills"
    bad = sum(not _portion(report, module, [kind], [f"{kind} {i}", str(size)]) for i in range(n_portions))
    report.add("portions in which something reported was lost or something half was seen", bad, bar=0)
    report.facts["kills"] = n_portions * size


def calls(call: str, report: harness.Report, scratch: harness.Scratch) -> None:
    """Each system call of a captured fit that compacts the log, or every so many, fails: strace, if there is one."""
    if not is_traceable():
        report.notes.append("there is no strace that may look into processes")
        return
    step = 100 if report.is_quick else _EVERY.get(call, 1)
    bad = not _portion(report, "tests.integration.system_calls", [], [call, str(step)])
    report.add(f"{call} fails with {FAULTS[call]}: a capture lost without a word, or one half seen", int(bad), bar=0)
    report.facts["every"] = step


def starts(way: str, report: harness.Report, scratch: harness.Scratch) -> None:
    """Threads or processes after a store was opened."""
    n = 2 if report.is_quick else _N_STARTS
    bad = not _portion(report, "tests.integration.starts", [way], [str(n)])
    report.add("hung, lost a write or answered wrong", int(bad), bar=0)
    report.facts["starts"] = n


_PARTS = {
    "damages": damages,
    **{f"kills-{kind}": partial(kills, kind) for kind in SHARES},
    **{f"calls-{call}": partial(calls, call) for call in FAULTS},
    **{f"starts-{way.replace(' ', '-')}": partial(starts, way) for way in WAYS},
}


if __name__ == "__main__":
    if "--by" in sys.argv:
        at = sys.argv.index("--by")
        _BY = shlex.split(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    sys.exit(harness.run("safety", __doc__, _PARTS))
