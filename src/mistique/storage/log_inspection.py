"""A log of records looked at record by record, when a read of all of it fails: what is damaged, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, MistiqueError
from mistique.storage.damage import Damage
from mistique.storage.fragments import (
    alone,
    fresh_schema,
    has_schema,
    list_commits,
    remove_fragments,
    replace_schema,
)
from mistique.storage.options import damage_as_error
from mistique.storage.records import Order, Record, attachment_from, create_records, record_at, write_records

# Reads of damaged ranges of one fragment; then what is left of it is given up.
_MAX_FAILURES = 5_000
_HEAD = ("kind", "body", "check")

# Why a record makes no sense, or nothing.
IsUnsound = Callable[[Order, Record], str]


class InspectedLog:
    """What can be read of a log; a `Catalog` takes it for a `RecordLog`.

    Parameters
    ----------
    uri : str
    ctx : tiledb.Ctx
    kind : str
        Of its damages.
    is_unsound : callable
        Says why a record makes no sense, or nothing.
    """

    def __init__(self, uri: str, ctx: tiledb.Ctx, kind: str, is_unsound: IsUnsound) -> None:
        self._uri, self._ctx, self._kind, self._is_unsound = uri, ctx, kind, is_unsound
        self.damages: list[Damage] = []
        self._records: dict[Order, Record] = {}
        self._lost_attachments: set[Order] = set()
        self._left: dict[str, list[Order]] = {}  # of each damaged fragment
        self._schema: bytes | None = None
        self.is_missing = tiledb.object_type(uri, ctx=ctx) != "array"
        if self.is_missing:
            self._say(uri, "there is no such array")
            return
        if not has_schema(uri, ctx):
            self._schema = fresh_schema(create_records, ctx)
            self._say("schema", "it cannot be read")
        try:
            self._take_all()
        except MistiqueError:
            self._records.clear()
            for commit in sorted(list_commits(uri, ctx)):
                if not commit.endswith(".vac"):
                    self._inspect(commit)

    @property
    def uri(self) -> str:
        """Of the array."""
        return self._uri

    def refresh(self) -> bool:
        """Nothing is new: it was read once."""
        return False

    def records(self) -> list[tuple[Order, Record]]:
        """Those that can be read, oldest first; their attachments are apart."""
        return sorted(self._records.items(), key=lambda item: item[0])

    def record(self, order: Order) -> Record:
        """One of them."""
        return self._records[order]

    def attachments(self, orders: Sequence[Order]) -> list[bytes]:
        """The attachments of some records.

        Raises
        ------
        ChunkCorruptError
            One cannot be read.
        """
        for order in orders:
            if order in self._lost_attachments or order not in self._records:
                where = f"{self._uri}, record {order.counter}"
                raise ChunkCorruptError(where=where, expected="an attachment", got="none that can be read")
        return [self._records[order].attachment for order in orders]

    def repair(self) -> None:
        """Write what is left of the damaged fragments again, in its places, then take these away.

        An attachment that is lost stays lost: the record has an empty one.
        """
        if self.is_missing:
            create_records(self._uri, self._ctx)
            return
        if self._schema is not None:
            replace_schema(self._uri, self._schema, self._ctx)
        kept = {order for orders in self._left.values() for order in orders}
        if kept:
            write_records(self._uri, self._ctx, [(order, self._records[order]) for order in sorted(kept)])
        remove_fragments(self._uri, self._left, self._ctx)

    def _take_all(self) -> None:
        with damage_as_error(self._uri, "readable records"), tiledb.open(self._uri, "r", ctx=self._ctx) as array:
            cells = array.query(attrs=[*_HEAD, "attachment"])[:]
            for i in range(len(cells["counter"])):
                order, record = record_at(cells, i, uri=self._uri)
                attachment = attachment_from(bytes(cells["attachment"][i]), order, uri=self._uri)
                whole = Record(record.kind, record.body, attachment)
                if why := self._is_unsound(order, whole):
                    raise ValueError(why)
                self._records[order] = whole

    def _inspect(self, commit: str) -> None:
        """Take what can be read of one fragment."""
        before, found = len(self.damages), []
        try:
            with (
                alone(self._uri, commit, self._ctx, schema=self._schema) as uri,
                damage_as_error(f"fragment {commit}", "a readable fragment"),
                tiledb.open(uri, "r", ctx=self._ctx) as array,
            ):
                if array.nonempty_domain() is None:
                    raise ValueError("no records in it")
                low, high = (int(end) for end in array.nonempty_domain()[0])
                attachments = self._attachments(array, commit, low, high)
                found = list(self._heads(array, commit, low, high, attachments))
        except MistiqueError as error:
            self._say(f"fragment {commit}", str(error))
        if len(self.damages) > before:
            self._left[commit] = found

    def _heads(
        self, array: tiledb.SparseArray, commit: str, low: int, high: int, attachments: Mapping[Order, bytes]
    ) -> Iterator[Order]:
        for cells in self._parts(array, _HEAD, low, high, f"records of fragment {commit}"):
            for i in range(len(cells["counter"])):
                counter = int(cells["counter"][i])
                try:
                    order, record = record_at(cells, i, uri=self._uri)
                    record = Record(record.kind, record.body, attachments.get(order, b""))
                    why = self._is_unsound(order, record)
                except MistiqueError as error:
                    why = str(error)
                except UnicodeDecodeError:
                    why = "bytes that are no text"
                if why:
                    self._say(f"record {counter}", why)
                    continue
                if order not in attachments:
                    self._lost_attachments.add(order)
                self._records[order] = record
                yield order

    def _attachments(self, array: tiledb.SparseArray, commit: str, low: int, high: int) -> dict[Order, bytes]:
        found: dict[Order, bytes] = {}
        for cells in self._parts(array, ("attachment",), low, high, f"attachments of fragment {commit}"):
            for i in range(len(cells["counter"])):
                try:
                    order = Order(int(cells["counter"][i]), bytes(cells["writer"][i]).decode())
                    found[order] = attachment_from(bytes(cells["attachment"][i]), order, uri=self._uri)
                except (MistiqueError, UnicodeDecodeError) as error:
                    self._say(f"attachment of record {int(cells['counter'][i])}", str(error))
        return found

    def _parts(
        self, array: tiledb.SparseArray, attrs: Sequence[str], low: int, high: int, what: str
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """The cells of a range of counters, in halves of halves where it cannot be read at once."""
        waiting, lost, n_failures = [(low, high)], [], 0
        why = ""
        while waiting:
            first, last = waiting.pop()
            try:
                yield array.query(attrs=list(attrs)).multi_index[first:last, :]
            except (tiledb.TileDBError, ValueError, MemoryError, OverflowError) as error:
                n_failures += 1
                why = str(error)
                if first == last or n_failures > _MAX_FAILURES:
                    lost.append((first, last))
                else:
                    middle = (first + last) // 2
                    waiting += [(middle + 1, last), (first, middle)]
        if lost:
            self._say(what, f"{len(lost)} ranges cannot be read, the first {lost[0]}: {why}")

    def _say(self, where: str, what: str) -> None:
        self.damages.append(Damage(self._kind, where, what))
