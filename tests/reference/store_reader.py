"""A reader of stores, written from docs/format.md alone, with TileDB, NumPy and zstd."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import tiledb
import zstandard

from tests.reference.digest import digest
from tests.reference.payload_reader import cells_in

_HEAD = struct.Struct("<Q16s16sQQQQQQ32s")
_NO_KEY = bytes(16)
Order = tuple[int, bytes]
Record = tuple[Order, str, dict[str, Any], bytes]  # order, kind, body, attachment
Lies = tuple["Segment", int, int]


class StoreReader:
    """What another program makes of a store."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._records = [*sorted_records(f"{uri}/catalog")]
        self._removed = [body for _, kind, body, _ in self._records if kind == "removed"]
        self._moves: dict[str, list[_Move]] = defaultdict(list)
        for order, kind, body, attachment in self._records:
            if kind == "moved" and not self._is_void(order, {segment["id"] for segment in body["targets"]}):
                for move in _moves_in(body, attachment):
                    self._moves[move.source].append(move)
        self._segments: dict[str, Segment] = {}

    def intermediate(self, *, model: str, dataset: str, name: str) -> tuple[dict[str, Any], np.ndarray]:
        """The record of an intermediate of the newest capture of a model, and its cells, (n_columns, n_rows)."""
        _, _, (_, body, attachment) = self._newest(model, dataset, name)
        return body, self._values(json.loads(attachment))

    def index(self, *, model: str, dataset: str, name: str) -> tuple[dict[str, Any], dict[str, Any], list[list[Lies]]]:
        """The records of an intermediate and of its index, and of each span the heads and units, as they lie."""
        of, head, (stored, body, _) = self._newest(model, dataset, name)
        found = None
        for order, kind, said, attachment in self._records:
            if kind == "index" and said["of"] == of and said["index"]["name"] == name:
                is_of_these = (said["capture"], said["made_from"]) == (_named(head), _named(stored))
                if is_of_these and not self._is_void(order, set(said["uses"])):
                    found = said["index"], json.loads(attachment)
            elif kind == "no index" and (said["of"], said["index_of"]) == (of, name):
                found = None
        assert found is not None
        spans: dict[int, dict[int, Lies]] = defaultdict(dict)
        for span, number, said, unit, place in _places_in(found[1]):
            spans[span][number] = self._lies(said, unit, place)
        return body, found[0], [[row[i] for i in range(len(row))] for _, row in sorted(spans.items())]

    def tallies(self, *, model: str, dataset: str, name: str) -> dict[str, np.ndarray]:
        """Figures that were kept of an intermediate, by what they are of."""
        of, head, _ = self._newest(model, dataset, name)
        found = {}
        for _, kind, body, attachment in self._records:
            if (
                kind == "tally"
                and (body["of"], body["capture"]) == (of, _named(head))
                and body["tally"]["name"] == name
            ):
                figures = np.frombuffer(zstandard.decompress(attachment), "<f8")
                found[body["tally"]["what"]] = figures.reshape(body["tally"]["shape"])
        return found

    def _newest(
        self, model: str, dataset: str, name: str
    ) -> tuple[list[Any], Order, tuple[Order, dict[str, Any], bytes]]:
        """The newest capture of a model and its order; order, body and attachment of what says it is stored."""
        of, head, found = None, None, None
        for order, kind, body, attachment in self._records:
            if kind == "capture" and (body["version"]["model"], body["dataset"]) == (model, dataset):
                artifact = {body["version"]["artifact"]} - {None}
                if not self._is_void(order, {*body["uses"], *artifact}):
                    of, head = [model, body["version"]["run_id"], body["version"]["epoch"], dataset], order
            elif of is None or head is None or body.get("of") != of or body.get("name") != name:
                continue
            elif kind == "intermediate" or (kind == "stored" and body["capture"] == _named(head)):
                if kind == "intermediate" or not self._is_void(order, set(body["uses"])):
                    found = order, body, attachment
            elif kind == "drop":
                found = None
        assert of is not None
        assert head is not None
        assert found is not None
        return of, head, found

    def _values(self, references: dict[str, Any]) -> np.ndarray:
        said = references["segments"]
        dictionaries = {
            lies["group"]: self._column(said[lies["segment"]], lies["unit"], lies["place"])[0]
            for lies in references["dictionaries"]
        }
        chunks: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
        for block, group, segment, unit, place in _places_in(references):
            cells = self._column(segment, unit, place)
            chunks[block][group] = dictionaries[group][cells] if group in dictionaries else cells
        blocks = [[row[group] for group in sorted(row)] for _, row in sorted(chunks.items())]
        return np.concatenate([np.concatenate(_alike(row)) for row in blocks], axis=1)

    def _column(self, said: dict[str, Any], unit: int, place: int) -> np.ndarray:
        """The cells of a chunk, (n_columns, n_rows)."""
        segment, unit, place = self._lies(said, unit, place)
        return segment.chunk(unit, place)

    def _lies(self, said: dict[str, Any], unit: int, place: int) -> Lies:
        """Where a chunk lies now: segment, unit, place."""
        while True:
            for move in self._moves[said["id"]]:
                chunk = int(move.first_chunk[unit]) + place
                if move.targets[chunk] >= 0:
                    said = move.segments[move.targets[chunk]]
                    unit, place = int(move.units[chunk]), int(move.places[chunk])
                    break
            else:
                break
        if said["id"] not in self._segments:
            self._segments[said["id"]] = Segment(self._uri, said)
        return self._segments[said["id"]], unit, place

    def _is_void(self, order: Order, uses: set[str]) -> bool:
        counter, writer = order
        return any(uses & {*body["names"]} and body["seen"].get(writer.decode(), 0) < counter for body in self._removed)


