"""The models that are run again: which framework does it, loaded once, and what loading took."""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from mistique.errors import EnvironmentWarning, StoreError
from mistique.planner.calibration import Calibration
from mistique.planner.measured import Took
from mistique.planner.recomputer import MAX_SET_UP, Recomputer, Trust
from mistique.schema import Intermediate, Version
from mistique.storage.artifacts import Artifacts
from mistique.storage.usage import Observation

_RECOMPUTERS = {"sklearn": "mistique.sklearn.recomputer", "keras": "mistique.keras.recomputer"}


class Models:
    """The models of a store.

    Parameters
    ----------
    artifacts : Artifacts
    trust : bool or sequence of str
        As in `mistique.open`.
    """

    def __init__(self, artifacts: Artifacts, *, trust: Trust) -> None:
        self._artifacts, self._trust = artifacts, trust
        self._running, self._loading = Lock(), Lock()
        self._loaded: dict[str, Any] = {}
        self._set_up: dict[str | None, dict[tuple[str, frozenset[str]], None]] = defaultdict(dict)
        self._can_run: dict[str, bool] = {}
        self._nbytes: dict[str, int] = {}
        self._warned: set[str] = set()

    def get(self, version: Version, *, took: Took, calibration: Calibration) -> Any:
        """The model of a version, loaded once; what that took is learned.

        Raises
        ------
        UntrustedArtifactError

        Warns
        -----
        EnvironmentWarning
            Once for each difference: a library has another version than at the capture.
        """
        if not self.is_imported(version):  # our own room on top of it takes milliseconds
            started = time.perf_counter()
            _recomputer(version)
            took.import_seconds = time.perf_counter() - started
            calibration.add(Observation("import", version.framework, (1.0,), 0.0, took.import_seconds))
        recomputer = _recomputer(version)
        digest = version.artifact or ""
        with self._loading:
            if digest not in self._loaded:
                started = time.perf_counter()
                artifact = self._artifacts.get(digest)
                self._loaded[digest] = recomputer.load(artifact, model=version.model, trust=self._trust)
                took.load_seconds = time.perf_counter() - started
                calibration.add(Observation("load", digest, (1.0,), version.load_seconds, took.load_seconds))
        self._compare(version)
        return self._loaded[digest]

    def run(
        self,
        version: Version,
        model: Any,
        *,
        sources: Mapping[str, Any],
        target: str,
        intermediates: Mapping[str, Intermediate],
    ) -> tuple[Any, Mapping[str, float], float]:
        """What the recomputer of a version's framework gives, and the seconds that it ran.

        One model runs at a time: a pass is watched by what is set on its layers, which another thread would meet.
        """
        with self._running:
            started = time.perf_counter()
            output, seconds = _recomputer(version).run(
                model,
                sources=sources,
                target=target,
                intermediates=intermediates,
                batch_rows=version.batch_rows,
                environment=version.environment,
            )
            return output, seconds, time.perf_counter() - started

    def is_loaded(self, version: Version) -> bool:
        """Whether `get` need not load it."""
        return version.artifact in self._loaded

    def nbytes(self, digest: str) -> int:
        """What a kept model takes in the store."""
        if digest not in self._nbytes:
            self._nbytes[digest] = self._artifacts.nbytes(digest)
        return self._nbytes[digest]

    def is_imported(self, version: Version) -> bool:
        """Whether the framework is in memory."""
        return version.framework in sys.modules

    def sets_up(self, version: Version) -> bool:
        """Whether the first run between some sources and a target takes longer; true of a framework not yet known."""
        return _recomputer(version).sets_up(version.environment) if self.is_imported(version) else False

    def is_set_up(self, version: Version, target: str, sources: Sequence[str]) -> bool:
        """Whether that run has been made in this process, and what it needed is still there."""
        return (target, frozenset(sources)) in self._set_up[version.artifact]

    def note_set_up(self, version: Version, target: str, sources: Sequence[str], *, is_new: bool) -> None:
        """It has been made now; `is_new`: it had to be set up, and what was set up first may have gone for it."""
        known, run = self._set_up[version.artifact], (target, frozenset(sources))
        if is_new:
            known.pop(run, None)
        known.setdefault(run)
        if len(known) > MAX_SET_UP:
            del known[next(iter(known))]

    def can_run(self, version: Version) -> bool:
        """Whether this user may run a version's model: it was kept, and signed by this user or trusted."""
        digest = version.artifact
        if digest is None or version.framework not in _RECOMPUTERS:
            return False
        if digest not in self._can_run:
            try:
                is_signed = self._artifacts.get(digest).is_signed
            except StoreError:
                is_signed = False
            self._can_run[digest] = is_signed or self._trust is True
        return self._can_run[digest]

    def changes(self, version: Version) -> list[str]:
        """Libraries that have another version here than at the capture, if the framework is in memory."""
        if not self.is_imported(version) or version.framework not in _RECOMPUTERS:
            return []
        now, then = _recomputer(version).environment(), version.environment
        return [f"{name} {then[name]} became {now[name]}" for name in now if then.get(name, now[name]) != now[name]]

    def _compare(self, version: Version) -> None:
        """Warn of libraries that have another version than at the capture, once of each."""
        new = [change for change in self.changes(version) if change not in self._warned]
        self._warned.update(new)
        if new:
            warnings.warn(
                f"since {version.model} was captured, {', '.join(new)}: run again, it may give other values than those "
                "that were captured; mistique.verify(store, key) compares them",
                EnvironmentWarning,
                stacklevel=9,
            )


def _recomputer(version: Version) -> Recomputer:
    recomputer: Recomputer = importlib.import_module(_RECOMPUTERS[version.framework]).recomputer
    return recomputer
