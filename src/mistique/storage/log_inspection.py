"""A log of records looked at record by record, when a read of all of it fails: what is damaged, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, MistiqueError
from mistique.storage.damage import Damage
from mistique.storage.fragments import (
    ALL_TIME,
    alone,
    fresh_schema,
    has_schema,
    list_commits,
    refuse_passed_over,
    remove_fragments,
    replace_schema,
)
from mistique.storage.options import damage_as_error, translated
from mistique.storage.record_cells import (
    ATTACHMENTS,
    BEHIND,
    HEADS,
    Found,
    Order,
    Record,
    attachment_in,
    batches_of,
    cells_at,
    records_behind,
    records_in,
)
from mistique.storage.records import create_records, write_records
from mistique.storage.soundness import refuse_unsound

# Reads of damaged ranges of one fragment; then what is left of it is given up.
_MAX_FAILURES = 5_000

_Batch = tuple[int, np.ndarray, np.ndarray]

# Why a record makes no sense, or nothing.
IsUnsound = Callable[[Order, Record], str]
# A record as it should be, given what is left of those behind it.
Mend = Callable[[Record, Sequence[Record]], Record]


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
    mend : callable, optional
        What a repair makes of a record behind which some are lost.
    """

    def __init__(
        self, uri: str, ctx: tiledb.Ctx, kind: str, is_unsound: IsUnsound, mend: Mend = lambda record, _: record
    ) -> None:
        self._uri, self._ctx, self._kind, self._is_unsound, self._mend = uri, ctx, kind, is_unsound, mend
        self.damages: list[Damage] = []
        self._records: dict[Order, Record] = {}
        self._behind: dict[Order, list[Order]] = {}
        self._lost_attachments: set[Order] = set()
        self._left: dict[str, list[Order]] = {}  # of each damaged fragment
        self._schema: bytes | None = None
        self.n_changes = 0
        self.is_missing = tiledb.object_type(uri, ctx=ctx) != "array"
        if self.is_missing:
            self._say(uri, "there is no such array")
            return
        if not has_schema(uri, ctx):
            self._schema = fresh_schema(create_records, ctx)
            self._say("schema", "it cannot be read")
        try:
            if self._schema is not None:
                raise ChunkCorruptError(where=uri, expected="a schema", got="none that can be read")
            self._take_all()
        except MistiqueError:
            self._records.clear()
            self._behind.clear()
            for commit in sorted(list_commits(uri, ctx)):
                if not commit.endswith(".vac"):
                    self._inspect(commit)

    @property
    def uri(self) -> str:
        """Of the array."""
        return self._uri

    def refresh(self) -> None:
        """Nothing is new: it was read once."""

    def records(self, *, beside: Container[Order] = ()) -> list[tuple[Order, Record]]:
        """Those that can be read but some and those that lie behind others, oldest first."""
        return [(order, self._records[order]) for order in sorted(self._behind) if order not in beside]

    def record(self, order: Order) -> Record:
        """One of them."""
        return self._records[order]

    def behind(self, orders: Sequence[Order]) -> list[list[tuple[Order, Record]]]:
        """What can be read of the records behind some."""
        return [[(one, self._records[one]) for one in self._behind[order]] for order in orders]

    def forget(self, order: Order) -> None:
        """Nothing is forgotten: it was read once."""

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
            with translated(self._uri, "make anew"):
                create_records(self._uri, self._ctx)
            return
        if self._schema is not None:
            replace_schema(self._uri, self._schema, self._ctx)
        kept = {order for orders in self._left.values() for order in orders}
        if kept:
            orders = sorted(kept)
            behind = dict(zip(orders, self.behind(orders), strict=True))
            heads = [
                (order, self._mend(self._records[order], [record for _, record in behind[order]])) for order in orders
            ]
            write_records(self._uri, self._ctx, heads, behind)
        remove_fragments(self._uri, self._left, self._ctx)

    def _take_all(self) -> None:
        refuse_unsound(self._uri, contents=False)
        refuse_passed_over(self._uri, self._ctx)
        with (
            damage_as_error(self._uri, "readable records"),
            tiledb.open(self._uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array,
        ):
            cells = array[:]
            part = cells["part"]
            heads, behind, attached = (
                [*batches_of({name: found[part == which] for name, found in cells.items()})]
                for which in (HEADS, BEHIND, ATTACHMENTS)
            )
            self._take(heads, behind, attached)
        if self.damages:
            raise ChunkCorruptError(where=self._uri, expected="records", got=self.damages.pop().what)

    def _inspect(self, commit: str) -> None:
        """Take what can be read of one fragment."""
        before, found = len(self.damages), []
        try:
            with (
                alone(self._uri, commit, self._ctx, schema=self._schema) as uri,
                damage_as_error(f"fragment {commit}", "a readable fragment"),
            ):
                refuse_unsound(uri, contents=False)
                refuse_passed_over(uri, self._ctx)
                with tiledb.open(uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array:
                    if array.nonempty_domain() is None:
                        raise ValueError("no records in it")
                    heads = self._cells(array, HEADS, f"records of fragment {commit}")
                    behind = self._cells(array, BEHIND, f"records behind others of fragment {commit}")
                    attached = self._cells(array, ATTACHMENTS, f"attachments of fragment {commit}")
                    found = self._take(heads, behind, attached)
        except MistiqueError as error:
            self._say(f"fragment {commit}", str(error))
        if len(self.damages) > before:
            self._left[commit] = found

    def _take(self, heads: Sequence[_Batch], behind: Sequence[_Batch], attached: Sequence[_Batch]) -> list[Order]:
        """Take the records of some batches; those that lie behind no other."""
        inner, rest = ({batch: rest for batch, *rest in part} for part in (behind, attached))
        taken: list[Order] = []
        for batch in heads:
            for head in self._readable(records_in(*batch), f"records of batch {batch[0]:x}"):
                if not self._take_one(head, rest):
                    continue
                taken.append(head.order)
                what = f"records behind record {head.order.counter}"
                try:
                    cells = cells_at(inner, head.behind)  # type: ignore[arg-type]
                except ValueError as error:
                    self._say(what, str(error))
                    cells = None
                found = self._readable(records_behind(head, cells), what) if cells is not None else ()
                self._behind[head.order] = [one.order for one in found if self._take_one(one, rest)]
        return taken

    def _readable(self, records: Iterator[Found], what: str) -> Iterator[Found]:
        """Records up to the first that is damaged."""
        try:
            yield from records
        except MistiqueError as error:
            self._say(what, str(error))

    def _take_one(self, found: Found, attached: Mapping[int, Sequence[np.ndarray]]) -> bool:
        """Take a record, with its attachment; false: it makes no sense."""
        order, is_lost = found.order, False
        try:
            attachment = attachment_in(order, found.attachment, cells_at(attached, found.attachment))  # type: ignore[arg-type]
        except (MistiqueError, ValueError) as error:
            self._say(f"attachment of record {order.counter}", str(error))
            attachment, is_lost = b"", True
        whole = Record(found.record.kind, found.record.body, attachment)
        if why := self._is_unsound(order, whole):
            self._say(f"record {order.counter}", why)
            return False
        self._lost_attachments |= {order} if is_lost else set()
        self._records[order] = whole
        return True

    def _cells(self, array: tiledb.SparseArray, part: int, what: str) -> list[_Batch]:
        """The batches of one part, found by halves of halves where they cannot be read at once."""
        low, high = (int(end) for end in array.nonempty_domain()[1])
        found: list[_Batch] = []
        waiting, n_lost, n_failures, why = [(low, high)], 0, 0, ""
        while waiting:
            first, last = waiting.pop()
            try:
                found += batches_of(array.multi_index[part, first:last, :])
            except (tiledb.TileDBError, ValueError, MemoryError, OverflowError) as error:
                n_failures, why = n_failures + 1, str(error)
                if first == last or n_failures > _MAX_FAILURES:
                    n_lost += 1
                else:
                    middle = (first + last) // 2
                    waiting += [(middle + 1, last), (first, middle)]
        if n_lost:
            self._say(what, f"{n_lost} ranges cannot be read: {why}")
        return found

    def _say(self, where: str, what: str) -> None:
        self.damages.append(Damage(self._kind, where, what))
