"""Layers whose output follows from their input by a rule that needs no model: what the rule is, and that it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from mistique.keras.forward import Call
from mistique.keras.tensors import Tensor, to_numpy
from mistique.planner.derive import derive_rows, derived_shape

if TYPE_CHECKING:
    from mistique.keras.origins import Output

Rule = Mapping[str, Any]
Shape = tuple[int, ...]

_layers = keras.layers
_MAX_POOLS = (_layers.MaxPooling1D, _layers.MaxPooling2D, _layers.MaxPooling3D)
_AVERAGE_POOLS = (_layers.AveragePooling1D, _layers.AveragePooling2D, _layers.AveragePooling3D)
_GLOBAL_MAXES = (_layers.GlobalMaxPooling1D, _layers.GlobalMaxPooling2D, _layers.GlobalMaxPooling3D)
_GLOBAL_AVERAGES = (_layers.GlobalAveragePooling1D, _layers.GlobalAveragePooling2D, _layers.GlobalAveragePooling3D)
_RESHAPES = (_layers.Flatten, _layers.Reshape)
# Active in training alone.
_IDENTITIES = (
    *(_layers.Dropout, _layers.SpatialDropout1D, _layers.SpatialDropout2D, _layers.SpatialDropout3D),
    *(_layers.GaussianNoise, _layers.GaussianDropout, _layers.AlphaDropout, _layers.ActivityRegularization),
    *(_layers.Identity, _layers.InputLayer),
)
_PROBED_ROWS, _CONFIRMED_ROWS = 2, 16


def derivation_of(layer: Any, input_shape: Shape, output_shape: Shape) -> Rule | None:
    """How the output of a layer should follow from its input, by the layer's class and settings; None: by no rule.

    Parameters
    ----------
    layer : keras.Operation
        Of these very classes: a subclass may compute anything.
    input_shape, output_shape : tuple of int
        Of a row.

    Examples
    --------
    >>> derivation_of(keras.layers.MaxPooling1D(2), (6, 3), (3, 3))
    {'op': 'max_pool', 'size': [2], 'strides': [2], 'padding': 'valid'}
    >>> derivation_of(keras.layers.Dense(3), (3,), (3,)) is None
    True
    """
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    rule: dict[str, Any]
    if type(layer) in _MAX_POOLS + _AVERAGE_POOLS:
        op = "max_pool" if type(layer) in _MAX_POOLS else "average_pool"
        size, strides = map(int, layer.pool_size), map(int, layer.strides)
        rule = {"op": op, "size": list(size), "strides": list(strides), "padding": layer.padding}
    elif type(layer) in _GLOBAL_MAXES + _GLOBAL_AVERAGES:
        op = "global_max" if type(layer) in _GLOBAL_MAXES else "global_average"
        rule = {"op": op, "keepdims": bool(layer.keepdims)}
    elif type(layer) in _RESHAPES:
        rule = {"op": "reshape"}
    elif type(layer) is _layers.Permute:
        rule = {"op": "permute", "dims": list(map(int, layer.dims))}
    elif type(layer) in _IDENTITIES:
        rule = {"op": "identity"}
    else:
        return None
    return rule if derived_shape(rule, input_shape, output_shape) == output_shape else None


def derivation_of_call(call: Call, output: Tensor, outputs: Sequence[Output]) -> Rule | None:
    """The rule of one call, if its only tensor is what one of `outputs` holds, in the type of the call's output.

    A mask is a second tensor; what was cast or changed on its way is another one.
    """
    if call.is_composite or len(call.tensors) != 1:
        return None
    (given,) = call.tensors
    is_recorded = any(earlier.tensor is given for earlier in outputs)
    if not is_recorded or given.dtype != output.dtype or given.shape[0] != output.shape[0]:
        return None
    return derivation_of(call.layer, tuple(given.shape[1:]), tuple(output.shape[1:]))


def confirmed_derivations(outputs: Sequence[Output]) -> dict[str, Rule]:
    """For each output of a batch whose rule gives what the layer gave, the rule, by the output's name.

    The call may have been another than its layer's class says: dropout with ``training=True``. So the rule is held
    against the first 16 rows, and a pool's treatment of NaN and the infinities is found out by a probe.
    """
    by_name = {output.names[0]: output for output in outputs}
    found: dict[str, Rule] = {}
    for name, output in by_name.items():
        parents = [by_name.get(parent) for parent in output.parents or ()]
        if output.derivation is None or len(parents) != 1 or parents[0] is None:
            continue
        given, gave = (to_numpy(side.tensor[:_CONFIRMED_ROWS]) for side in (parents[0], output))
        rule = _with_not_finite(output.derivation, given)
        if rule is not None and _holds(rule, given, gave):
            found[name] = rule
    return found


def _holds(rule: Rule, given: np.ndarray, gave: np.ndarray) -> bool:
    if given.dtype.kind in "OSU" or (rule["op"] not in ("identity", "reshape", "permute") and not _is_float(given)):
        return False
    # In float16 and bfloat16 the model may sum in that type: hundreds of values would leave no bound worth having.
    if rule["op"] in ("average_pool", "global_average") and given.dtype.itemsize < 4:
        return False
    derived, bound = derive_rows(rule, given, gave.shape[1:])
    if not bound:
        return np.array_equal(derived, gave, equal_nan=_is_float(gave))
    with np.errstate(invalid="ignore"):
        differences = np.abs(derived.astype(np.float64) - gave.astype(np.float64))
    is_same = (derived == gave) | (np.isnan(derived) & np.isnan(gave))
    return bool((is_same | (differences <= bound)).all())


def _is_float(values: np.ndarray) -> bool:
    return values.dtype.name in ("float16", "bfloat16", "float32", "float64")


def _with_not_finite(rule: Rule, given: np.ndarray) -> Rule | None:
    """The rule, of a pool by maximum with what it makes of NaN and the infinities; None: nothing that is known."""
    if rule["op"] not in ("max_pool", "global_max"):
        return rule
    if not _is_float(given):
        return None
    window = tuple(rule.get("size", ())), tuple(rule.get("strides", ())), rule.get("padding", "")
    treatment = _not_finite(rule["op"], *window, given.shape[1:], given.dtype)
    if treatment is None or rule["op"] == "global_max":
        return rule if treatment == "propagate" else None
    return {**rule, "not_finite": treatment}


@lru_cache(maxsize=256)
def _not_finite(op: str, size: Shape, strides: Shape, padding: str, row: Shape, dtype: np.dtype[Any]) -> str | None:
    """What a pool by maximum makes of NaN, the infinities and -0.0 in rows of that shape: kernels differ."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(_PROBED_ROWS, *row)).astype(np.float32)
    kinds = rng.integers(0, 12, values.shape)
    for kind, value in enumerate((np.nan, np.nan, np.inf, -np.inf, -np.inf, -np.inf, 0.0, -0.0)):
        values[kinds == kind] = value
    values = values.astype(dtype)
    if op == "global_max":
        gave = to_numpy(keras.ops.max(keras.ops.convert_to_tensor(values), axis=tuple(range(1, len(row)))))
        rule: dict[str, Any] = {"op": op, "keepdims": False}
    else:
        tensor = keras.ops.convert_to_tensor(values)
        gave = to_numpy(keras.ops.max_pool(tensor, size, strides, padding, "channels_last"))
        rule = {"op": op, "size": list(size), "strides": list(strides), "padding": padding}
    for treatment in ("lowest", "propagate"):
        derived, _ = derive_rows({**rule, "not_finite": treatment}, values, gave.shape[1:])
        if np.array_equal(derived, gave, equal_nan=True):
            return "propagate" if op == "global_max" else treatment
    return None
