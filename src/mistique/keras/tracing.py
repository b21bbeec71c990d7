"""A pass traced once by TensorFlow, to be run batch by batch as one graph: at the speed of the model itself.

Run layer by layer, a network takes up to twice the time of its compiled ``predict`` (see ADR 10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from mistique.keras.tensors import Tensor, as_tensors

# A version's environment says under `PASS` how whole batches ran; the rest always runs eagerly.
PASS, GRAPH, EAGER = "keras_pass", "graph", "eager"
# An operation that runs a function of its own, which may write variables.
_CALLING = ("PartitionedCall", "StatefulPartitionedCall", "If", "While", "StatelessIf", "StatelessWhile", "Case")


def can_trace(net: keras.Model, inputs: Any) -> bool:
    """TensorFlow runs the network, its user did not ask for `run_eagerly`, and its inputs are numbers."""
    leaves = keras.tree.flatten(inputs)
    is_numeric = all(leaf.dtype.kind not in "OSUMm" for leaf in leaves)
    return keras.backend.backend() == "tensorflow" and is_numeric and not getattr(net, "run_eagerly", False)


def isolate(tensor: Tensor) -> Tensor:
    """The same tensor, which TensorFlow's optimizer does not join with what comes after.

    Left alone it fuses an operation with the next one unless somebody else asks for the value in between; the
    last bits would depend on which layers are fetched. This costs no copy.
    """
    import tensorflow as tf

    return tf.ensure_shape(tensor, tensor.shape)


class Traced:
    """A function of tensors as one graph, for inputs of exactly one geometry.

    Parameters
    ----------
    function : callable
        From a structure of tensors to a list of tensors. It runs once, here, on tensors without values, and
        is not kept.
    inputs : structure of ndarray
        One batch: the geometry.

    Raises
    ------
    Exception
        Whatever the network raises when it is traced: it asks for values, or makes variables.
    """

    def __init__(self, function: Callable[[Any], Sequence[Tensor]], inputs: Any) -> None:
        import tensorflow as tf

        leaves = [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(inputs)]

        def flat(*tensors: Tensor) -> list[Tensor]:
            return list(function(keras.tree.pack_sequence_as(inputs, tensors)))

        # Without autograph, which would turn a layer's Python branches into a graph of both, against what an eager
        # pass does.
        traced = tf.function(flat, autograph=False)
        self._run = traced.get_concrete_function(*(tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in leaves))
        operations = {operation.type for operation in self._run.graph.get_operations()}
        self.may_write = any(kind in _CALLING or "Assign" in kind or "Scatter" in kind for kind in operations)

    def __call__(self, inputs: Any) -> list[Tensor]:
        """The tensors for a batch, from arrays in the geometry of the trace."""
        return list(self._run(*keras.tree.flatten(as_tensors(inputs))))
