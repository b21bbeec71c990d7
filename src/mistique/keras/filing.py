"""Filing what a network gives: what the store holds under its lineage is recorded, the rest is run and appended."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import CaptureWarning
from mistique.keras.artifact import artifact_of
from mistique.keras.batches import Batch, Batches
from mistique.keras.gradients import GRADIENT, batch_gradients, gradient_name
from mistique.keras.inputs import said
from mistique.keras.network import Network
from mistique.keras.origins import Output
from mistique.keras.recorder import MASK
from mistique.keras.tensors import named_leaves
from mistique.schema import INPUT, TARGET

if TYPE_CHECKING:
    from mistique.ingest.capture import Capture

# What Keras and a model's own `get_config` raise for a model that cannot be saved.
_NOT_SAVABLE = (
    *(ValueError, TypeError, NotImplementedError, AttributeError, KeyError),
    *(RuntimeError, ImportError, OSError),
)


class Filing:
    """Files one capture of a prepared network.

    Parameters
    ----------
    network : Network
    taken : Capture
    keep : bool or "auto"
        False: layers are declared only, if they can be recomputed. "auto": those that pay are stored.
    has_gradients : bool
        Also file the gradient of each row's loss with respect to each output.
    """

    def __init__(self, network: Network, taken: Capture, *, keep: bool | str, has_gradients: bool = False) -> None:
        self._network, self._taken, self._keep = network, taken, keep
        self._has_gradients = has_gradients
        self._names = [output.names[0] for output in network.outputs]
        self._n_rows = 0
        self._recompute: dict[str, Any] = {"recompute_difference": 0.0, "recompute_note": ""}

    def take_all(self, batches: Batches, first: Batch, rest: Iterator[Batch]) -> None:
        """Run the batches, `first` and `rest`, as far as the store does not hold what they give."""
        network, taken = self._network, self._taken
        self._begin(batches.row_labels)
        content = batches.content()
        lineages = network.lineages(content)
        new = [output for output in network.outputs if not self._is_reused(output, lineages.of(output.made))]
        for output in new:
            self._declare(output, lineages.of(output.made), batches)
        named = [] if first.targets is None else named_leaves(TARGET, first.targets)
        targets = {name: lineages.of_content(content.get(name, "")) for name, _ in named}
        targets = {name: lineage for name, lineage in targets.items() if not self._is_held_target(name, lineage)}
        for name, leaf in named:
            if name in targets and _is_text(leaf):
                self._add_text(name, batches, role=TARGET, parents=(), lineage=targets.pop(name))
        new = [output for output in new if not _is_text(output.tensor)]
        if new or targets or batches.must_be_read or self._has_gradients:
            for batch in chain([first], rest):
                self._append(batch, new, targets)
        if not content:
            # A data set, read for the first time: only now is it known what it holds.
            content = batches.content()
            lineages = network.lineages(content)
            for output in new:
                taken.annotate(output.names[0], lineage=lineages.of(output.made))
            for name in targets:
                taken.annotate(name, lineage=lineages.of_content(content.get(name, "")))
        network.measure()
        for name in (output.names[0] for output in new if output.role != "input"):
            taken.annotate(name, forward_seconds_per_row=network.seconds_per_row.get(name, 0.0))

    def _begin(self, row_labels: Any) -> None:
        if self._network.without_rows:
            warnings.warn(
                f"not stored, as it has no row for each row of input: {', '.join(self._network.without_rows)}",
                CaptureWarning,
                stacklevel=6,
            )
        self._taken.set_labels(row_labels)
        if self._network.inference.drew_unseeded:
            self._cannot_recompute("a layer draws random numbers without a seed of its own")
        elif self._network.inference.moved_states:
            self._cannot_recompute("a layer goes on with states, as a stateful RNN does, that are not saved with it")
        started = perf_counter()
        try:
            artifact = artifact_of(self._network.net)
        except _NOT_SAVABLE as error:
            note = f"the model cannot be saved: {said(error)}"
            self._taken.skip_model(note)
            self._cannot_recompute(note)
        else:
            # Loading is not measured here: it would draw seeds and take names in the middle of a training. It
            # makes the same layers and moves the same bytes as saving, and the first load corrects the
            # figure. What is recomputed as a graph is traced first.
            seconds = perf_counter() - started + self._network.trace_seconds
            self._taken.keep_model(artifact, load_seconds=seconds)

    def _cannot_recompute(self, note: str) -> None:
        self._keep = True
        self._recompute = {"recompute_difference": None, "recompute_note": note}

    def _is_reused(self, output: Output, lineage: str) -> bool:
        if not lineage or (output.role == "stage" and not self._keep):
            return False
        return self._taken.reuse(output.names[0], lineage=lineage, **self._facts(output))

    def _is_held_target(self, name: str, lineage: str) -> bool:
        return bool(lineage) and self._taken.reuse(name, lineage=lineage, role=TARGET, parents=())

    def _declare(self, output: Output, lineage: str, batches: Batches) -> None:
        """With no rows yet, so that intermediates come in the order of the network whatever is run first."""
        seconds = self._network.seconds_per_row.get(output.names[0], 0.0)  # of a sample, so far
        facts = {**self._facts(output), "lineage": lineage, "keep": self._keep, "forward_seconds_per_row": seconds}
        if output.role == "input" and _is_text(output.tensor):
            self._add_text(output.names[0], batches, **facts)
            return
        self._taken.append(output.names[0], output.tensor, **facts)

    def _add_text(self, name: str, batches: Batches, **facts: Any) -> None:
        """Text whole, as a table: its columns are as wide as the longest of all rows."""
        leaves = [_leaves(batch)[name] for batch in batches]
        self._taken.add(name, np.concatenate(leaves), **facts)

    def _append(self, batch: Batch, new: list[Output], targets: Mapping[str, str]) -> None:
        inputs = dict(named_leaves(INPUT, batch.inputs))
        computed = [o.names[0] for o in new if o.role != "input" and self._taken.takes(o.names[0])]
        values = self._network.run(batch, computed) if computed else {}
        self._n_rows += batch.n_rows
        for output in new:
            name = output.names[0]
            if not self._taken.takes(name):
                n_bytes = output.tensor.dtype.itemsize * int(np.prod(output.tensor.shape[1:])) * self._n_rows
                self._taken.annotate(name, n_rows=self._n_rows, raw_nbytes=n_bytes)
                continue
            given = inputs.get(name) if output.role == "input" else values.get(name)
            # A layer that some batches do not call has too few rows, which the commit says.
            if given is not None:
                self._taken.append(name, given)
        if self._has_gradients:
            self._append_gradients(batch)
        for name, given in named_leaves(TARGET, batch.targets) if targets else []:
            if name in targets:
                self._taken.append(name, given, role=TARGET, parents=(), lineage=targets[name])

    def _append_gradients(self, batch: Batch) -> None:
        facts = {"role": GRADIENT, "parents": (), "recompute_difference": None}
        for name, given in batch_gradients(self._network.net, batch, self._names).items():
            self._taken.append(gradient_name(name), given, recompute_note="a gradient is always stored", **facts)

    def _facts(self, output: Output) -> dict[str, Any]:
        parents = None
        if output.parents is not None:
            parents = tuple(sorted(output.parents, key=self._names.index))
        name = output.names[0]
        return {
            "role": output.role,
            "parents": parents,
            "detail": output.detail,
            "derivation": output.derivation,
            "aliases": tuple(dict.fromkeys(alias for alias in output.names if alias != name)),
            **self._recomputed(output.role),
        }

    def _recomputed(self, role: str) -> dict[str, Any]:
        if role == MASK:
            return {"recompute_difference": None, "recompute_note": "a mask is always stored"}
        return self._recompute if role != "input" else {}


def _leaves(batch: Batch) -> dict[str, Any]:
    return dict([*named_leaves(INPUT, batch.inputs), *named_leaves(TARGET, batch.targets)])


def _is_text(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind == "U"
