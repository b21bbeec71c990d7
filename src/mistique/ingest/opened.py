"""One intermediate of a capture while its rows come in: what is known of it, and the rows that fill no block yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from mistique.codecs import Codec, Pool, Raw, stored_form
from mistique.ingest.summarizing import summarized
from mistique.schema import ColumnType, Intermediate

RAW = Raw()


@dataclass
class Opened:
    """An intermediate while its rows come in.

    Parameters
    ----------
    intermediate : Intermediate
        As known so far.
    codec : Codec
    keep : bool
        Its values are stored.
    is_derived : bool
        They are not, as they follow from those of its parent.
    """

    intermediate: Intermediate
    codec: Codec
    keep: bool
    is_derived: bool = False
    waiting: list[np.ndarray] = field(default_factory=list)
    n_waiting: int = 0
    n_blocks: int = 0

    @property
    def is_answered(self) -> bool:
        """Without the model: its values are kept, held already, or follow from such."""
        return self.keep or self.is_derived or self.intermediate.is_stored

    def codec_for(self, column_type: ColumnType) -> Codec:
        """What encodes such columns: its codec, after a pool that of the pooled values; raw if it cannot."""
        codec = self.codec.values_codec if isinstance(self.codec, Pool) else self.codec
        return codec if codec.applies_to(column_type) else RAW

    def wait(self, cells: np.ndarray) -> None:
        """Keep rows until they fill a block; nobody may change them any more."""
        self.waiting.append(cells)
        self.n_waiting += len(cells)

    def as_stored(self, cells: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The next rows as they are cut into blocks: pooled, or as they are; a copy of what the caller could change."""
        if not isinstance(self.codec, Pool):
            return _unchanging(cells, values)
        node = self.intermediate
        pooled, error = summarized(self.codec, cells, node.types[0])
        self.intermediate = replace(node, summary_error=max(node.summary_error, error))
        return pooled

    def blocks(self, *, is_whole: bool) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Number and rows of the blocks that are full; at the end, with `is_whole` false, the last one too."""
        node = stored_form(self.intermediate)
        while self.n_waiting >= (node.block_rows if is_whole else 1):
            rows: list[np.ndarray] = []
            missing = node.block_rows
            while missing and self.waiting:
                piece = self.waiting.pop(0)
                rows.append(piece[:missing])
                if len(piece) > missing:
                    self.waiting.insert(0, piece[missing:])
                missing -= len(rows[-1])
            self.n_waiting -= node.block_rows - missing
            self.n_blocks += 1
            yield self.n_blocks - 1, rows


def _unchanging(parts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`parts`, of the memory of `values` or not: as it is if nobody can change it, else a copy."""
    is_own = not np.shares_memory(parts, values) if values.flags.writeable else True
    return parts if is_own else parts.copy()
