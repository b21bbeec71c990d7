"""Stores damaged 2,000 times, writers killed 200 times, operations and system calls that fail, 50 starts in each way.

Faults, kills, calls and starts are a part for each kind, ``faults-compact``, ``kills-fit``, ``calls-openat``,
``starts-spawn``, so that a run can be cut into pieces; ``faults`` is all of them. Each part runs in portions, every
one a process of its own, which may die: that is what is counted.
``--by "nice"`` puts a command before each of them.
"""

from __future__ import annotations

import importlib.util
import json
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
from tests.storage import faulted

_N_DAMAGES, _N_KILLS, _N_STARTS, _N_ORDERS = 2_000, 200, 50, 50
_BY: list[str] = []
_SECONDS = 3_600
# Of several hundred calls, these are often of one kind in a row.
_EVERY = {"openat": 3, "close": 3, "pwrite64": 2}


def _portion(report: harness.Report, module: str, before: list[str], after: list[str]) -> bool:
    """Whether a portion, a module that is given a fresh folder, came to its end without a complaint."""
    return not _run(report, module, before, after).returncode


def _run(report: harness.Report, module: str, before: list[str], after: list[str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="mistique-safety-") as folder:
        command = [*_BY, sys.executable, "-X", "faulthandler", "-m", module, *before, folder, *after]
        done = subprocess.run(
            command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    if done.returncode:
        complaint = f"{' '.join([*before, *after])}: ended with {done.returncode}: {done.stdout[-500:]}"
        report.notes.append(complaint + done.stderr[-1500:])
        print(complaint, file=sys.stderr)
    return done


def faults(work: str, report: harness.Report, scratch: harness.Scratch) -> None:
    """Each storage operation of a kind of work fails: undone, done, with all that follow; and every tenth look."""
    if work == "keras" and importlib.util.find_spec("keras") is None:
        report.notes.append("there is no Keras")
        return
    step, look_step = (200, 900) if report.is_quick else (1, 10)
    if report.is_quick:  # two of the four ways to fail, in this process, as most of a short one would be imports
        kinds = list(faulted.KINDS)[list(faulted.WORK).index(work) % 2 :: 2]
        found = faulted.every(work, scratch.path("faults").parent, step=step, look_step=look_step, kinds=kinds)
    else:
        done = _run(report, "tests.storage.faulted", [work], [str(step), str(look_step)])
        lines = done.stdout.splitlines()
        found = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"broken": ["it died"], "tried": 0}
    report.add("faults tried", found["tried"], unit="")
    report.add("after which something was lost, half seen or wrong", len(found["broken"]), unit="", bar=0)
    report.facts |= {**found, "every": step, "every look": look_step}


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


def orders(report: harness.Report, scratch: harness.Scratch) -> None:
    """Compactions, collections, repairs and drops in one order after the other, beside a reader."""
    n = 4 if report.is_quick else _N_ORDERS
    bad = not _portion(report, "tests.storage.maintenance", [], ["orders", str(n)])
    report.add("orders of maintenance in which a key read otherwise than it was sent", int(bad), bar=0)
    report.facts["orders"] = n


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
    **{f"faults-{work}": partial(faults, work) for work in faulted.WORK},
    "damages": damages,
    "orders": orders,
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
