"""Intermediates to files that other tools read, and activations that were made elsewhere into a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mistique.codecs import Codec, Policy
from mistique.errors import CaptureError, QueryError
from mistique.ingest.capture import Capture
from mistique.planner.execute import row_labels
from mistique.queries import Part, get
from mistique.schema import INPUT, PREDICTION, ROW_LABEL, TARGET, Intermediate, Key, escape_path
from mistique.store import Store

NEW = "new"
_ROLES = {INPUT: "input", TARGET: "target", PREDICTION: "prediction"}
# Bytes of values that are held at once, about.
_PORTION_NBYTES = 64 * 1024 * 1024


def export(store: Store, key: str | Key, *, path: str | os.PathLike[str]) -> Path:
    """An intermediate in a file that others read; read or recomputed a portion of its rows at a time.

    Parameters
    ----------
    store : Store
    key : str or Key
    path : str or path
        Its ending says what it becomes: ``.parquet`` (a column for each column, row labels as the index), ``.npy``
        (the values alone, in their shape), ``.nc`` (netCDF 3: values and row labels) or ``.zarr`` (the same).

    Returns
    -------
    Path

    Raises
    ------
    IntermediateNotFoundError, NoPlanError
    QueryError
        The ending is none of these, the folder is not there, or the file cannot hold such values.

    Notes
    -----
    16-bit brain floats become float32, which holds each of them: of these formats none knows them.

    Examples
    --------
    >>> import mistique, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> store = mistique.open(folder + "/s.mistique")
    >>> _ = mistique.add(store, {"layer": np.ones((3, 2), np.float32)}, model="torch/net", dataset="valid")
    >>> np.load(mistique.export(store, "torch/net@1/valid/layer", path=folder + "/layer.npy")).shape
    (3, 2)
    """
    target = Path(path)
    writers: dict[str, Callable[[Store, str | Key, Path], None]] = {
        ".parquet": _to_parquet,
        ".npy": _to_npy,
        ".nc": _to_netcdf,
        ".zarr": _to_zarr,
    }
    if target.suffix not in writers:
        raise QueryError(f"expected a file that ends in {', '.join(writers)}; got {target.name!r}")
    if not target.parent.is_dir():
        raise QueryError(f"expected a folder for {target.name}, found none at {target.parent}: make it first")
    writers[target.suffix](store, key, target)
    return target


def add(
    store: Store,
    values: Mapping[str, Any] | str | os.PathLike[str],
    *,
    model: str,
    dataset: str,
    version: str = NEW,
    name: str | None = None,
    labels: Any = None,
    codec: str | Codec | Policy = "auto",
) -> str:
    """The name of the version under which activations of a model from elsewhere are now stored: PyTorch, JAX, a file.

    Parameters
    ----------
    store : Store
    values : mapping of str to array, or path
        Intermediates by name, each with a row for each example: arrays of any shape, which are taken as outputs of
        layers, or pandas frames, which are tables. ``input``, ``target`` and ``prediction`` are what they say. Of a
        file: ``.npz`` (several, by their names), ``.npy`` and ``.parquet`` (one, called `name`).
    model, dataset : str
    version : str, default "new"
        A number to add to that version; what it has of the dataset stays.
    name : str, optional
        Of the one intermediate in the file.
    labels : Index or array, optional
        Of the rows. Default: the index of a frame, else they are numbered.
    codec : str, Codec or Policy, default "auto"

    Raises
    ------
    CaptureError
        Values of different lengths, a name that is taken or that the file does not have, or a file of another kind.
    NotEncodableError, IntermediateNotFoundError, StoreReadOnlyError

    Examples
    --------
    >>> import mistique, tempfile
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> mistique.add(store, {"conv1": np.zeros((10, 8, 8, 4), np.float32)}, model="torch/net", dataset="valid")
    'torch/net@1'
    >>> mistique.add(store, {"conv2": np.ones((10, 5), np.float32)}, model="torch/net", dataset="valid", version="1")
    'torch/net@1'
    >>> mistique.get(store, "torch/net@1/valid/conv1", unit=2).values.shape
    (10, 8, 8, 1)
    """
    named = dict(values) if isinstance(values, Mapping) else _read_file(Path(values), name)
    if not named:
        raise CaptureError("expected at least one intermediate, got none")
    held, run_id = _held(store, model, dataset, version)
    taken = set(held) & set(named)
    if taken:
        raise CaptureError(f"{model}@{version}/{dataset} has {', '.join(sorted(taken))} already: add a new version")
    first = next(iter(named.values()))
    labels = _labels_of(first) if labels is None else labels
    with store.capture(model=model, dataset=dataset, framework="none", run_id=run_id, codec=codec) as capture:
        for node in held.values():
            capture.carry_on(node)
        if ROW_LABEL not in held:
            capture.set_labels(labels)
        for intermediate, value in named.items():
            _take(capture, intermediate, value)
    assert capture.committed is not None
    return capture.committed


def _held(store: Store, model: str, dataset: str, version: str) -> tuple[dict[str, Intermediate], str | None]:
    """What a version has of a dataset, with its references, and its run."""
    if version == NEW:
        return {}, None
    for capture in store.catalog.find_versions(f"{escape_path(model)}@{version}"):
        if capture.version.framework != "none":
            raise CaptureError(f"{model}@{version} was captured by {capture.version.framework}: add a new version")
        if capture.dataset == dataset:
            references = store.catalog.references(capture)
            nodes = capture.intermediates.items()
            return {name: replace(n, references=references.get(name)) for name, n in nodes}, capture.version.run_id
        run_id = capture.version.run_id
    return {}, run_id


def _take(capture: Capture, name: str, value: Any) -> None:
    role = _ROLES.get(name, "stage")
    # Of a model that cannot be run here again.
    facts: dict[str, Any] = {"role": role, "parents": None, "recompute_difference": None}
    facts["recompute_note"] = "it was made elsewhere"
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    is_layer = hasattr(value, "__array__") and not hasattr(value, "iloc") and getattr(value, "ndim", 0) > 1
    if not is_layer or role != "stage" or value.dtype.kind in "OUSmM":
        capture.add(name, value, **facts)
        return
    step = max(_PORTION_NBYTES // max(value[:1].nbytes, 1), 1)
    for start in range(0, max(len(value), 1), step):
        capture.append(name, np.array(value[start : start + step]), **facts)


def _read_file(path: Path, name: str | None) -> dict[str, Any]:
    if not path.exists():
        raise CaptureError(f"expected a file, found none at {path}")
    if path.suffix == ".npz":
        with np.load(path) as found:
            arrays = {one: found[one] for one in found.files}
        if name is not None and name not in arrays:
            raise CaptureError(f"{path.name} has no array {name!r}; it has {', '.join(arrays)}")
        return arrays if name is None else {name: arrays[name]}
    if name is None:
        raise CaptureError(f"expected a name for what is in {path.name}: the last part of a key")
    if path.suffix == ".npy":
        return {name: np.load(path, mmap_mode="r")}
    if path.suffix == ".parquet":
        import pandas as pd

        return {name: pd.read_parquet(path)}
    raise CaptureError(f"expected a file that ends in .npy, .npz or .parquet; got {path.name!r}")


def _labels_of(value: Any) -> Any:
    return value.index if hasattr(value, "iloc") and type(value.index).__name__ != "RangeIndex" else None


def _portions(store: Store, key: str | Key) -> Iterator[tuple[int, Part]]:
    """The rows of an intermediate, some row blocks at a time, each with the position of its first row."""
    _, node = store.catalog.find(key)
    row_nbytes = max(node.raw_nbytes // max(node.n_rows, 1), 1)
    step = max(_PORTION_NBYTES // row_nbytes // node.block_rows, 1) * node.block_rows
    for start in range(0, node.n_rows, step):
        yield start, get(store, key, rows=slice(start, min(start + step, node.n_rows)))


def _numbers(part: Part) -> np.ndarray:
    """Its values in a type that every reader of arrays knows."""
    values = part.values
    if values.dtype == object:
        raise QueryError(f"{part.key} has columns of text or of several types: export it to .parquet")
    is_small_float = values.dtype.name.startswith(("bfloat16", "float8"))
    return values.astype(np.float32) if is_small_float else values


def _to_npy(store: Store, key: str | Key, path: Path) -> None:
    out: np.ndarray | None = None
    n_rows = store.catalog.find(key)[1].n_rows
    for start, part in _portions(store, key):
        values = _numbers(part)
        if out is None:
            out = np.lib.format.open_memmap(path, "w+", values.dtype, (n_rows, *values.shape[1:]))
        out[start : start + len(values)] = values
    if isinstance(out, np.memmap):
        out.flush()


def _to_parquet(store: Store, key: str | Key, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer: Any = None
    try:
        for _, part in _portions(store, key):
            table = pa.Table.from_pandas(part.to_frame())
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _to_zarr(store: Store, key: str | Key, path: Path) -> None:
    import zarr

    # Version 2 of the format: 3 has no stable text.
    group, out = zarr.open_group(str(path), mode="w", zarr_format=2), None
    n_rows = store.catalog.find(key)[1].n_rows
    error = 0.0
    for start, part in _portions(store, key):
        values = _numbers(part)
        if out is None:
            chunks = (min(n_rows, 1024), *values.shape[1:])
            out = group.create_array("values", shape=(n_rows, *values.shape[1:]), dtype=values.dtype, chunks=chunks)
            group.attrs["key"], group.attrs["columns"] = part.key, list(part.columns)
            # Where xarray finds the names of dimensions.
            out.attrs["_ARRAY_DIMENSIONS"] = ["row", *(f"axis{i}" for i in range(1, values.ndim))]
        out[start : start + len(values)] = values
        error = max(error, part.max_abs_error)
    group.attrs["max_abs_error"] = error
    labels = _plain_labels(store, key)
    if labels is not None:
        group.create_array("rows", data=labels).attrs["_ARRAY_DIMENSIONS"] = ["row"]


def _to_netcdf(store: Store, key: str | Key, path: Path) -> None:
    from scipy.io import netcdf_file

    values = np.concatenate([_numbers(part) for _, part in _portions(store, key)])
    if values.dtype.kind in "iub" and values.dtype != np.int8:
        if np.abs(values.astype(np.float64)).max(initial=0) >= 2**31:
            raise QueryError(f"{key}: netCDF 3 holds integers of 32 bits; export it to .parquet or .zarr")
        values = values.astype(np.int32)
    elif values.dtype == np.float16:
        values = values.astype(np.float32)
    with netcdf_file(path, "w", version=2) as file:
        dimensions = [("row", len(values)), *((f"axis{i}", n) for i, n in enumerate(values.shape[1:], start=1))]
        for name, length in dimensions:
            file.createDimension(name, length)
        out = file.createVariable("values", values.dtype.newbyteorder(">"), tuple(name for name, _ in dimensions))
        out[:] = values
        labels = _plain_labels(store, key)
        if labels is not None:
            texts = np.char.encode(labels.astype(str), "utf-8")
            file.createDimension("label_length", texts.dtype.itemsize)
            rows = file.createVariable("rows", "c", ("row", "label_length"))
            rows[:] = texts.view("S1").reshape(len(texts), -1)
        file.key = str(key)


def _plain_labels(store: Store, key: str | Key) -> np.ndarray | None:
    """Labels of the rows as numbers or fixed-length text; None: they are numbered."""
    capture, _ = store.catalog.find(key)
    index = row_labels(store, capture)
    if index is None:
        return None
    labels: np.ndarray = index.to_numpy()
    return labels if labels.dtype.kind in "iuf" else np.array([str(label) for label in labels])
