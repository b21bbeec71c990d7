"""The bytes of a store, intermediate by intermediate, indexes apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mistique.planner.plan import format_nbytes
from mistique.queries.answer import html_table, text_table

if TYPE_CHECKING:
    from mistique.store import Store

_HEAD = ("intermediate", "raw", "stored", "index")


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
    """

    key: str
    raw_nbytes: int
    stored_nbytes: int
    index_nbytes: int


@dataclass(frozen=True, repr=False)
class DiskUsage:
    """The bytes of a store. Made by `disk_usage`, shown by ``mistique du URI``.

    Parameters
    ----------
    uri : str
    used : tuple of Used
        Of what is stored, the largest first.
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

    def lines(self) -> list[str]:
        """A table, and what it comes to."""
        total = f"stored: {format_nbytes(self.stored_nbytes)}; indexes: {format_nbytes(self.index_nbytes)}"
        return [*text_table(_HEAD, self._body()), total]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return html_table(self.uri, _HEAD, self._body(), [self.lines()[-1]])

    def _body(self) -> list[list[str]]:
        return [
            [one.key, *(format_nbytes(n) if n else "-" for n in (one.raw_nbytes, one.stored_nbytes, one.index_nbytes))]
            for one in self.used
        ]


def disk_usage(store: Store) -> DiskUsage:
    """What each stored intermediate and each index takes, from the catalog alone."""
    used = []
    captures = store.catalog.captures()
    store.catalog.read(captures)
    for capture in captures:
        for name in capture.stored:
            node, found = capture.intermediates[name], capture.indexes.get(name)
            index_nbytes = found[1].encoded_nbytes if found else 0
            used.append(Used(f"{capture.prefix}/{name}", node.raw_nbytes, node.stored_nbytes, index_nbytes))
    used.sort(key=lambda one: (-one.stored_nbytes - one.index_nbytes, one.key))
    return DiskUsage(store.uri, tuple(used))
