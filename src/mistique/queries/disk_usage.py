"""The bytes of a store, intermediate by intermediate, indexes and what was counted apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistique.planner.plan import format_nbytes
from mistique.queries.answer import html_table, text_table

if TYPE_CHECKING:
    from mistique.store import Store

_HEAD = ("intermediate", "raw", "stored", "index", "sums")


@dataclass(frozen=True)
class Used:
    """The bytes of one intermediate.

    Parameters
    ----------
    key : str
    raw_nbytes : int
        Of its values, as they were captured.
    stored_nbytes : int
        That it added to the store; 0: it is not stored, or all of it is shared.
    index_nbytes : int
        Of its index; 0: it has none.
    tally_nbytes : int
        Of what was counted over its rows and kept.
    """

    key: str
    raw_nbytes: int
    stored_nbytes: int
    index_nbytes: int
    tally_nbytes: int


@dataclass(frozen=True, repr=False)
class DiskUsage:
    """The bytes of a store. Made by `disk_usage`, shown by ``mistique du URI``.

    Parameters
    ----------
    uri : str
    used : tuple of Used
        Of what is stored, or was counted and kept, the largest first.
    """

    uri: str
    used: tuple[Used, ...]

    @property
    def stored_nbytes(self) -> int:
        """Of all intermediates, without their indexes."""
        return sum(one.stored_nbytes for one in self.used)

    @property
    def index_nbytes(self) -> int:
        """Of all indexes."""
        return sum(one.index_nbytes for one in self.used)

    @property
    def tally_nbytes(self) -> int:
        """Of all that was counted and kept."""
        return sum(one.tally_nbytes for one in self.used)

    def lines(self) -> list[str]:
        """A table, and what it comes to."""
        figures = zip(_HEAD[2:], (self.stored_nbytes, self.index_nbytes, self.tally_nbytes), strict=True)
        return [*text_table(_HEAD, self._body()), "; ".join(f"{name}: {format_nbytes(n)}" for name, n in figures)]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return html_table(self.uri, _HEAD, self._body(), [self.lines()[-1]])

    def _body(self) -> list[list[str]]:
        counts = ((one.key, one.raw_nbytes, one.stored_nbytes, one.index_nbytes, one.tally_nbytes) for one in self.used)
        return [[key, *(format_nbytes(n) if n else "-" for n in nbytes)] for key, *nbytes in counts]


def disk_usage(store: Store) -> DiskUsage:
    """What each stored intermediate, each index and what was counted over rows takes, from the catalog alone."""
    used = []
    captures = store.catalog.captures()
    store.catalog.read(captures)
    for capture in captures:
        tallied = Counter[str]()
        for (name, _), (_, tally) in capture.tallies.items():
            tallied[name] += tally.encoded_nbytes
        for name in capture.stored | tallied.keys():
            node, found = capture.intermediates[name], capture.indexes.get(name)
            stored_nbytes = node.stored_nbytes if name in capture.stored else 0
            index_nbytes = found[1].encoded_nbytes if found else 0
            key = f"{capture.prefix}/{name}"
            used.append(Used(key, node.raw_nbytes, stored_nbytes, index_nbytes, tallied[name]))
    used.sort(key=lambda one: (-one.stored_nbytes - one.index_nbytes - one.tally_nbytes, one.key))
    return DiskUsage(store.uri, tuple(used))
