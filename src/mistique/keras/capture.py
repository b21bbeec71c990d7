"""Capture of a network over a data set: every batch through the hooked pass, its outputs into the store."""

from __future__ import annotations

import contextlib
import itertools
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import keras

from mistique.codecs import Codec, Policy
from mistique.errors import CaptureError, CaptureWarning, MistiqueError, ModelMismatchError
from mistique.keras.artifact import artifact_of
from mistique.keras.batches import Batch, Batches
from mistique.keras.derivations import confirmed_derivations
from mistique.keras.forward import as_tensors, named_leaves
from mistique.keras.inputs import check_inputs, described
from mistique.keras.recorder import Output, Recording, record_batch
from mistique.keras.unchanged import unchanged_state
from mistique.keras.versions import remember, same_version, weights_digest
from mistique.schema import TARGET

if TYPE_CHECKING:
    from mistique.ingest.capture import Capture
    from mistique.store import Store

# What Keras and a model's own `get_config` raise for a model that cannot be saved.
_NOT_SAVABLE = (
    *(ValueError, TypeError, NotImplementedError, AttributeError, KeyError),
    *(RuntimeError, ImportError, OSError),
)


@dataclass(frozen=True, slots=True)
class Request:
    """Where and how a network is captured, the same for each of its epochs."""

    store: Store
    model: str
    dataset: str
    layers: Sequence[str] | None = None
    codec: str | Codec | Policy = "auto"
    keep: str = "all"
    on_error: str = "raise"

    def __post_init__(self) -> None:
        if self.keep not in ("all", "none"):
            raise CaptureError(f'keep: expected "all" or "none", got {self.keep!r}')
        if isinstance(self.layers, str):
            raise CaptureError(f"layers: expected a list of names, got {self.layers!r}; write [{self.layers!r}]")


