"""Keras: a callback that captures while `fit` runs, and capture of any network.

Keras is imported in this folder alone. `batches` cuts x and y; `forward` runs one batch with every layer's
call shown to a visitor; `recorder` is the visitor that keeps what the layers gave, `replay` the one that puts
stored values in their place. `capture` and `callback` file it in a store, with the model as `artifact` makes
it, and `recomputer` runs that model again.
"""

from mistique.keras.callback import MistiqueCallback
from mistique.keras.capture import capture

__all__ = ["MistiqueCallback", "capture"]
