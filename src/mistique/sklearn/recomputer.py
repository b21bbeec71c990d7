"""Running a kept pipeline again: fills the seam `mistique.planner.recomputer.Recomputer`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import sklearn

from mistique.errors import ModelMismatchError, UntrustedArtifactError
from mistique.planner.recomputer import Recomputer, Trust
from mistique.schema import INPUT, Intermediate
from mistique.sklearn.artifact import load_cloudpickle, load_skops, untrusted_types
from mistique.sklearn.stage_records import environment
from mistique.sklearn.stages import Stage, stages_of
from mistique.sklearn.undisturbed import Attempt, attempt, copy_rows
from mistique.storage.artifacts import Artifact


class SklearnRecomputer:
    """Loads pipelines, and runs the steps between a stored ancestor and what is wanted."""

    def load(self, artifact: Artifact, *, model: str, trust: Trust) -> Any:
        """The pipeline that an artifact holds.

        Raises
        ------
        UntrustedArtifactError
            This user did not sign it, and `trust` is not True; for skops, nor a list of all the types named.
        ModelMismatchError
            It cannot be loaded here: a package is missing or too different.
        """
        loaders = {"skops": load_skops, "cloudpickle": load_cloudpickle}
        if artifact.kind not in loaders:
            raise ModelMismatchError(
                model=model,
                expected=f"an artifact of kind {' or '.join(loaders)}",
                got=artifact.kind,
                hint="It was written by a newer mistique: pip install -U mistique",
            )
        if not artifact.is_signed and trust is not True:
            self._check_trust(artifact, model, trust)
        loaded: Attempt[Any] = attempt(lambda: loaders[artifact.kind](artifact.payload))
        if loaded.error is not None:
            raise ModelMismatchError(
                model=model,
                expected="the packages that it was captured with",
                got=loaded.why,
                hint="Install them; what is stored can still be read",
            ) from loaded.error
        return loaded.value

    def environment(self) -> Mapping[str, str]:
        """Versions of Python, scikit-learn and NumPy."""
        return environment()

    def sets_up(self, environment: Mapping[str, str]) -> bool:
        """Never: a pipeline runs as it is loaded."""
        return False

    def run(
        self,
        model: Any,
        *,
        sources: Mapping[str, Any],
        target: str,
        intermediates: Mapping[str, Intermediate],
        batch_rows: int,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[Any, Mapping[str, float]]:
        """Output of `target` for the rows of the one source, and the seconds of each stage that ran.

        Raises
        ------
        ModelMismatchError
            The model has no such stage after the source, or it does not take the values given.

        Notes
        -----
        All rows go through a step at once, as they did at capture; `batch_rows` has no meaning here. The
        values given are copied once: a step with ``copy=False`` changes its input in place.
        """
        steps = _steps_between(model, sources, target)
        (value,) = sources.values()
        value = copy_rows(value)
        seconds: dict[str, float] = {}
        with sklearn.config_context(transform_output=_output_container(intermediates)):
            for stage in steps:
                started = time.perf_counter()
                outcome = attempt(partial(stage.run, value))
                seconds[stage.name] = time.perf_counter() - started
                if outcome.error is not None:
                    raise ModelMismatchError(
                        model=f"stage {stage.name!r}",
                        expected=f"values that {stage.detail} takes",
                        got=outcome.why,
                        hint="Give rows like those that were captured",
                    ) from outcome.error
                value = outcome.value
        return value, seconds

    def _check_trust(self, artifact: Artifact, model: str, trust: Trust) -> None:
        # A pickle names no types that could be checked one by one, so a list never covers it.
        types: list[str] | None = None
        if artifact.kind == "skops":
            types = attempt(lambda: untrusted_types(artifact.payload)).value
        if types is None:
            raise UntrustedArtifactError(model=model, kind=artifact.kind, types=())
        missing = set(types) - set(() if isinstance(trust, bool) else trust)
        if missing:
            raise UntrustedArtifactError(model=model, kind=artifact.kind, types=missing)


def _steps_between(model: Any, sources: Mapping[str, Any], target: str) -> tuple[Stage, ...]:
    """The stages after the source, up to and with the target."""
    stages = stages_of(model)
    names = [INPUT, *(stage.name for stage in stages)]
    if target not in names[1:]:
        raise ModelMismatchError(
            model="in the store",
            expected=f"one of its stages, {', '.join(names[1:])}",
            got=target,
            hint="Only stages and the prediction can be recomputed",
        )
    before = [name for name in sources if name in names[: names.index(target)]]
    if len(before) != 1 or len(sources) != 1:
        raise ModelMismatchError(
            model="in the store",
            expected=f"values of one of {', '.join(names[: names.index(target)])}",
            got=", ".join(sources) or "nothing",
            hint="A pipeline is a chain: one ancestor is enough",
        )
    return stages[names.index(before[0]) : names.index(target)]


def _output_container(intermediates: Mapping[str, Intermediate]) -> str:
    """pandas, when every transformer gave frames at capture: sklearn.set_config may have asked for it globally."""
    transformed = {i.container for i in intermediates.values() if i.role == "stage" and i.detail != "passthrough"}
    return "pandas" if transformed == {"frame"} else "default"


recomputer: Recomputer = SklearnRecomputer()
