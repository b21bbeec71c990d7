"""The Recomputer of Keras: a kept network run again, from its input or from a layer, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mistique.errors import MistiqueError, ModelMismatchError
from mistique.keras.artifact import load_artifact
from mistique.keras.capture import environment
from mistique.keras.inputs import check_inputs, described, said
from mistique.keras.replay import Route, replay_batch, structure_of
from mistique.keras.replay_graph import replay_graph
from mistique.keras.tensors import to_numpy
from mistique.keras.tracing import GRAPH, PASS, can_trace
from mistique.keras.unchanged import unchanged_state
from mistique.planner.recomputer import Recomputer, Trust
from mistique.schema import INPUT, Intermediate
from mistique.storage.artifacts import Artifact

# What layers may raise of values or of code that are not those of the capture.
_RAISED = (ValueError, TypeError, NameError, AttributeError, LookupError, RuntimeError)


class KerasRecomputer:
    """Fills `mistique.planner.recomputer.Recomputer`."""

    def load(self, artifact: Artifact, *, model: str, trust: Trust) -> keras.Model:
        """The network that an artifact holds, not compiled.

        Raises
        ------
        UntrustedArtifactError
            This user did not sign it and `trust` does not cover its Lambda layers or classes from outside
            Keras. That is read from the file's config, before Keras parses anything.
        ModelMismatchError
            It is no ``.keras`` file, or the classes of its layers cannot be found.
        """
        return load_artifact(artifact, model=model, trust=trust)

    def environment(self) -> Mapping[str, str]:
        """Versions of Keras and its backend."""
        return environment()

    def sets_up(self, environment: Mapping[str, str]) -> bool:
        """A capture that ran as a graph is traced again for each target."""
        return environment.get(PASS) == GRAPH

    def run(
        self,
        model: keras.Model,
        *,
        sources: Mapping[str, Any],
        target: str,
        intermediates: Mapping[str, Intermediate],
        batch_rows: int,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[np.ndarray, Mapping[str, float]]:
        """Output of `target` for the rows of `sources`, and the seconds of each layer that ran.

        Layers that `target` does not need are not computed, and the pass ends there. Bit-equal to the capture
        when the rows begin and end where its batches do: ``tests/keras/test_recompute.py``. Whole batches of a
        capture that ran as a graph, which its environment says, run as a graph again.

        Raises
        ------
        ModelMismatchError
            The model and the values do not fit.
        """
        arrays = {name: np.asarray(values) for name, values in sources.items()}
        n_rows = len(next(iter(arrays.values())))
        given = {name: array for name, array in arrays.items() if name.split("/")[0] == INPUT}
        if given and len(given) == sum(i.role == "input" for i in intermediates.values()):
            check_inputs(model, structure_of(INPUT, given), model=model.name)
        route = Route(target, frozenset(arrays), intermediates)
        seconds: dict[str, float] = {}
        values = []
        step = batch_rows or n_rows
        for start in range(0, n_rows, step):
            batch = {name: array[start : start + step] for name, array in arrays.items()}
            is_whole = min(step, n_rows - start) == batch_rows
            try:
                if is_whole and (environment or {}).get(PASS) == GRAPH and can_trace(model, batch):
                    values.append(replay_graph(model, route, batch, seconds=seconds))
                    continue
                with unchanged_state(model):
                    values.append(np.array(to_numpy(replay_batch(model, route, batch, seconds=seconds))))
            except MistiqueError:
                raise
            except _RAISED as error:
                got = described(list(batch.values()))
                hint = f"Capture the model again: {said(error)}"
                raise ModelMismatchError(
                    model=model.name, expected="values that its layers can compute", got=got, hint=hint
                ) from error
        return np.concatenate(values), seconds


recomputer: Recomputer = KerasRecomputer()