class _Move:
    """Where the chunks of one segment went, of the words of a record."""

    def __init__(self, source: dict[str, Any], segments: list[dict[str, Any]], words: np.ndarray) -> None:
        n_units, n_chunks = source["n_units"], source["n_chunks"]
        self.source, self.segments = source["id"], segments
        self.first_chunk = np.concatenate([[0], np.cumsum(words[:n_units])])
        self.targets, units, self.places = words[n_units:].reshape(3, n_chunks)
        self.units = np.cumsum(units)


def _places_in(references: dict[str, Any]) -> Iterator[tuple[int, int, dict[str, Any], int, int]]:
    """Of each chunk: block, group, what is said of its segment, unit, place."""
    for run in references["runs"]:
        for i in range(run["n_blocks"]):
            for j in range(run["n_groups"]):
                unit = run["unit"] + i * run["block_step"] + j * run["group_step"]
                place = run["place"] + j * run["place_step"]
                yield run["block"] + i, run["group"] + j, references["segments"][run["segment"]], unit, place


def _named(order: Order) -> list[Any]:
    return [order[0], order[1].decode()]


def _alike(chunks: list[np.ndarray]) -> list[np.ndarray]:
    """Columns of several types as objects, times as their numbers."""
    if len({chunk.dtype for chunk in chunks}) == 1:
        return chunks
    return [(chunk.view(np.int64) if chunk.dtype.kind in "mM" else chunk).astype(object) for chunk in chunks]


def _moves_in(body: dict[str, Any], attachment: bytes) -> Iterator[_Move]:
    words = np.frombuffer(zstandard.decompress(attachment) if attachment else b"", np.int64)
    at = 0
    for source in body["sources"]:
        n = source["n_units"] + 3 * source["n_chunks"]
        yield _Move(source, body["targets"], words[at : at + n])
        at += n
    assert at == len(words)


def sorted_records(uri: str) -> Iterator[Record]:
    """Every record, oldest first."""
    with tiledb.open(uri, timestamp=(0, 2**63 - 1)) as array:
        cells = array[:]
    found: list[Record] = []
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
                found.append(((counter, writer), kind.rstrip(b"\0").decode(), json.loads(body), attachment[32:]))
    yield from sorted(found, key=lambda record: record[0])


class Segment:
    """A segment, read whole."""

    def __init__(self, uri: str, said: dict[str, Any]) -> None:
        with tiledb.open(f"{uri}/segments/{said['id']}", timestamp=(0, 2**63 - 1)) as array:
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

    def payload(self, unit: int) -> tuple[dict[str, Any], bytes]:
        """The kind of a unit, and what its codec made of it."""
        payload = self.content[self.offsets[unit] : self.offsets[unit] + self.n_bytes[unit]]
        assert digest(payload, _NO_KEY) == tuple(self.digests[unit].tolist())
        return self.kinds[self.kind[unit]], payload

    def chunk(self, unit: int, place: int) -> np.ndarray:
        """A chunk, (n_columns, n_rows): of a layer all of a unit, of a table one column."""
        kind, payload = self.payload(unit)
        n_columns, n_rows = self.shapes[unit].tolist()
        cells = cells_in(payload, (n_columns, n_rows), json.loads(kind["codec"]), np.dtype(kind["cell"]))
        return cells[place : place + 1] if kind["is_table"] else cells


def _bytes_of(cells: dict[str, np.ndarray], mask: np.ndarray) -> bytes:
    return bytes(cells["bytes"][mask][np.argsort(cells["position"][mask])].astype("S256").tobytes())


def _hex(content: bytes) -> bytes:
    return "{:016x}{:016x}".format(*digest(content, _NO_KEY)).encode()
