"""Units of indexes taken apart as docs/format.md has them: what the chunks of the layer give, and bounds of values."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import zstandard

from tests.reference.payload_reader import Bytes, cells_in, codes_in
from tests.reference.store_reader import Lies, StoreReader

RAW = {"name": "raw"}
_LISTED = 255


class IndexReader:
    """What another program makes of the index of a layer.

    Parameters
    ----------
    reader : StoreReader
    model, dataset, name : str
        Of the layer.
    """

    def __init__(self, reader: StoreReader, *, model: str, dataset: str, name: str) -> None:
        self.node, self.index, self._spans = reader.index(model=model, dataset=dataset, name=name)
        self._cell = np.dtype(self.node["types"][0]["cell"])
        *positions, _ = self.node["shape"]
        self._n_positions = int(np.prod(positions))
        assert all(len(span) == self.index["n_heads"] + self.index["n_units"] for span in self._spans)

    def values(self) -> np.ndarray:
        """The values of the layer, (n_columns, n_rows), as an index of codes or of cells has them."""
        read = {"codes": self._coded, "cells": self._cells}[self.index["form"]]
        return np.concatenate([read(number, span) for number, span in enumerate(self._spans)], axis=1)

    def largest(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest of the positions of each unit and row, and where it is: (n_units, n_rows)."""
        return self._pairs(self._maxima)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper bound of each value: (n_columns, n_rows)."""
        return self._pairs(self._bounds)

    def _pairs(self, read: Any) -> tuple[np.ndarray, np.ndarray]:
        found = [
            [read(self._unit(lies), self._n_rows(number)) for lies in span] for number, span in enumerate(self._spans)
        ]
        first, second = (
            np.concatenate([np.concatenate([unit[i] for unit in span]) for span in found], axis=1) for i in (0, 1)
        )
        return first, second

    def _n_rows(self, span: int) -> int:
        return int(min(self.index["span_rows"], self.node["n_rows"] - span * self.index["span_rows"]))

    def _unit(self, lies: Lies) -> Bytes:
        segment, unit, _ = lies
        kind, payload = segment.payload(unit)
        assert json.loads(kind["codec"]) == {"form": self.index["form"], "name": "index"}
        assert (kind["cell"], kind["is_table"]) == ("|u1", False)
        return Bytes(payload)

    def _cells(self, number: int, span: list[Lies]) -> np.ndarray:
        shape = self._n_positions, self._n_rows(number)
        return np.concatenate([cells_in(self._unit(lies).rest(), shape, RAW, self._cell) for lies in span])

    def _coded(self, number: int, span: list[Lies]) -> np.ndarray:
        """Each chunk of the layer put together again, of its head and of the codes of its units."""
        n_rows, n_heads = self._n_rows(number), self.index["n_heads"]
        codes = np.concatenate(
            [codes_in(self._unit(lies).content, (self._n_positions, n_rows)) for lies in span[n_heads:]]
        )
        block_rows, width = _block_rows(len(codes)), _group_columns(len(codes), self._n_positions)
        assert n_heads == -(-len(codes) // width)
        values = np.empty(codes.shape)
        for group, lies in enumerate(span[:n_heads]):
            heads = self._heads(self._unit(lies), -(-n_rows // block_rows))
            for block, head in enumerate(heads):
                here = np.s_[group * width : (group + 1) * width, block * block_rows : (block + 1) * block_rows]
                if self.node["codec"]["name"] == "kbit":
                    head = struct.pack("<BBHdd", 1, self.node["codec"]["bits"], len(head) // 8, 0.0, 0.0) + head
                payload = head + b"\1" + zstandard.compress(codes[here].tobytes())
                values[here] = cells_in(payload, codes[here].shape, self.node["codec"], self._cell)
        return values

    @staticmethod
    def _heads(found: Bytes, n_blocks: int) -> list[bytes]:
        (n_bytes,) = found.numbers("I")
        content = Bytes(zstandard.decompress(found.rest()))
        assert len(content.content) == n_bytes
        heads = [content.take(n) for n in content.numbers(f"{n_blocks}I")]
        assert not content.content
        return heads

    def _maxima(self, found: Bytes, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        first = found.take(*found.numbers("I"))
        narrowest = next(n for n in (1, 2, 4) if self._n_positions <= 2 ** (8 * n))
        places = cells_in(found.rest(), (1, n_rows), RAW, np.dtype(f"<u{narrowest}"))
        return cells_in(first, (1, n_rows), RAW, self._cell), places

    def _bounds(self, found: Bytes, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        width, n_numbers, n_packed = found.numbers("BII")
        sizes = np.array(found.numbers(f"{2 * self._n_positions}B")).reshape(-1, 2)
        content = Bytes(zstandard.decompress(found.take(n_packed)))
        numbers = Bytes(content.take(n_numbers * width))
        steps = np.frombuffer(content.rest(), "<u2")
        assert len(steps) == sizes[:, 0].sum()
        partitions = codes_in(found.rest(), (self._n_positions, n_rows))
        lower, upper = np.empty(partitions.shape), np.empty(partitions.shape)
        for position, (n_edges, n_often) in enumerate(sizes.tolist()):
            of_rows = partitions[position]
            n = 2 + n_often + (of_rows == _LISTED).sum()
            low, high, *values = np.frombuffer(numbers.take(n * width), f"<f{width}").astype(float).tolist()
            often, listed = values[:n_often], iter(values[n_often:])
            places = np.cumsum(steps[:n_edges]) % 2**16
            steps = steps[n_edges:]
            edges = [low, *(low + (high - low) * (place / 65_535) for place in places.tolist()), high]
            for row, partition in enumerate(of_rows.tolist()):
                if partition == _LISTED:
                    lower[position, row] = upper[position, row] = next(listed)
                elif partition <= n_edges:
                    lower[position, row], upper[position, row] = edges[partition : partition + 2]
                else:
                    lower[position, row] = upper[position, row] = often[_LISTED - 1 - partition]
        assert not numbers.content
        return lower, upper


def _block_rows(n_columns: int) -> int:
    n_rows = 1024
    while n_rows > 64 and n_rows * n_columns > 4 * 2**20:
        n_rows //= 2
    return n_rows


def _group_columns(n_columns: int, n_positions: int) -> int:
    width = max(2**16 // _block_rows(n_columns), 1)
    if n_positions <= width:
        return min(width // n_positions * n_positions, n_columns)
    return max((w for w in range(width // 4, 2 * width + 1) if n_positions % w == 0), default=width)
