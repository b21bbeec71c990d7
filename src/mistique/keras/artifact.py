"""A network as bytes: the ``.keras`` file of its layers and weights, and what loading one would run."""

from __future__ import annotations

import builtins
import dis
import io
import json
import re
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import keras

from mistique.errors import ModelMismatchError, UntrustedArtifactError
from mistique.keras.code_digest import is_versioned
from mistique.keras.lineage import is_open_code
from mistique.storage.artifacts import Artifact

KIND = "keras"
# What metadata.json holds beside Keras' own.
_NAMES = "mistique_names"
# Recomputing needs neither; the optimizer is twice the size of the weights, and a custom loss may not be
# savable.
_TRAINING = ("optimizer", "_loss_tracker", "_compile_metrics", "_compile_loss")

# Modules of Keras whose classes only compute. Not `keras.utils` or `keras.config`, by which files that passed
# `safe_mode` have fetched files and switched it off (CVE-2025-8747, CVE-2025-9906).
_COMPUTING = (
    *("keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints"),
    *("keras.dtype_policies", "keras.random", "keras.src.models.functional", "keras.src.models.sequential"),
)
_OPERATIONS = "keras.src.ops."
_IN_KERAS = (
    *("Model", "Functional", "Sequential", "SeedGenerator"),
    *("DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy", "QuantizedDTypePolicy"),
)
# Layers of Keras that run what their file says.
_RUNNING = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
_PLAIN = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
# The last: packed in a way that is not known, or JSON that is nested without end.
_UNREADABLE = (
    *(KeyError, ValueError, TypeError, AttributeError, EOFError),
    *(zlib.error, zipfile.BadZipFile, RuntimeError),
)


def artifact_of(model: keras.Model) -> Artifact:
    """A network without its optimizer, as an artifact; equal layers and weights give equal bytes.

    Raises
    ------
    ValueError, TypeError, NotImplementedError, AttributeError, OSError
        Whatever Keras or the model's own `get_config` raises for a model that cannot be saved, and what would be
        saved without what it needs: a lambda that names a module, a class that is nowhere to be found.
    """
    with tempfile.TemporaryDirectory(prefix="mistique-") as folder, _without_training(model):
        path = Path(folder) / "model.keras"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save(path)
        _check_classes(model)
        _check_lambdas(model)
        payload = io.BytesIO()
        with zipfile.ZipFile(path) as saved, zipfile.ZipFile(payload, "w") as kept:
            for name in sorted(saved.namelist()):
                # With the date of saving in it no two files would be equal, and each capture would store one
                # more.
                kept.writestr(zipfile.ZipInfo(name), _undated(name, saved.read(name), names=_names_of(model)))
    return Artifact(KIND, payload.getvalue())


