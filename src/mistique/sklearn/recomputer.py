"""Running a kept pipeline again: fills the seam `mistique.planner.recomputer.Recomputer`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import sklearn

from mistique.errors import ModelMismatchError, UntrustedArtifactError
from mistique.planner.recomputer import Recomputer, Trust
from mistique.schema import Intermediate
from mistique.sklearn.artifact import load_cloudpickle, load_skops, untrusted_types
from mistique.sklearn.settings import environment
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
        stages = stages_of(model)
        steps = _steps_between(stages, sources, target)
        (value,) = sources.values()
        value = copy_rows(value)
        seconds: dict[str, float] = {}
        with sklearn.config_context(transform_output=_output_container(stages, intermediates)):
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


def _steps_between(stages: Sequence[Stage], sources: Mapping[str, Any], target: str) -> list[Stage]:
    """The stages after the source, up to and with the target."""
    by_name = {stage.name: stage for stage in stages}
    if target not in by_name:
        raise ModelMismatchError(
            model="in the store",
            expected=f"one of its stages, {', '.join(by_name)}",
            got=target,
            hint="Only stages and the prediction can be recomputed",
        )
    steps = [by_name[target]]
    while steps[0].parent in by_name and steps[0].parent not in sources:
        steps.insert(0, by_name[steps[0].parent])
    if len(sources) != 1 or steps[0].parent not in sources:
        raise ModelMismatchError(
            model="in the store",
            expected=f"values of one of {', '.join(step.parent for step in steps)}",
            got=", ".join(sources) or "nothing",
            hint="A stage has one way back to the input: one ancestor is enough",
        )
    return steps


def _output_container(stages: Sequence[Stage], intermediates: Mapping[str, Intermediate]) -> str:
    """The frames that every transformer gave at capture: sklearn.set_config may have asked for them globally."""
    names = [stage.name for stage in stages if stage.method == "transform" and stage.name in intermediates]
    transformed = {intermediates[name].container for name in names}
    return "pandas" if transformed == {"frame"} else "polars" if transformed == {"polars"} else "default"


recomputer: Recomputer = SklearnRecomputer()
