"""The gradient of each row's loss with respect to what the layers give, beside what they give."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import keras
import numpy as np

from mistique.errors import CaptureError
from mistique.keras.batches import Batch
from mistique.keras.recorder import record_batch
from mistique.keras.tensors import Tensor, as_tensors, to_numpy
from mistique.keras.unchanged import unchanged_state

GRADIENT = "gradient"


def check_gradients(net: keras.Model, batch: Batch) -> None:
    """Raise unless there is a loss, and TensorFlow to derive it.

    Raises
    ------
    CaptureError
    """
    if keras.backend.backend() != "tensorflow":
        raise CaptureError(f"gradients: expected the backend tensorflow, got {keras.backend.backend()}")
    if not getattr(net, "compiled", False) or getattr(net, "loss", None) is None:
        raise CaptureError("gradients: expected a network with a loss, got none; compile it with one")
    if batch.targets is None:
        raise CaptureError("gradients: expected targets for the loss, got none; give y")


def batch_gradients(net: keras.Model, batch: Batch, names: Collection[str]) -> Mapping[str, np.ndarray]:
    """The gradients for one batch, by the name of the intermediate; none of what is no floating-point number.

    Parameters
    ----------
    net : keras.Model
        Compiled; it runs eagerly, in inference mode.
    batch : Batch
    names : collection of str
        Of inputs, layers and predictions.

    Notes
    -----
    Row by row: a loss that is the mean of a batch is multiplied by the rows of the batch, so that what a row gets does
    not depend on who is in the batch with it.
    """
    import tensorflow as tf

    inputs = as_tensors(batch.inputs)
    with unchanged_state(net), tf.GradientTape() as tape:

        def watched(tensor: Tensor) -> Tensor:
            tensor = tf.identity(tensor)
            if tensor.dtype.is_floating:
                tape.watch(tensor)
            return tensor

        inputs = keras.tree.map_structure(watched, inputs)
        recording = record_batch(net, inputs, finds_casts=False, isolate=watched)
        found = {output.names[0]: output.tensor for output in recording.outputs if output.names[0] in names}
        found = {name: tensor for name, tensor in found.items() if tensor.dtype.is_floating}
        targets = keras.tree.map_structure(lambda leaf: None if leaf is None else as_tensors(leaf), batch.targets)
        loss = net.compute_loss(x=inputs, y=targets, y_pred=recording.prediction, training=False)
        total = loss if _is_summed(net) else loss * batch.n_rows
    gradients = tape.gradient(total, found, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return {name: to_numpy(tf.convert_to_tensor(gradient)) for name, gradient in gradients.items()}


def gradient_name(name: str) -> str:
    """What the gradient with respect to an intermediate is filed under."""
    return f"{name}/{GRADIENT}"


def _is_summed(net: keras.Model) -> bool:
    """Its loss is the sum of a batch, not the mean."""
    losses = [loss for loss in keras.tree.flatten(net.loss) if loss is not None]
    return any(getattr(loss, "reduction", "") == "sum" for loss in losses)
