"""What every benchmark does alike: options, interleaved timing, the JSON file, one printed line a figure."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

# Before TensorFlow is imported by anybody: without what it says about the machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

_HERE = Path(__file__).parent
_PACKAGES = (
    *("mistique", "numpy", "tiledb", "numba", "scikit-learn", "pandas", "pyarrow", "keras", "tensorflow"),
    *("skops", "cloudpickle", "lightgbm", "xgboost", "h5py", "zarr", "joblib"),
)


class Timings:
    """Seconds of some roads to the same end, one measurement of each a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, road: str, run: Callable[[], Any]) -> Any:
        """What `run` gives; its seconds are noted under `road`."""
        gc.collect()
        started = perf_counter()
        result = run()
        self.seconds[road].append(perf_counter() - started)
        return result

    def median(self, road: str) -> float:
        """Median seconds of a road."""
        return median(self.seconds[road])

    def ratios(self, road: str, other: str) -> list[float]:
        """Seconds of `road` over those of `other`, round by round."""
        return [a / b for a, b in zip(self.seconds[road], self.seconds[other], strict=True)]

    def medians(self) -> dict[str, float]:
        """Median seconds by road."""
        return {road: round(self.median(road), 6) for road in self.seconds}


@dataclass(frozen=True)
class Road:
    """Something to be timed: `run` gets what `before` gave; `before` and `after` are not timed."""

    run: Callable[[Any], Any]
    before: Callable[[], Any] = lambda: None
    after: Callable[[Any], None] = lambda prepared: None


def interleaved(roads: Mapping[str, Road], *, n_rounds: int, n_warm_up: int = 1) -> Timings:
    """Every road once a round, in turn forwards and backwards, so that a drift of the machine meets them all."""
    timings, warm_up = Timings(), Timings()
    for number in range(-n_warm_up, n_rounds):
        order = list(roads) if number % 2 == 0 else list(reversed(roads))
        for name in order:
            prepared = roads[name].before()
            (warm_up if number < 0 else timings).time(name, lambda n=name, p=prepared: roads[n].run(p))
            roads[name].after(prepared)
    return timings


class Scratch:
    """A folder that goes away, with a fresh path for each that asks."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mistique-bench-"))
        self._n_paths = 0

    def path(self, name: str) -> Path:
        """A path that nothing has yet."""
        self._n_paths += 1
        folder = self._folder / str(self._n_paths)
        folder.mkdir()
        return folder / name

    @staticmethod
    def remove(path: Path) -> None:
        """Take away what was written at a path."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def nbytes_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


@dataclass
class Report:
    """What a benchmark found.

    Parameters
    ----------
    name : str
    is_quick : bool
        Of a small version: a bar that is missed is shown, but fails nothing, as the bars are for the full size.
    part : str, optional
        Of a benchmark that can be run in parts, each of which replaces its own results only.
    """

    name: str
    is_quick: bool
    part: str = ""
    figures: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    load_average_before: float = field(default_factory=lambda: os.getloadavg()[0])
    started: float = field(default_factory=perf_counter)

    def add(
        self,
        what: str,
        values: float | Sequence[float],
        *,
        unit: str = "x",
        bar: float | None = None,
        is_high_better: bool = False,
    ) -> None:
        """Take a figure: one value, or those of all rounds, whose median counts. Without a bar it is reported only."""
        listed = [float(v) for v in (values if isinstance(values, Sequence) else [values])]
        value = median(listed)
        if bar is None:
            verdict = "reported"
        else:
            verdict = "holds" if (value >= bar if is_high_better else value <= bar) else "short"
        self.figures.append(
            {
                "what": what,
                "value": float(f"{value:.4g}"),
                "unit": unit,
                "low": float(f"{min(listed):.4g}"),
                "high": float(f"{max(listed):.4g}"),
                "n_rounds": len(listed),
                "better": "high" if is_high_better else "low",
                "bar": bar,
                "verdict": verdict,
            }
        )
        shown = "-" if bar is None else f"{bar:.3g} {unit}"
        title = f"{self.name} {self.part}".rstrip()
        print(f"{title}: {what:<74} {value:>8.3g} {unit:<5} {shown:>7}  {verdict}", flush=True)

    def write(self) -> int:
        """Write the JSON file; the exit code."""
        found = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _git("rev-parse", "HEAD"),
            "commit_is_all": not _git("status", "--porcelain", "--", "src", "bench/*.py"),
            "machine": {**_machine(), "load_average_before": round(self.load_average_before, 2)},
            "versions": {"python": platform.python_version(), **_versions()},
            "seconds": round(perf_counter() - self.started, 1),
            "figures": self.figures,
            "facts": self.facts,
            "notes": self.notes,
        }
        path = _HERE / "results" / f"{self.name}{'.quick' if self.is_quick else ''}.json"
        path.parent.mkdir(exist_ok=True)
        content: dict[str, Any] = {"benchmark": self.name, "quick": self.is_quick}
        if self.part:
            before = json.loads(path.read_text()).get("parts", {}) if path.exists() else {}
            content["parts"] = {**before, self.part: found}
        else:
            content |= found
        path.write_text(json.dumps(content, indent=1) + "\n")
        return int(not self.is_quick and any(figure["verdict"] == "short" for figure in self.figures))


Measure = Callable[[Report, Scratch], None]


def run(name: str, description: str | None, measure: Measure | Mapping[str, Measure]) -> int:
    """The command line of a benchmark; its exit code is 1 if a bar is short.

    Parameters
    ----------
    name : str
    description : str
    measure : callable, or mapping of str to callable
        A mapping: parts that can be chosen on the command line, those that begin alike as ``kills`` by that. Each is
        written when it is done.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help="a small version, below a minute")
    parts = {"": measure} if callable(measure) else measure
    if not callable(measure):
        parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; by default all")
    arguments = parser.parse_args()
    chosen = []
    for name_of_parts in getattr(arguments, "parts", None) or list(parts):
        found = [part for part in parts if part == name_of_parts or part.startswith(f"{name_of_parts}-")]
        if not found:
            parser.error(f"no part {name_of_parts}; there are {', '.join(parts)}")
        chosen += found
    exit_code = 0
    for part in chosen:
        report = Report(name, arguments.quick, part)
        with Scratch() as scratch:
            parts[part](report, scratch)
        exit_code |= report.write()
    return exit_code


def in_subprocess(module: str, *arguments: str) -> Any:
    """What another Python, running `module` with these arguments, prints as JSON in its last line."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=_HERE.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_nbytes() -> int:
    """The most memory that this process has held.

    Not `getrusage` where Linux tells better: its ``ru_maxrss`` survives exec, so a child begins with what its
    parent held. ``VmHWM`` belongs to the new program alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Let `peak_nbytes` begin anew from what is held now, where Linux allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = found[0] if found else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": round(memory / 1e9, 1), "system": platform.system()}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_HERE.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
