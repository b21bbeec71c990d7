"""What people make by hand to keep arrays and tables: NumPy, joblib, Parquet, HDF5 and zarr files, each at its best.

A table is a pandas frame. Parquet and joblib take it as it is; the others take it column by column, text as bytes,
categories as their codes, dates as integers, nulls and row labels dropped, all of it to their advantage. A matrix is
what a layer gave, a row for each example, flattened so that the positions of a unit lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = (1024, 64)
ROW_GROUP = 8 * 1024
_SPLIT: dict[str, Any] = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": True}


@dataclass(frozen=True)
class Opened:
    """A file that is held open: some columns of all rows, and some rows of all columns, of a matrix."""

    columns: Callable[[Sequence[int]], np.ndarray]
    rows: Callable[[Sequence[int]], np.ndarray]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Peer:
    """A file format as its users use it.

    Parameters
    ----------
    is_compressed : bool
        Whether it is made to be small.
    write_table, read_table : callable
    write_matrix, read_matrix : callable
    open_matrix : callable, optional
        None: it can only be read whole.
    """

    is_compressed: bool
    write_table: Callable[[Path, Any], None]
    read_table: Callable[[Path], Any]
    write_matrix: Callable[[Path, np.ndarray], None]
    read_matrix: Callable[[Path], np.ndarray]
    open_matrix: Callable[[Path], Opened] | None = None


def peers() -> Mapping[str, Peer]:
    """All of them, by name."""
    return {
        "npy": Peer(False, _write_npy_table, _read_npy_table, _write_npy, _read_npy, _open_npy),
        "npz": Peer(True, _write_npz_table, _read_npz_table, _write_npz, lambda path: np.load(path)["matrix"]),
        "joblib": Peer(True, _write_joblib, _read_joblib, _write_joblib, _read_joblib),
        "parquet": Peer(True, _write_parquet_table, _read_parquet_table, _write_parquet, _read_parquet),
        "hdf5": Peer(True, _write_hdf5_table, _read_hdf5_table, _write_hdf5, _read_hdf5, _open_hdf5),
        "zarr": Peer(True, _write_zarr_table, _read_zarr_table, _write_zarr, _read_zarr, _open_zarr),
    }


def open_peers() -> Mapping[str, Peer]:
    """Those of which some columns and some rows can be had: each has one layout for both."""
    found = {name: peer for name, peer in peers().items() if peer.open_matrix is not None}
    columns = Peer(
        True, _write_parquet_table, _read_parquet_table, _write_parquet_columns, _read_parquet_columns, _open_parquet
    )
    return {**found, "parquet": columns}


HOW = {
    "npy": "numpy.save; for some rows or columns it is mapped into memory",
    "npz": "numpy.savez_compressed, an entry for each column of a table",
    "joblib": "joblib.dump with zlib, level 3, its default",
    "parquet": "pyarrow with zstd; layers with byte-stream-split, as one column of lists; where some rows or columns"
    " are read, as a column for each value, in row groups of 8,192 rows",
    "hdf5": "h5py with gzip; a dataset for each column of a table, layers shuffled, in chunks of 1,024 x 64",
    "zarr": "zarr 3 with Blosc zstd; an array for each column of a table, layers shuffled, in chunks of 1,024 x 64",
}


def columns_of(table: Any) -> dict[str, np.ndarray]:
    """A frame as arrays without objects."""
    return {f"{number}": _as_plain(table.iloc[:, number]) for number in range(table.shape[1])}


def _as_plain(series: Any) -> np.ndarray:
    if hasattr(series, "cat"):
        return series.cat.codes.to_numpy()
    if series.dtype.kind == "M":
        return series.to_numpy("datetime64[ns]").view(np.int64)
    if series.dtype.kind == "O":
        return np.char.encode(series.fillna("").to_numpy().astype("U"))
    return np.ascontiguousarray(series.to_numpy())


def _as_frame(columns: Mapping[str, np.ndarray]) -> Any:
    import pandas as pd

    return pd.DataFrame(dict(columns), copy=False)


def _is_matrix(table: Any) -> bool:
    return len(set(table.dtypes)) == 1 and table.dtypes.iloc[0].kind in "fiu"


def _write_npy_table(path: Path, table: Any) -> None:
    # A table of one type is a matrix to those who save it with NumPy.
    with open(path, "wb") as file:
        for array in [table.to_numpy()] if _is_matrix(table) else columns_of(table).values():
            np.save(file, array)


def _read_npy_table(path: Path) -> Any:
    import pandas as pd

    arrays = []
    with open(path, "rb") as file:
        while file.peek(1):
            arrays.append(np.load(file))
    return pd.DataFrame(arrays[0]) if arrays[0].ndim == 2 else _as_frame({str(i): a for i, a in enumerate(arrays)})


def _write_npy(path: Path, matrix: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, matrix)


def _read_npy(path: Path) -> np.ndarray:
    found: np.ndarray = np.load(path)
    return found


def _open_npy(path: Path) -> Opened:
    mapped = np.load(path, mmap_mode="r")
    return Opened(lambda columns: np.array(mapped[:, _span(columns)]), lambda rows: np.array(mapped[list(rows)]))


def _write_npz_table(path: Path, table: Any) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **columns_of(table))


def _read_npz_table(path: Path) -> Any:
    with np.load(path) as archive:
        return _as_frame({name: archive[name] for name in archive.files})


def _write_npz(path: Path, matrix: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, matrix=matrix)


def _write_joblib(path: Path, value: Any) -> None:
    import joblib

    joblib.dump(value, path, compress=("zlib", 3))


def _read_joblib(path: Path) -> Any:
    import joblib

    return joblib.load(path)


def _write_parquet_table(path: Path, table: Any) -> None:
    table.to_parquet(path, compression="zstd", index=False)


def _read_parquet_table(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def _write_parquet(path: Path, matrix: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    pq.write_table(pa.table({"cells": cells}), path, **_SPLIT)


def _read_parquet(path: Path) -> np.ndarray:
    import pyarrow.parquet as pq

    cells = pq.read_table(path).column("cells").combine_chunks()
    found: np.ndarray = cells.flatten().to_numpy(zero_copy_only=False).reshape(len(cells), -1)
    return found


def _write_parquet_columns(path: Path, matrix: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [str(number) for number in range(matrix.shape[1])]
    schema = pa.schema([(name, pa.from_numpy_dtype(matrix.dtype)) for name in names])
    with pq.ParquetWriter(path, schema, **_SPLIT) as writer:
        for start in range(0, len(matrix), ROW_GROUP):
            columns = np.ascontiguousarray(matrix[start : start + ROW_GROUP].T)
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))


def _read_parquet_columns(path: Path) -> np.ndarray:
    import pyarrow.parquet as pq

    return _as_matrix(pq.ParquetFile(path).read())


def _open_parquet(path: Path) -> Opened:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)

    def columns(chosen: Sequence[int]) -> np.ndarray:
        return _as_matrix(file.read(columns=[str(number) for number in chosen]))

    def rows(chosen: Sequence[int]) -> np.ndarray:
        groups = sorted({row // ROW_GROUP for row in chosen})
        within = [groups.index(row // ROW_GROUP) * ROW_GROUP + row % ROW_GROUP for row in chosen]
        return _as_matrix(file.read_row_groups(groups).take(within))

    return Opened(columns, rows, file.close)


def _as_matrix(table: Any) -> np.ndarray:
    found: np.ndarray = table.to_pandas().to_numpy()
    return found


def _write_hdf5_table(path: Path, table: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, column in columns_of(table).items():
            file.create_dataset(name, data=column, chunks=column.shape, compression="gzip")


def _read_hdf5_table(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        return _as_frame({name: file[name][()] for name in sorted(file, key=int)})


def _write_hdf5(path: Path, matrix: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("matrix", data=matrix, chunks=_chunk(matrix), compression="gzip", shuffle=True)


def _read_hdf5(path: Path) -> np.ndarray:
    import h5py

    with h5py.File(path) as file:
        found: np.ndarray = file["matrix"][()]
    return found


def _open_hdf5(path: Path) -> Opened:
    import h5py

    file = h5py.File(path)
    matrix = file["matrix"]
    return Opened(lambda columns: matrix[:, _span(columns)], lambda rows: matrix[list(rows)], file.close)


def _blosc(shuffle: str) -> Any:
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="zstd", clevel=5, shuffle=shuffle)


def _write_zarr_table(path: Path, table: Any) -> None:
    import zarr

    group = zarr.open_group(path, mode="w")
    for name, column in columns_of(table).items():
        # Text as a matrix of its bytes: zarr's own fixed-length text is not of the specification yet.
        plain = column.view(np.uint8).reshape(len(column), -1) if column.dtype.kind == "S" else column
        group.create_array(name, data=plain, chunks=plain.shape, compressors=_blosc("noshuffle"))


def _read_zarr_table(path: Path) -> Any:
    import zarr

    group = zarr.open_group(path, mode="r")
    found = {name: group[name][:] for name in sorted(group.array_keys(), key=int)}
    return _as_frame({name: a if a.ndim == 1 else a.view(f"S{a.shape[1]}")[:, 0] for name, a in found.items()})


def _write_zarr(path: Path, matrix: np.ndarray) -> None:
    import zarr

    zarr.create_array(path, data=matrix, chunks=_chunk(matrix), compressors=_blosc("shuffle"))


def _read_zarr(path: Path) -> np.ndarray:
    import zarr

    found: np.ndarray = zarr.open_array(path, mode="r")[:]
    return found


def _open_zarr(path: Path) -> Opened:
    import zarr

    matrix = zarr.open_array(path, mode="r")
    return Opened(lambda columns: matrix[:, _span(columns)], lambda rows: matrix.oindex[list(rows)])


def _span(columns: Sequence[int]) -> slice:
    """Columns side by side."""
    return slice(columns[0], columns[-1] + 1)


def _chunk(matrix: np.ndarray) -> tuple[int, int]:
    return min(CHUNK[0], matrix.shape[0]), min(CHUNK[1], matrix.shape[1])
