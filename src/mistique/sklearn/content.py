"""Digests of what a container holds: equal digest, equal values, in the same container, under the same names.

Cheaper by far than describing, encoding and digesting chunk by chunk: the buffers are read once, as they lie.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np

from mistique.sklearn.undisturbed import attempt
from mistique.storage.digests import digest_bytes


def content_digest(value: Any) -> str:
    """The digest of an array, a frame, a series or a sparse matrix; empty for what none can be given to.

    Notes
    -----
    How the values lie in memory counts too, since the last bits of what is computed from them may depend on it. So do
    the row labels of pandas, which a stage can read. A list has no digest: to read it is as slow as to capture it.

    Examples
    --------
    >>> ones = np.ones((3, 2))
    >>> content_digest(ones) == content_digest(ones.copy()), content_digest(ones) == content_digest(ones.T)
    (True, False)
    >>> content_digest([[1.0], [1.0]])
    ''
    """
    parts = attempt(lambda: _parts_of(value)).value
    return "" if parts is None else combined("content", *parts)


def combined(*parts: Any) -> str:
    """One digest of several facts: text, numbers, bytes, tuples of them, None."""
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _parts_of(value: Any) -> tuple[Any, ...] | None:
    if isinstance(value, np.ndarray):
        return _array_parts(value) if type(value) in (np.ndarray, np.memmap) and value.ndim <= 2 else None
    if hasattr(value, "tocsr") and getattr(value, "format", "") in ("csr", "csc"):
        kept = [_array_parts(part) for part in (value.data, value.indices, value.indptr)]
        return None if None in kept else (type(value).__name__, value.shape, *kept)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind == "pandas.Series" and type(value.name) in _NAMES:
        index, column = _index_parts(value.index), _column_parts(value)
        return None if index is None or column is None else (kind, value.name, index, column)
    if kind == "pandas.DataFrame":
        return _frame_parts(value)
    return None


_NAMES = (str, int, float, bool, type(None))


def _frame_parts(frame: Any) -> tuple[Any, ...] | None:
    names, index = list(frame.columns), _index_parts(frame.index)
    if index is None or any(type(name) not in _NAMES for name in names):
        return None
    dtypes = frame.dtypes.tolist()
    if is_matrix(dtypes):
        # One block read along its memory: column by column, each would be gathered across rows that are far apart.
        columns = [_array_parts(frame.to_numpy())]
    else:
        columns = [_column_parts(column) for _, column in frame.items()]
    return None if None in columns else ("frame", names, str(frame.columns.dtype), index, columns)


def is_matrix(dtypes: list[Any]) -> bool:
    """Whether columns of these types are those of one matrix: all alike, and numbers of NumPy's."""
    first = dtypes[0] if dtypes else None
    return isinstance(first, np.dtype) and first.kind in "biuf" and dtypes.count(first) == len(dtypes)


def _index_parts(index: Any) -> tuple[Any, ...] | None:
    if type(index).__name__ == "RangeIndex":
        return "range", index.start, index.stop, index.step, repr(index.name)
    if index.nlevels > 1:
        return None
    column = _column_parts(index.to_series())
    return None if column is None else (type(index).__name__, repr(index.name), column)


def _column_parts(column: Any) -> tuple[Any, ...] | None:
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return _array_parts(column.to_numpy())
    if hasattr(column, "cat"):
        categories, codes = _column_parts(column.cat.categories.to_series()), _array_parts(column.cat.codes.to_numpy())
        return None if categories is None or codes is None else ("category", column.cat.ordered, categories, codes)
    if not isinstance(dtype, np.dtype) and dtype.name in ("str", "string"):
        is_null = column.isna().to_numpy()
        lying = _arrow_parts(column)
        if lying is not None:
            return (repr(dtype), *lying, _memory(np.packbits(is_null).data))
        filled = _text_parts((column.fillna("") if is_null.any() else column).to_numpy(object))
        return None if filled is None else (repr(dtype), *filled, _memory(np.packbits(is_null).data))
    if isinstance(dtype, np.dtype):
        texts = _text_parts(column.to_numpy(object))
        return None if texts is None else (repr(dtype), *texts)
    return None


def _arrow_parts(column: Any) -> tuple[Any, ...] | None:
    """Texts as they lie in Arrow's memory: their lengths and bytes, part by part. None: they lie elsewhere."""
    if column.dtype.storage != "pyarrow":
        return None
    parts: list[Any] = []
    for chunk in column.array.__arrow_array__().chunks:
        width = {"large_string": np.int64, "string": np.int32}.get(str(chunk.type))
        if width is None:
            return None
        _, places, content = chunk.buffers()
        # An empty column may have no memory at all.
        ends = np.frombuffer(places, width)[chunk.offset : chunk.offset + len(chunk) + 1] if len(chunk) else np.zeros(1)
        texts = memoryview(content)[int(ends[0]) : int(ends[-1])] if content is not None else b""
        parts.append((len(chunk), _memory(np.diff(ends).astype(np.int64).view(np.uint8).data), _memory(texts)))
    return ("arrow", *parts)


def _text_parts(values: np.ndarray) -> tuple[Any, ...] | None:
    texts, nulls = values.tolist(), []
    try:
        joined = "\0".join(texts)
    except TypeError:
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                kind = type(text).__name__
                if not (text is None or kind == "NAType" or (kind == "float" and text != text)):
                    return None
                nulls.append((i, kind))
                texts[i] = ""
        joined = "\0".join(texts)
    # Text with a NUL of its own would be cut elsewhere; a lone surrogate has no UTF-8 and raises.
    return (len(texts), _memory(joined.encode()), nulls) if joined.count("\0") == len(texts) - 1 else None


def _array_parts(values: np.ndarray) -> tuple[Any, ...] | None:
    if values.dtype.kind == "O" or values.dtype.hasobject:
        texts = _text_parts(values.reshape(-1))
        return None if texts is None else ("O", values.shape, *texts)
    layout = "C" if values.flags.c_contiguous else "F" if values.flags.f_contiguous else str(values.strides)
    memory = np.ascontiguousarray(values.T if layout == "F" else values).reshape(-1).view(np.uint8)
    return values.dtype.str, values.shape, layout, _memory(memory.data)


def _memory(content: bytes | memoryview) -> tuple[Any, bytes]:
    # Whole words go without a copy; to pad them took three times as long as to read them.
    n_words_nbytes = len(content) // 32 * 32
    words = digest_bytes(memoryview(content)[:n_words_nbytes]) if n_words_nbytes else None
    return words, bytes(content[n_words_nbytes:])