def capture(
    net: keras.Model,
    x: Any,
    y: Any = None,
    *,
    store: Store,
    model: str,
    dataset: str,
    layers: Sequence[str] | None = None,
    codec: str | Codec | Policy = "auto",
    keep: str = "all",
    batch_size: int = 256,
    row_labels: Any = None,
    on_error: str = "raise",
) -> str | None:
    """The version, ``"fashion/cnn@2.3"``, under which a network's layers over a data set are now stored.

    Parameters
    ----------
    net : keras.Model
        Sequential, functional or subclassed; it runs in inference mode, and nothing of it changes. One that
        was never built is built.
    x : array, list or dict of arrays, DataFrame, or finite tf.data.Dataset
        The rows. A data set yields ``x``, ``(x, y)`` or ``(x, y, weights)``.
    y : array, list or dict of arrays, optional
        Their targets.
    store : Store
    model, dataset : str
        Their names in keys. A network whose present weights were captured before, by the callback or here,
        goes under that version; otherwise, or if that version has this data set already, it begins a new run.
    layers : sequence of str, optional
        Names of the layers to store, ``inner/dense_1`` within a nested model; the second call of a shared
        layer is ``shared:1``. Later layers are not computed. None: all.
    codec : str, Codec or Policy, default "auto"
        For the layers; input, target and prediction are kept exactly. ``"auto"``: floats by ``"power"`` with 5 bits,
        and pooled, flattened, permuted or dropped-out layers not at all where the layer before is stored, from which
        they follow. ``"raw"``: every bit of every layer.
    keep : {"all", "none"}, default "all"
        ``"none"`` declares the layers, to be recomputed when they are asked for. What cannot be recomputed is
        stored.
    batch_size : int, default 256
        Rows of one forward pass. The outputs of all layers for so many rows are held in memory.
    row_labels : ndarray or Index, optional
        None: the index of a DataFrame, otherwise rows are numbered from 0.
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
    The layers are seen in an eager pass, each row once for all layers, in batches of exactly `batch_size`
    rows. Held by ``tests/keras/test_capture.py``.

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
    request = Request(store, model, dataset, layers, codec, keep, on_error)
    batches = Batches(x, y, batch_size, row_labels)
    last = None
    if net.built:
        last = same_version(net, store, model, weights=weights_digest(net), dataset=dataset)
    run_id, epoch = (last.run_id, last.epoch) if last is not None else (None, None)
    return capture_net(net, batches, request, run_id=run_id, epoch=epoch).committed


def capture_net(
    net: keras.Model, batches: Batches, request: Request, *, run_id: str | None, epoch: int | None
) -> Capture:
    """The committed capture of a network over batches: a new run, or a part of one.

    Raises
    ------
    CaptureError, ModelMismatchError, NotEncodableError, StoreError
        As `capture`.
    """
    taken = request.store.capture(
        model=request.model,
        dataset=request.dataset,
        framework="keras",
        run_id=run_id,
        epoch=epoch,
        batch_rows=batches.batch_rows,
        codec=request.codec,
        on_error=request.on_error,
        environment=_environment(),
    )
    with taken:
        _Filing(net, request, taken).take_all(batches)
    if taken.committed is not None:
        remember(
            net,
            request.store,
            request.model,
            run_id=taken.run_id,
            epoch=epoch,
            weights=weights_digest(net),
            dataset=request.dataset,
        )
    return taken


class _Filing:
    """Runs the batches of one capture and files what they give."""

    def __init__(self, net: keras.Model, request: Request, taken: Capture) -> None:
        self._net, self._request, self._taken = net, request, taken
        self._names: list[str] | None = None
        self._seconds_per_row: dict[str, list[float]] = defaultdict(list)
        self._keep = request.keep == "all"
        self._recompute: dict[str, Any] = {}
        self._derivations: Mapping[str, Mapping[str, Any]] = {}

    def take_all(self, batches: Batches) -> None:
        for batch in batches:
            recording = self._run(batch)
            if self._names is None:
                self._begin(recording, batches.row_labels)
                self._derivations = confirmed_derivations(recording.outputs)
            for output in recording.outputs:
                self._file(output, batch.n_rows)
            for name, values in [] if batch.targets is None else named_leaves(TARGET, batch.targets):
                self._taken.append(name, values, role=TARGET, parents=())
        for name, seconds in self._seconds_per_row.items():
            # The median: a first batch builds and warms up what the others find ready.
            self._taken.annotate(name, forward_seconds_per_row=median(seconds))

    def _run(self, batch: Batch) -> Recording:
        is_first = self._names is None
        if is_first:
            check_inputs(self._net, batch.inputs, model=self._request.model)
        try:
            with unchanged_state(self._net) as inference:
                recording = record_batch(
                    self._net, as_tensors(batch.inputs), wanted=self._request.layers, finds_casts=is_first
                )
        except MistiqueError:
            raise
        except (ValueError, TypeError) as error:
            raise ModelMismatchError(
                model=self._request.model,
                expected="rows that its layers can compute",
                got=described(batch.inputs),
                hint=_said(error),
            ) from error
        if is_first and inference.drew_unseeded:
            self._cannot_recompute("a layer draws random numbers without a seed of its own")
        return recording

    def _begin(self, recording: Recording, row_labels: Any) -> None:
        self._names = [output.names[0] for output in recording.outputs]
        if recording.without_rows:
            warnings.warn(
                f"not stored, as it has no row for each row of input: {', '.join(recording.without_rows)}",
                CaptureWarning,
                stacklevel=5,
            )
        self._taken.set_labels(row_labels)
        started = perf_counter()
        try:
            artifact = artifact_of(self._net)
        except _NOT_SAVABLE as error:
            note = f"the model cannot be saved: {_said(error)}"
            self._taken.skip_model(note)
            self._cannot_recompute(note)
        else:
            # Loading is not measured here: it would draw seeds and take names in the middle of a training. It
            # makes the same layers and moves the same bytes as saving, and the first load corrects the
            # figure.
            self._taken.keep_model(artifact, load_seconds=perf_counter() - started)

    def _cannot_recompute(self, note: str) -> None:
        self._keep = True
        self._recompute = {"recompute_difference": None, "recompute_note": note}

    def _file(self, output: Output, n_rows: int) -> None:
        name = output.names[0]
        # The first batch says what the outputs are; a layer that only a later batch calls has no rows for the
        # others.
        if self._names is None or name not in self._names:
            return
        parents = None
        if output.parents is not None:
            parents = tuple(sorted(output.parents, key=self._names.index))
        self._taken.append(
            name,
            output.values(),
            role=output.role,
            parents=parents,
            detail=output.detail,
            aliases=tuple(dict.fromkeys(alias for alias in output.names if alias != name)),
            keep=self._keep,
            derivation=self._derivations.get(name),
            **(self._recompute if output.role != "input" else {}),
        )
        if output.role != "input":
            self._seconds_per_row[name].append(output.seconds / n_rows)


def _said(error: Exception) -> str:
    """What an error of Keras says is wrong: its first sentence, without colours and the list of arguments."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception encountered when calling")]
    said = " ".join(itertools.takewhile(lambda line: not line.startswith("Arguments received by"), lines))
    if not said:
        return type(error).__name__
    return said if len(said) <= 300 else f"{said[:300]}..."


def _environment() -> dict[str, str]:
    backend = keras.backend.backend()
    found = {"keras": keras.__version__, "keras_backend": backend}
    with contextlib.suppress(PackageNotFoundError):  # a nightly build goes by another name
        found[backend] = version(backend)
    return found
