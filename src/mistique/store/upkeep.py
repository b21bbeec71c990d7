"""What keeps a store small and whole: the methods of a `Store` for it."""

from __future__ import annotations

import warnings
from dataclasses import replace

from mistique.dedup.compaction import Compaction, Compactor
from mistique.dedup.placement import Placement
from mistique.errors import BudgetError, CaptureWarning
from mistique.planner.budget import evict
from mistique.schema import Key
from mistique.storage.checking import look_through, look_twice
from mistique.storage.damage import Health
from mistique.storage.remains import Remains
from mistique.storage.repair import repair as repair_store
from mistique.store.rooms import Rooms, is_at_least


class Upkeep(Rooms):
    """The part of a `Store` that decides what stays stored, removes what nobody needs, and looks for damage."""

    def drop(self, key: str | Key) -> None:
        """Forget where an intermediate is stored; asked again, it is recomputed.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._check_writable(f"drop {key}")
        capture, intermediate = self._catalog.find(key)
        self._catalog.drop(capture, intermediate.name)

    def pin(self, key: str | Key) -> None:
        """Keep an intermediate stored, whatever the budget: it is stored the next time it is recomputed, if it is not.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._pin(key, is_pinned=True)

    def unpin(self, key: str | Key) -> None:
        """Let an intermediate go again when there is no room for it.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._pin(key, is_pinned=False)

    def evict(self, *, max_nbytes: float) -> list[str]:
        """Stop storing what saves least a byte, until what is in use takes no more than so many bytes.

        What was evicted is recomputed when it is asked for. Its bytes are freed by `compact`.

        Parameters
        ----------
        max_nbytes : float
            Of all chunks in use, the kept models, and what was counted over all rows and kept.

        Returns
        -------
        list of str
            The keys of what is no longer stored.

        Raises
        ------
        BudgetError
            What is left is pinned, or the last road to an answer; nothing was evicted.
        StoreReadOnlyError
        """
        if not is_at_least(0, max_nbytes):
            raise ValueError(f"max_nbytes: expected a number of bytes, at least 0, got {max_nbytes!r}")
        self._check_writable("evict")
        return evict(self, max_nbytes)

    def compact(self, *, grace_seconds: float = 3600) -> Compaction:
        """Merge small segments, keep once what was stored twice, and remove what no record refers to.

        Others can read and write meanwhile, and compact. What a compaction takes out of use stays for the grace period,
        for readers and captures that have begun before; a later compaction removes it. A damaged index of digests ends
        no compaction: one `CaptureWarning` says so.

        Parameters
        ----------
        grace_seconds : float, default 3600
            Longer than any capture takes. A capture that began before what it refers to was removed is not stored, and
            says so. Times of several hosts are compared: it should be longer than their clocks differ, too.

        Raises
        ------
        StoreReadOnlyError

        Examples
        --------
        >>> import mistique, tempfile
        >>> store = mistique.open(tempfile.mkdtemp() + "/homes.mistique")
        >>> store.compact().n_segments_removed
        0
        """
        self._check_writable("compact")
        self._usage.compact()
        compactor = self._compactor()
        done = compactor.run(self.uri, grace_seconds=grace_seconds)
        self._notice_moves()
        if compactor.index_failure is not None:
            warnings.warn(
                "the store is compacted, but its index of digests was left as it was, and captures may store again "
                f"what the store holds already: {compactor.index_failure}\n"
                f"mistique check {self.uri} --repair mends it if it is damaged; nothing has to be captured again",
                CaptureWarning,
                stacklevel=2,
            )
        return done

    def gc(self, *, grace_seconds: float = 3600) -> Compaction:
        """Remove what no record refers to, and write nothing again.

        What captures left that were killed, and what was dropped, goes when it is older than the grace period; what
        another process is writing is younger. A first call finds what is out of use, one after the grace period
        removes it.

        Parameters
        ----------
        grace_seconds : float, default 3600
            As in `compact`.

        Raises
        ------
        StoreReadOnlyError

        Examples
        --------
        >>> import mistique, tempfile
        >>> mistique.open(tempfile.mkdtemp() + "/homes.mistique").gc().n_segments_removed
        0
        """
        self._check_writable("gc")
        done = self._compactor().collect(self.uri, grace_seconds=grace_seconds)
        self._notice_moves()
        return done

    def check(self, *, repair: bool = False) -> Health:
        """Read all of the store and say what is damaged, what that costs, and what is whole.

        Parameters
        ----------
        repair : bool, default False
            Drop what is damaged, and nothing else, so that the rest opens and reads. It is looked at twice: what can be
            read the second time is not damaged.

        Raises
        ------
        StoreReadOnlyError
            It was opened to look only, and is to be repaired.
        StoreError
            It cannot be reached.

        Examples
        --------
        >>> import mistique, tempfile
        >>> mistique.open(tempfile.mkdtemp() + "/homes.mistique").check().is_whole
        True
        """
        self._check()
        if repair:
            self._check_writable("repair")
        self._usage.flush()
        found = look_twice(self._layout, self._ctx) if repair else look_through(self._layout, self._ctx)
        if found.health.is_whole or not repair:
            return found.health
        repair_store(found, self._layout, self._ctx, self._options)
        self.segments.close()
        self._open_rooms()
        return replace(found.health, is_repaired=True)

    def drop_index(self, key: str | Key) -> None:
        """Forget the index of an intermediate; its questions are answered as before there was one.

        Its bytes are freed by `compact`.

        Raises
        ------
        IntermediateNotFoundError, StoreReadOnlyError
        """
        self._check_writable(f"drop the index of {key}")
        capture, intermediate = self._catalog.find(key)
        self._catalog.drop_index(capture, intermediate.name)

    def has_room(self, nbytes: float, gamma: float, spared: str) -> bool:
        """Whether so many bytes more fit the budget, once what saves less a byte has gone."""
        if self.max_nbytes is None:
            return True
        try:
            evict(self, self.max_nbytes - nbytes, below_gamma=gamma, spared=spared)
        except BudgetError:
            return False
        return True

    def _hold_budget(self) -> None:
        """After a capture: what is over the budget goes; what cannot go is said."""
        if self.max_nbytes is None:
            return
        try:
            evict(self, self.max_nbytes)
        except BudgetError as error:
            warnings.warn(str(error), CaptureWarning, stacklevel=5)

    def _pin(self, key: str | Key, *, is_pinned: bool) -> None:
        self._check_writable(f"{'pin' if is_pinned else 'unpin'} {key}")
        capture, intermediate = self._catalog.find(key)
        self._catalog.pin(capture, intermediate.name, is_pinned=is_pinned)

    def _compactor(self) -> Compactor:
        return Compactor(
            self._catalog,
            self.segments,
            self._digests,
            Remains(self._layout, self._ctx),
            make_writer=self._make_writer,
            placement=Placement(),
        )
