"""Lineages of a network's outputs: equal only where the same layers, weights and rows give the same values.

Whatever is not seen in full has no lineage, and is computed each time: a layer of the user's whose code cannot be
followed, one that draws or counts in inference, one whose arguments come from nobody knows where.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import keras
import numpy as np

from mistique.keras.code_digest import UnknownCodeError, code_of, is_versioned
from mistique.keras.content import content_digest
from mistique.keras.forward import children_of
from mistique.keras.provenance import Made
from mistique.keras.tensors import to_numpy

_FORMAT = "keras-1"
# Their attributes hold what their configuration does not: tables of words, functions, foreign models.
_UNKNOWN_LAYERS = (
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup"),
    *("TextVectorization", "Hashing", "HashedCrossing", "Discretization", "Normalization", "FeatureSpace"),
    *("CategoryEncoding", "MelSpectrogram", "STFTSpectrogram", "Pipeline"),
)
# They decide nothing about the values of an inference.
_IN_NAME_ONLY = ("name", "trainable")
# What Keras itself sets on every layer, and on models for training.
_FRAMEWORK = frozenset(vars(keras.Layer(name="any"))) | {
    *("_self_name_based_restores", "_self_saveable_object_factories", "_self_unconditional_checkpoint_dependencies"),
    *("_self_unconditional_deferred_dependencies", "_self_unconditional_dependency_names", "_self_update_uid"),
    *("optimizer", "loss", "history", "stop_training", "train_function", "test_function", "predict_function"),
    *("compiled", "steps_per_execution", "auto_scale_loss", "jit_compile", "_jit_compile", "_run_eagerly"),
    *("_loss_tracker", "_compile_metrics", "_compile_loss", "_compile_config", "_eval_epoch_iterator"),
    *("_distribute_strategy", "_distribute_reduction_method", "_supports_reduce_retracing", "_supports_jit"),
}


def fingerprint(layer: Any) -> str | None:
    """Digest of what a layer or an operation computes apart from its weights; None: it is not seen in full."""
    try:
        return _digest(*_described(layer))
    except (UnknownCodeError, NotImplementedError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def is_open_code(layer: Any) -> bool:
    """A model or layer of the user's whose code decides what the layers within it are given."""
    return bool(children_of(layer)) and not is_versioned(type(layer).__module__)


def _described(layer: Any) -> list[str]:
    kind = type(layer)
    if kind.__name__ in _UNKNOWN_LAYERS or getattr(layer, "stateful", False):
        raise UnknownCodeError(kind.__name__)
    parts = [f"{kind.__module__}.{kind.__qualname__}", _config(layer)]
    if not is_versioned(kind.__module__):
        parts.append(code_of(kind))
    for name, value in sorted(vars(layer).items()):
        if name not in _FRAMEWORK or name == "call":
            parts += _attribute(name, value, is_own=is_versioned(kind.__module__))
    if isinstance(layer, keras.Layer):
        inner = layer._flatten_layers(include_self=False, recursive=False)
        for child in {id(child): child for child in (*inner, *getattr(layer, "operations", ()))}.values():
            parts += _described(child)
    return parts


def _attribute(name: str, value: Any, *, is_own: bool) -> list[str]:
    """An attribute as text: of Keras' own layers the functions alone, as the others follow from the configuration."""
    if is_own and not callable(value):
        return []
    if _is_seen_elsewhere(value):
        return []
    if callable(value) and is_versioned(getattr(value, "__module__", None) or type(value).__module__):
        return []  # its name is in the configuration
    return [name, code_of(value)]


def _is_seen_elsewhere(value: Any) -> bool:
    """Layers and weights, and lists of them."""
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(map(_is_seen_elsewhere, value))
    if isinstance(value, dict):
        return len(value) > 0 and all(map(_is_seen_elsewhere, value.values()))
    return isinstance(value, (keras.Layer, keras.Variable, keras.random.SeedGenerator, keras.Metric))


def _config(layer: Any) -> str:
    config = {name: value for name, value in layer.get_config().items() if name not in _IN_NAME_ONLY}
    return json.dumps(keras.saving.serialize_keras_object(config), sort_keys=True, default=str)


class Lineages:
    """Lineages of one network over one data set.

    Parameters
    ----------
    inputs : mapping of name to str
        Digest of the content of each input; empty: not known.
    batch_rows : int
    kind : {"graph", "eager"}
        The pass. Like the batch geometry, it decides about the last bits.
    codes : sequence of str
        Fingerprints of the models and layers of the user's within which other layers are seen.
    changed : collection of int
        Identities of the variables that inference itself changes: what depends on them is not told by weights.
    """

    def __init__(
        self,
        inputs: Mapping[str, str],
        *,
        batch_rows: int,
        kind: str,
        codes: Sequence[str],
        changed: Collection[int],
    ) -> None:
        self._inputs, self._changed = inputs, changed
        self._salt = [_FORMAT, str(batch_rows), kind, *codes, *_environment()]
        self._of_made: dict[int, str] = {}
        self._of_layer: dict[int, str] = {}

    def of(self, made: Made | None) -> str:
        """Of what came to be so; empty: not known."""
        if made is None:
            return ""
        if id(made) not in self._of_made:
            self._of_made[id(made)] = self._compute(made)
        return self._of_made[id(made)]

    def of_content(self, digest: str) -> str:
        """Of values that are given: an input or a target."""
        return _digest(_FORMAT, "content", digest) if digest else ""

    def _compute(self, made: Made) -> str:
        if made.layer is None and not made.arguments:
            return self.of_content(self._inputs.get(made.leaf, ""))
        parts = [*self._salt, made.leaf]
        if made.layer is not None:
            parts.append(self._layer(made.layer))
        for place, value in made.arguments:
            parts += [place, self.of(value) if isinstance(value, Made) else f"{type(value).__name__} {value!r}"]
            if not parts[-1]:
                return ""
        return "" if made.layer is not None and not self._layer(made.layer) else _digest(*parts)

    def _layer(self, layer: Any) -> str:
        if id(layer) not in self._of_layer:
            self._of_layer[id(layer)] = self._digest_of_layer(layer)
        return self._of_layer[id(layer)]

    def _digest_of_layer(self, layer: Any) -> str:
        described = fingerprint(layer)
        if described is None or any(id(variable) in self._changed for variable in getattr(layer, "variables", ())):
            return ""
        # Of moving averages too; not of seeds, which inference does not draw from.
        return _digest(described, *map(content_digest, (to_numpy(w.value) for w in getattr(layer, "weights", ()))))


def _digest(*parts: str) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{len(part)} {part}".encode())
    return digest.hexdigest()


def _environment() -> list[str]:
    """What decides about the last bits beside the network: libraries, the machine, its threads."""
    backend = keras.backend.backend()
    found = [keras.__version__, backend, np.__version__, platform.machine(), str(os.cpu_count())]
    if backend == "tensorflow":
        import tensorflow as tf

        threads = tf.config.threading.get_intra_op_parallelism_threads()
        found += [tf.__version__, str(threads), os.environ.get("TF_ENABLE_ONEDNN_OPTS", "")]
    return found
