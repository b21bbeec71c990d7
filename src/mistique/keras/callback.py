"""MistiqueCallback: a network's layers over validation rows, after the epochs of `fit`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import keras

from mistique.codecs import Codec, Policy
from mistique.errors import CaptureError, CaptureWarning, MistiqueError
from mistique.ingest.run_around import run_around
from mistique.keras.batches import Batches
from mistique.keras.capture import Request, capture_net
from mistique.keras.choice import Layers
from mistique.keras.network import Network
from mistique.keras.rows import Rows
from mistique.keras.versions import has_versions, run_to_continue, same_version, weights_digest

if TYPE_CHECKING:
    from mistique.store import Store


class MistiqueCallback(keras.callbacks.Callback):
    """Stores what every layer makes of `x`, after each epoch of a ``fit``.

    Epochs of one ``fit`` are one run: ``model@2.1``, ``model@2.2``, ... A ``fit`` that goes on with the weights of an
    earlier run's last epoch (``initial_epoch``, ``BackupAndRestore``) goes on with that run, in whatever process. A
    network that is the last step of a `mistique.sklearn.Pipeline`, captured under the same model name, belongs to the
    version of the pipeline. Two callbacks in one ``fit``, over two data sets, capture the same versions.
    Training ends in the same weights and history, bit for bit, with and without it.

    Parameters
    ----------
    store : Store
    x : array, list or dict of arrays, DataFrame, tf.data.Dataset, keras.utils.PyDataset or generator
        Rows to run through the network, validation rows for example. The last three yield batches of ``x``, ``(x, y)``
        or ``(x, y, weights)``, in the same order each time; a generator is read once and held, and is not the one
        that ``fit`` reads.
    y : array, list or dict of arrays, optional
        Their targets.
    model : str
        Name of the model in keys: ``fashion/cnn``.
    dataset : str, default "valid"
        Name of these rows in keys.
    layers : str, type, callable, or list of them, optional
        The layers to store: names, globs, classes of layers, functions of a layer, as in `capture`. None: all.
    every : int, default 1
        Capture every so many epochs; the last one always.
    n_rows, seed, stratify, steps
        Which of the rows, as in `capture`; the same ones after each epoch.
    codec : str, Codec or Policy, default "auto"
        As in `capture`.
    keep : {"all", "none", "auto"}, default "all"
        ``"none"`` declares the layers, to be recomputed when they are asked for; ``"auto"`` stores those that take long
        to recompute for their bytes.
    batch_size : int, default 256
        Rows of one forward pass.
    row_labels : ndarray or Index, optional
        None: the index of a DataFrame, otherwise rows are numbered from 0.
    weights, gradients : bool, default False
        Also store every weight, and the gradient of each row's loss with respect to each layer, as in `capture`.
    on_error : {"warn", "raise"}, default "warn"
        A capture that fails warns once in a ``fit``, and the training goes on; or it raises.

    Raises
    ------
    CaptureError, UnknownCodecError
        An argument is nothing that it can be.

    Notes
    -----
    ``mistique.keras.capture`` of the network after ``fit`` adds other data sets to its last version. Held by
    ``tests/keras/test_callback.py``.

    Examples
    --------
    >>> import keras, mistique, numpy as np, tempfile
    >>> from mistique.keras import MistiqueCallback
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> net = keras.Sequential([keras.layers.Dense(3, name="hidden"), keras.layers.Dense(1)])
    >>> net.compile(loss="mse")
    >>> x, y = np.zeros((10, 4), "float32"), np.zeros(10, "float32")
    >>> watch = MistiqueCallback(store, x, y, model="toy")
    >>> history = net.fit(x, y, epochs=2, verbose=0, callbacks=[watch])
    >>> watch.captured
    ['toy@1.1', 'toy@1.2']
    >>> MistiqueCallback(store, x, model="toy", every=0)
    Traceback (most recent call last):
    ...
    mistique.errors.CaptureError: every: expected at least 1, got 0
    """

    def __init__(
        self,
        store: Store,
        x: Any,
        y: Any = None,
        *,
        model: str,
        dataset: str = "valid",
        layers: Layers | None = None,
        every: int = 1,
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
        on_error: str = "warn",
    ) -> None:
        super().__init__()
        if every < 1:
            raise CaptureError(f"every: expected at least 1, got {every}")
        self._request = Request(store, model, dataset, layers, codec, keep, on_error, weights, gradients)
        self._x, self._y, self._batch_size, self._row_labels = x, y, batch_size, row_labels
        self._every, self._rows = every, Rows(n_rows, seed, stratify, steps)
        self._batches: Batches | None = None
        self._network: Network | None = None
        self._forget()

    def _forget(self) -> None:
        self.captured: list[str] = []
        self._run_id: str | None = None
        self._has_begun = False
        self._has_warned = False
        self._skipped: tuple[int, str] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin a run; rows that cannot be captured are told now, not after an epoch."""
        self._forget()
        try:
            self._batches = Batches(self._x, self._y, self._batch_size, self._row_labels, self._rows)
            if self._batches.must_be_read:
                self._x = self._batches.x
        except CaptureError as error:
            self._batches = None
            self._failed(error, "epochs of this fit")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Go on with the run around this, or that this training was interrupted in, if there is one; else begin one."""
        # Not at the beginning of the training: `BackupAndRestore`, later in the list, may put the weights back there.
        if self._has_begun:
            return
        self._has_begun = True
        self._run_id = run_around(self._request.store.uri, self._request.model)
        if self._run_id is None and epoch > 0 and self._batches is not None:
            request, weights = self._request, weights_digest(self.model)
            try:
                self._run_id = run_to_continue(request.store, request.model, epoch=epoch, weights=weights)
            except MistiqueError as error:
                self._failed(error, "the run to go on with")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Capture the epoch, if it is its turn."""
        number = epoch + 1
        is_last = number == self.params.get("epochs") or self.model.stop_training
        if number % self._every == 0 or is_last:
            self._skipped = None
            self._capture(number)
        else:
            self._skipped = number, weights_digest(self.model)

    def on_train_end(self, logs: Any = None) -> None:
        """Capture the last epoch, if a later callback ended the training there."""
        if self._skipped is None:
            return
        number, weights = self._skipped
        self._skipped = None
        if weights_digest(self.model) == weights:
            self._capture(number)
        else:
            replaced = CaptureError("the training put other weights into the network when it ended")
            self._failed(replaced, f"epoch {number}, the last,")

    def _capture(self, number: int) -> None:
        if self._batches is None:
            return
        try:
            network = self._network_of(self.model)
            self._run_id = self._run_id or self._run_of_another(number)
            taken = capture_net(network, self._batches, self._request, run_id=self._run_id, epoch=number)
        except Exception as error:  # noqa: BLE001 - whatever a capture raises, the user's training goes on
            self._failed(error, f"epoch {number}")
            return
        if taken.committed is not None:
            self._run_id = taken.run_id
            self.captured.append(taken.committed)

    def _run_of_another(self, number: int) -> str | None:
        """The run of another of these callbacks, which has just captured this epoch over other rows."""
        store, model, dataset = self._request.store, self._request.model, self._request.dataset
        if not has_versions(self.model, store, model):
            return None
        last = same_version(self.model, store, model, weights=weights_digest(self.model), dataset=dataset)
        return last.run_id if last is not None and last.epoch == number else None

    def _network_of(self, net: keras.Model) -> Network:
        """What the first epoch learned about the network, for the next ones."""
        if self._network is None or self._network.net is not net:
            self._network = Network(net, self._request.model, self._request.layers)
        return self._network

    def _failed(self, error: Exception, what: str) -> None:
        if self._request.on_error == "raise":
            raise error
        if not self._has_warned:
            self._has_warned = True
            request = self._request
            warnings.warn(
                f"{what} of {request.model} over dataset {request.dataset!r} not stored: {error}",
                CaptureWarning,
                stacklevel=4,
            )
