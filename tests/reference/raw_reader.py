"""A reader of numbers and texts kept by `raw`, written from docs/format.md alone, with TileDB, NumPy and zstd."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import tiledb
import zstandard

from tests.reference.digest import digest

_HEAD = struct.Struct("<Q16s16sQQQQQQ32s")
_NO_KEY, _BLOCK_ROWS = bytes(16), 4096


def columns(uri: str, *, model: str, dataset: str, name: str) -> np.ndarray:
    """The table of that name of the newest capture of a model, of shape (n_columns, n_rows)."""
    of, found = None, None
    for kind, body, attachment in sorted_records(f"{uri}/catalog"):
        if kind == "capture" and (body["version"]["model"], body["dataset"]) == (model, dataset):
            of = [model, body["version"]["run_id"], body["version"]["epoch"], dataset]
        if kind == "intermediate" and body["of"] == of and body["name"] == name:
            found = body, json.loads(attachment)
    assert found is not None
    node, references = found
    cell = node["types"][0]["cell"]
    table = np.zeros((node["shape"][0], node["n_rows"]), object if cell == "<U0" else cell)
    segments = [Segment(uri, segment) for segment in references["segments"]]
    values = {v["group"]: segments[v["segment"]].column(v["unit"], v["place"]) for v in references["dictionaries"]}
    for run in references["runs"]:
        for i in range(run["n_blocks"]):
            for j in range(run["n_groups"]):
                unit = run["unit"] + i * run["block_step"] + j * run["group_step"]
                cells = segments[run["segment"]].column(unit, run["place"] + j * run["place_step"])
                group, start = run["group"] + j, (run["block"] + i) * _BLOCK_ROWS
                table[group, start : start + len(cells)] = values[group][cells] if group in values else cells
    return table


def sorted_records(uri: str) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Kind, body and attachment of every record, oldest first."""
    with tiledb.open(uri) as array:
        cells = array[:]
    found = []
    for batch in np.unique(cells["batch"]):
        parts = [_bytes_of(cells, (cells["batch"] == batch) & (cells["part"] == part)) for part in (0, 1, 2)]
        waiting = [parts[0][8 : 8 + struct.unpack_from("<Q", parts[0])[0]]]
        while waiting:
            content = waiting.pop()
            while content:
                counter, writer, kind, n_body, _, *places, check = _HEAD.unpack_from(content)
                body = content[_HEAD.size : _HEAD.size + n_body]
                assert _hex(content[: _HEAD.size - 32] + body) == check
                content = content[_HEAD.size + n_body :]
                behind, attachment = (
                    part[256 * first : 256 * first + n]
                    for part, first, n in zip(parts[1:], places[::2], places[1::2], strict=True)
                )
                waiting += [behind] * bool(behind)
                if attachment:
                    signed = b"|".join([str(counter).encode(), writer, b"attachment", attachment[32:]])
                    assert _hex(signed) == attachment[:32]
                found.append((counter, writer, kind.rstrip(b"\0").decode(), json.loads(body), attachment[32:]))
    for _, _, kind, body, attachment in sorted(found, key=lambda record: record[:2]):
        yield kind, body, attachment


class Segment:
    """A segment, read whole."""

    def __init__(self, uri: str, said: dict[str, Any]) -> None:
        with tiledb.open(f"{uri}/segments/{said['id']}") as array:
            ((_, last),) = array.nonempty_domain()
            self.content = array.query(attrs=["bytes"])[0 : int(last) + 1]["bytes"].tobytes()
        part = said["units"]
        packed = self.content[part["offset"] : part["offset"] + part["n_bytes"]]
        assert _hex(packed).decode() == part["digest"]
        kinds, _, numbers = zstandard.decompress(packed).partition(b"\0")
        n = said["n_units"]
        table = np.frombuffer(numbers, np.int64)
        self.kinds = json.loads(kinds)
        self.offsets, self.n_bytes, self.kind = np.cumsum(table[:n]), table[n : 2 * n], table[2 * n : 3 * n]
        self.shapes = table[3 * n : 5 * n].reshape(n, 2)
        self.digests = table[5 * n :].view(np.uint64).reshape(n, 2)

    def column(self, unit: int, place: int) -> np.ndarray:
        """The cells of one column of a unit."""
        payload = self.content[self.offsets[unit] : self.offsets[unit] + self.n_bytes[unit]]
        assert digest(payload, _NO_KEY) == tuple(self.digests[unit].tolist())
        return _raw(payload, *self.shapes[unit].tolist(), np.dtype(self.kinds[self.kind[unit]]["cell"]))[place]


def _raw(payload: bytes, n_columns: int, n_rows: int, cell: np.dtype) -> np.ndarray:
    how, payload = payload[0], payload[1:]
    if how == 0:
        return np.full((n_columns, n_rows), np.frombuffer(payload, cell)[0])
    if how == 3:
        return _texts(payload, n_columns, n_rows)
    assert how == 1, "floats are for others to read"
    assert n_columns <= 16
    heads = [struct.unpack_from("<BBQQ", payload, 1 + 18 * i) for i in range(n_columns)]
    rest = payload[1 + 18 * n_columns :]
    rest = rest if payload[0] else zstandard.decompress(rest)
    found = np.empty((n_columns, n_rows), cell)
    at = 0
    for column, (method, n_bytes, base, first) in enumerate(heads):
        is_whole, method = bool(method & 8), method & ~8
        assert method < 8, "images are for others to read"
        n_numbers = {0: 0, 4: n_rows - 1}.get(method, n_rows)
        n = n_numbers * (cell.itemsize if method in (1, 2) else n_bytes)
        part, at = np.frombuffer(rest[at : at + n], np.uint8), at + n
        if method == 0:
            cells = np.full(n_rows, base, np.uint64)
        elif method == 1:
            cells = part.view(f"<u{cell.itemsize}").astype(np.uint64)
        else:
            cells = np.full(n_numbers, base if method > 2 else 0, np.uint64)
            for i, plane in enumerate(part.reshape(-1, n_numbers).astype(np.uint64)):
                cells += plane << np.uint64(8 * i)
            if method == 4:
                cells = np.uint64(first) + np.concatenate([np.zeros(1, np.uint64), np.cumsum(cells)])
        if is_whole:
            found[column] = cells.view(np.int64).astype(cell)
        else:
            found[column] = cells.astype(f"<u{cell.itemsize}").view(cell)
    assert at == len(rest)
    return found


def _texts(payload: bytes, n_columns: int, n_rows: int) -> np.ndarray:
    n_written, width, _ = struct.unpack_from("<IBQ", payload)
    content, n_cells = zstandard.decompress(payload[13:]), n_columns * n_rows
    numbers = np.frombuffer(content[: width * n_cells], f"<u{width}") if width else np.arange(n_cells)
    lengths = np.frombuffer(content[width * n_cells :][: 4 * n_written], "<u4")
    ends = width * n_cells + 4 * n_written + np.cumsum(lengths)
    written = [content[end - n : end].decode() for end, n in zip(ends.tolist(), lengths.tolist(), strict=True)]
    return np.array([written[number] for number in numbers.tolist()], object).reshape(n_columns, n_rows)


def _bytes_of(cells: dict[str, np.ndarray], mask: np.ndarray) -> bytes:
    return bytes(cells["bytes"][mask][np.argsort(cells["position"][mask])].astype("S256").tobytes())


def _hex(content: bytes) -> bytes:
    return "{:016x}{:016x}".format(*digest(content, _NO_KEY)).encode()