def load_artifact(artifact: Artifact, *, model: str, trust: bool | Collection[str]) -> keras.Model:
    """The network that an artifact holds.

    Raises
    ------
    UntrustedArtifactError
        This user did not sign it, and loading it would run code that `trust` does not cover.
    ModelMismatchError
        It is no ``.keras`` file, or the classes of its layers cannot be found.
    """
    if artifact.kind != KIND or not zipfile.is_zipfile(io.BytesIO(artifact.payload)):
        hint = "Capture the model again"
        raise ModelMismatchError(model=model, expected="a .keras file", got=f"kind {artifact.kind!r}", hint=hint)
    is_trusted = artifact.is_signed or trust is True
    if not is_trusted:
        covered = () if isinstance(trust, bool) else tuple(trust)
        runs = [name for name in code_in(artifact.payload) if name not in covered]
        if runs:
            raise UntrustedArtifactError(model=model, kind=KIND, types=runs)
        is_trusted = bool(covered)
    with tempfile.TemporaryDirectory(prefix="mistique-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(artifact.payload)
        try:
            loaded = keras.models.load_model(path, compile=False, safe_mode=not is_trusted)
        except (TypeError, ValueError, ImportError, AttributeError, KeyError) as error:
            hint = "Import the module that defines its layers and losses before asking"
            raise ModelMismatchError(
                model=model, expected="layers that can be loaded", got=_said(error), hint=hint
            ) from error
    _restore_names(loaded, artifact.payload)
    return loaded


def _said(error: Exception) -> str:
    """What loading failed of: the missing class, which Keras may say at the end of a page, or its first line."""
    missing = re.search(r"Could not locate (class|function) '([^']*)'", str(error))
    if missing:
        return f"no {missing[1]} {missing[2]!r} in the module that it was defined in, nor registered with Keras"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def code_in(payload: bytes) -> list[str]:
    """What loading a ``.keras`` file would run beyond Keras' own computing classes, from its config alone.

    Nothing in the file is parsed by Keras for that.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as file:
            # Of several members of one name Keras reads the last; a file that has them was made to mislead
            # somebody.
            is_plain = len(file.namelist()) == len(set(file.namelist()))
            config = json.loads(file.read("config.json"))
        config.pop("compile_config", None)
        runs = {} if is_plain else {"a file with two members of one name": None}
        runs.update(dict.fromkeys(_code_in_config(config)))
    except _UNREADABLE:
        return ["a file without a readable config.json"]
    return list(runs)


def _code_in_config(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield from _code_in_object(config)
        # Keras calls it whatever the config says; a path in place of the words makes it read that file.
        if isinstance(config.get("vocabulary"), str):
            yield f"vocabulary file {config['vocabulary']}"
        for value in config.values():
            yield from _code_in_config(value)
    elif isinstance(config, list):
        for value in config:
            yield from _code_in_config(value)


def _code_in_object(config: dict[str, Any]) -> Iterator[str]:
    name, module, registered = config["class_name"], config.get("module"), config.get("registered_name")
    if name in _PLAIN:
        return
    if name == "function":
        name = str(config.get("config"))
        is_own = module in ("builtins", "keras.activations") and _is_activation(name)
    elif module == "keras":
        is_own = name in _IN_KERAS
    else:
        is_own = module in _COMPUTING or (isinstance(module, str) and module.startswith(_OPERATIONS))
    is_registered = registered is not None and registered not in (name, config["class_name"])
    if is_registered or not is_own or name in _RUNNING:
        yield str(registered) if is_registered else f"{module}.{name}" if module else name


def _is_activation(name: str) -> bool:
    return not name.startswith("_") and callable(getattr(keras.activations, name, None))


def _check_classes(model: keras.Model) -> None:
    """Of a class Keras keeps the name alone: one that was defined in a function is not found under it."""
    for kind in dict.fromkeys(type(layer) for layer in model._flatten_layers()):
        is_in_module = hasattr(sys.modules.get(kind.__module__), kind.__name__)
        registered = keras.saving.get_registered_object(keras.saving.get_registered_name(kind))
        if not is_in_module and registered is None and not is_versioned(kind.__module__):
            raise ValueError(
                f"class {kind.__name__!r} is not found in its module by that name;"
                " define it there, or register it by keras.saving.register_keras_serializable()"
            )


def _check_lambdas(model: keras.Model) -> None:
    """Of a lambda Keras keeps the code alone: run again, it finds no module or function of where it was written."""
    for layer in model._flatten_layers():
        if not isinstance(layer, keras.layers.Lambda):
            continue
        for function in (layer.function, layer._output_shape, layer.mask):
            if getattr(function, "__name__", None) == "<lambda>":
                missing = [name for name in _globals_of(function.__code__) if not hasattr(builtins, name)]
                if missing:
                    raise ValueError(
                        f"the lambda of layer {layer.name!r} names {missing[0]!r}, which is not saved with it;"
                        " a registered function can be saved, and so can a layer of keras.layers or keras.ops"
                    )


def _globals_of(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


def _names_of(model: keras.Model) -> list[list[str]]:
    """Class and name of each layer of a model in which code of the user's makes layers; none of any other.

    Such code makes them anew when the model is loaded, under names that go on counting: ``dense_7`` for ``dense_3``.
    """
    layers = list(model._flatten_layers())
    return [[type(layer).__name__, layer.name] for layer in layers] if any(map(is_open_code, layers)) else []


def _restore_names(model: keras.Model, payload: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as file:
            kinds, names = zip(*json.loads(file.read("metadata.json"))[_NAMES], strict=True)
    except _UNREADABLE:
        return
    layers = list(model._flatten_layers())
    if [type(layer).__name__ for layer in layers] == list(kinds):
        for layer, name in zip(layers, names, strict=True):
            layer.name = str(name)


def _undated(name: str, content: bytes, *, names: list[list[str]]) -> bytes:
    if name not in ("config.json", "metadata.json"):
        return content
    described = json.loads(content)
    described.pop("compile_config", None)
    described.pop("date_saved", None)
    if name == "metadata.json" and names:
        described[_NAMES] = names
    return json.dumps(described).encode()


@contextmanager
def _without_training(model: keras.Model) -> Iterator[None]:
    """Hide a model's optimizer, loss and metrics; not through setattr, which Keras tracks."""
    hidden = {name: model.__dict__.pop(name) for name in _TRAINING if name in model.__dict__}
    try:
        yield
    finally:
        model.__dict__.update(hidden)
