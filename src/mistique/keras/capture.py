"""Capture of a network over a data set: what it asks for, and the version under which it is seen."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import keras

from mistique.codecs import Codec, Policy
from mistique.errors import CaptureError
from mistique.ingest.choosing import KEEP
from mistique.keras.batches import Batches
from mistique.keras.choice import Choice, Layers
from mistique.keras.filing import Filing
from mistique.keras.gradients import check_gradients
from mistique.keras.network import Network
from mistique.keras.rows import Rows
from mistique.keras.tensors import to_numpy
from mistique.keras.tracing import PASS
from mistique.keras.versions import WEIGHTS, has_versions, remember, same_version, weights_digest
from mistique.keras.weights import DATASET, named_weights, states_of
from mistique.store.arguments import check_arguments

if TYPE_CHECKING:
    from mistique.ingest.capture import Capture
    from mistique.store import Store

# A version's environment says under it how the layers ran: dropout off, batch normalization by its moving averages.
_MODE = "keras_mode"


@dataclass(frozen=True, slots=True)
class Request:
    """Where and how a network is captured, the same for each of its epochs."""

    store: Store
    model: str
    dataset: str
    layers: Layers | None = None
    codec: str | Codec | Policy = "auto"
    keep: str = "all"
    on_error: str = "raise"
    has_weights: bool = False
    has_gradients: bool = False

    def __post_init__(self) -> None:
        # Said now, not after an epoch.
        check_arguments(
            store=self.store,
            model=self.model,
            dataset=self.dataset,
            codec=self.codec,
            keep=self.keep,
            on_error=self.on_error,
        )
        Choice(self.layers)


def capture(
    net: keras.Model,
    x: Any,
    y: Any = None,
    *,
    store: Store,
    model: str,
    dataset: str,
    layers: Layers | None = None,
    n_rows: int | None = None,
    seed: int = 0,
    stratify: bool = False,
    steps: int | None = None,
    codec: str | Codec | Policy = "auto",
    keep: str = "all",
    batch_size: int = 256,
    row_labels: Any = None,
    weights: bool = False,
    gradients: bool = False,
    on_error: str = "raise",
) -> str | None:
    """The version, ``"fashion/cnn@2.3"``, under which a network's layers over a data set are now stored.

    Parameters
    ----------
    net : keras.Model
        Sequential, functional or subclassed; it runs in inference mode, and nothing of it changes. One that
        was never built is built.
    x : array, list or dict of arrays, DataFrame, tf.data.Dataset, keras.utils.PyDataset or generator
        The rows. The last three yield batches: ``x``, ``(x, y)`` or ``(x, y, weights)``; those of several lengths are
        padded with zeros to the longest.
    y : array, list or dict of arrays, optional
        Their targets.
    store : Store
    model, dataset : str
        Their names in keys. A network whose present weights were captured before, by the callback or here,
        goes under that version; otherwise, or if that version has this data set already, it begins a new run.
    layers : str, type, callable, or list of them, optional
        The layers to store: names, ``inner/dense_1`` within a nested model, ``shared:1`` the second call of a shared
        layer; globs, ``"block*_conv?"``; classes of layers; functions of a layer. Layers after the last of those that
        are named are not computed. None: all.
    n_rows : int, optional
        Draw so many rows, which keep their order, and their positions as labels. None: all.
    seed : int, default 0
        Of that draw: equal seeds draw equal rows.
    stratify : bool, default False
        Draw each class of `y` as often as it comes, to the nearest row.
    steps : int, optional
        Read so many batches of a data set; a generator, or an endless data set, needs it.
    codec : str, Codec or Policy, default "auto"
        For the layers; input, target and prediction are kept exactly. ``"auto"``: floats by ``"power"`` with 5 bits,
        and pooled, flattened, permuted or dropped-out layers not at all where the layer before is stored, from which
        they follow. ``"raw"``: every bit of every layer.
    keep : {"all", "none", "auto"}, default "all"
        ``"none"`` declares the layers, to be recomputed when they are asked for; ``"auto"`` stores those that take long
        to recompute for their bytes. What cannot be recomputed is
        stored.
    batch_size : int, default 256
        Rows of one forward pass. The outputs of all layers for so many rows are held in memory.
    row_labels : ndarray or Index, optional
        None: the index of a DataFrame, otherwise rows are numbered from 0.
    weights : bool, default False
        Also store every weight, exactly, as a data set of one row: ``model@version/weights/conv1/kernel``.
    gradients : bool, default False
        Also store the gradient of each row's loss with respect to the input and each layer, exactly:
        ``model@version/dataset/conv1/gradient``. It needs `y`, a compiled loss and TensorFlow, and another pass.
    on_error : {"raise", "warn"}, default "raise"

    Returns
    -------
    str or None
        None when nothing could be stored and ``on_error="warn"``.

    Raises
    ------
    CaptureError
        x is empty, x and y differ in length, there is no such layer, or the data set is endless or shuffled.
    ModelMismatchError
        The model does not take rows of that shape. Nothing was written.
    NotEncodableError, StoreError
        With ``on_error="raise"``: what could not be stored.

    Notes
    -----
    All layers come from one pass, each row once, in batches of exactly `batch_size` rows; an eighth of the first
    batch goes through twice more, to time its layers. A layer that the store holds from an earlier capture, of
    the same layers before it, the same weights and the same rows, is recorded and not run. Held by
    ``tests/keras/test_capture.py`` and ``tests/keras/test_lineage.py``.

    Examples
    --------
    >>> import keras, mistique, mistique.keras, numpy as np, tempfile
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> net = keras.Sequential([keras.layers.Dense(3, name="hidden"), keras.layers.Dense(1, name="score")])
    >>> x = np.zeros((10, 4), "float32")
    >>> mistique.keras.capture(net, x, store=store, model="toy", dataset="test")
    'toy@1'
    >>> mistique.keras.capture(net, x, store=store, model="toy", dataset="test", layers=["hiden"])
    Traceback (most recent call last):
    ...
    mistique.errors.CaptureError: layers: the model has no layer 'hiden'; nearest: hidden
    """
    if not isinstance(net, keras.Model):
        raise CaptureError(f"expected a keras.Model, got {type(net).__module__}.{type(net).__qualname__}")
    request = Request(store, model, dataset, layers, codec, keep, on_error, weights, gradients)
    batches = Batches(x, y, batch_size, row_labels, Rows(n_rows, seed, stratify, steps))
    last = None
    if net.built and has_versions(net, store, model):
        last = same_version(net, store, model, weights=weights_digest(net), dataset=dataset)
    run_id, epoch = (last.run_id, last.epoch) if last is not None else (None, None)
    return capture_net(Network(net, model, layers), batches, request, run_id=run_id, epoch=epoch).committed


def capture_net(
    network: Network, batches: Batches, request: Request, *, run_id: str | None, epoch: int | None
) -> Capture:
    """The committed capture of a network over batches: a new run, or a part of one.

    Raises
    ------
    CaptureError, ModelMismatchError, NotEncodableError, StoreError
        As `capture`.
    """
    reading = iter(batches)
    first = next(reading)
    network.prepare(first, batches.batch_rows)
    if request.has_gradients:
        check_gradients(network.net, first)
    weights = weights_digest(network.net)
    taken = request.store.capture(
        model=request.model,
        dataset=request.dataset,
        framework="keras",
        run_id=run_id,
        epoch=epoch,
        batch_rows=batches.batch_rows,
        codec=request.codec,
        on_error=request.on_error,
        environment={**environment(), PASS: network.kind, WEIGHTS: weights, _MODE: "inference"},
        params=_params_of(network.net),
    )
    taken.describe_version(states=states_of(network.net))
    try:
        with taken:
            filing = Filing(network, taken, keep=KEEP[request.keep], has_gradients=request.has_gradients)
            filing.take_all(batches, first, reading)
    finally:
        network.release()
    if taken.committed is not None:
        remember(
            network.net,
            request.store,
            request.model,
            run_id=taken.run_id,
            epoch=epoch,
            weights=weights,
            dataset=request.dataset,
        )
        if request.has_weights:
            _capture_weights(network.net, request, run_id=taken.run_id, epoch=epoch)
    return taken


def _capture_weights(net: keras.Model, request: Request, *, run_id: str, epoch: int | None) -> None:
    with request.store.capture(
        model=request.model,
        dataset=DATASET,
        framework="keras",
        run_id=run_id,
        epoch=epoch,
        on_error=request.on_error,
        environment=environment(),
    ) as taken:
        note = "a weight is always stored"
        taken.skip_model(note)
        for name, detail, values in named_weights(net):
            facts = {"role": "weight", "parents": (), "detail": detail}
            taken.append(name, values[None], recompute_difference=None, recompute_note=note, **facts)


def _params_of(net: keras.Model) -> dict[str, str]:
    """How the network is being trained, as text; empty: it was not compiled."""
    optimizer, loss = getattr(net, "optimizer", None), getattr(net, "loss", None)
    if optimizer is None:
        return {}
    found = {"optimizer": type(optimizer).__name__}
    with contextlib.suppress(AttributeError, TypeError, ValueError):  # an optimizer of one's own may have none
        rate = optimizer.learning_rate
        found["learning_rate"] = f"{float(to_numpy(getattr(rate, 'value', rate))):.6g}"
    if loss is not None:
        found["loss"] = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return found


def environment() -> dict[str, str]:
    """Versions that a network may depend on."""
    backend = keras.backend.backend()
    found = {"keras": keras.__version__, "keras_backend": backend}
    with contextlib.suppress(PackageNotFoundError):  # a nightly build goes by another name
        found[backend] = version(backend)
    return found
