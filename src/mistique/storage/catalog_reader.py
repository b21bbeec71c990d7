"""A catalog as it is read: captures as nouns, found by keys and lineages, and where what they stored lies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from threading import RLock
from weakref import ReferenceType, ref

import numpy as np

from mistique.errors import IntermediateNotFoundError, StoreError
from mistique.schema import LATEST, Index, Intermediate, Key, References, Tally
from mistique.storage.captures import Capture, captures_of, claims_of, numbers_of
from mistique.storage.facts import CaptureId, Fact, fact_of, record_errors
from mistique.storage.facts_behind import FactsBehind
from mistique.storage.move_records import MOVED, REMOVED, REMOVING
from mistique.storage.moves import Moves
from mistique.storage.outlines import LINEAGE_DIGITS
from mistique.storage.record_cells import Order
from mistique.storage.records import RecordLog
from mistique.storage.version_records import RunId, Said, Saying
from mistique.storage.written_references import WrittenReferences


class CatalogReader:
    """Versions, datasets and intermediates of a store, kept in memory without their references.

    Records of captures and of what was said later are read at the first question, all of them; those of intermediates
    when their capture is asked about (docs/adr/0025).

    Attributes
    ----------
    moves : Moves
        What compactions moved and removed.
    """

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._facts: dict[Order, Fact] = {}
        self._captures: dict[CaptureId, Capture] = {}
        self._of_model: dict[str, list[Capture]] = {}
        self._of_capture: dict[CaptureId, list[tuple[Order, Fact]]] = defaultdict(list)
        self._touched: set[CaptureId] = set()
        self._said: list[tuple[Order, Said]] = []
        self._saying = Saying([])
        self._claims: dict[RunId, tuple[Order, int]] = {}
        self._numbers: dict[RunId, int] = {}
        self._of_lineage: dict[str, list[CaptureId]] | None = None
        self._behind = FactsBehind(log)
        self._written = WrittenReferences(log)
        self._translated: dict[Order, References] = {}
        self.moves = Moves(lambda order: log.attachments([order])[0])
        self._n_moves = 0  # that `_captures` are by
        self._leaving: list[tuple[ReferenceType[Capture], CaptureId, Order]] = []
        self._n_changes = -1  # of the log, which `_captures` are by
        self._lock = RLock()

    def refresh(self) -> None:
        """See what others have committed since."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        self._log.refresh()
        if (n_changes := self._log.n_changes) == self._n_changes:
            return
        for order, record in self._log.records(beside=self._facts):
            with record_errors(order, record):
                fact = fact_of(record)
                if record.kind in (MOVED, REMOVING, REMOVED):
                    self.moves.add(order, record)
                    self._translated.clear()
                elif fact.said is not None:
                    self._said.append((order, fact.said))
                else:
                    self._of_capture[fact.of].append((order, fact))
                    self._touched.add(fact.of)
            self._facts[order] = fact
        for of in self._touched:
            self._of_capture[of] = sorted(self._of_capture[of], key=itemgetter(0))
        self._saying = Saying(sorted(self._said, key=itemgetter(0)))
        self._claims = claims_of(self._of_capture, self._saying)
        self._numbers = numbers_of(self._claims, self._saying, self._numbers)
        # What a compaction removed may make any capture void.
        is_same = self.moves.n_records == self._n_moves
        known = {of: found for of, found in self._captures.items() if of not in self._touched} if is_same else {}
        found = captures_of(self._of_capture, self._numbers, self._saying, self.moves.is_void, self._behind.of, known)
        self._leaving += [(ref(old), of, old.order) for of, old in self._captures.items() if found.get(of) is not old]
        self._captures = found
        self._n_moves, self._of_lineage = self.moves.n_records, None
        self._touched.clear()
        self._of_model = defaultdict(list)
        for capture in self._captures.values():
            self._of_model[capture.version.model].append(capture)
        self._forget()
        self._n_changes = n_changes  # all of them were understood

    def _forget(self) -> None:
        """Of captures that were deleted or replaced, once nobody holds them, keep no more than their own records."""
        left = [(held(), (of, order)) for held, of, order in self._leaving]
        self._leaving = [(ref(capture), *which) for capture, which in left if capture is not None]
        present = {which for capture, which in left if capture is not None}
        for of, order in {which for capture, which in left if capture is None} - present:
            if of in self._captures and self._captures[of].order == order:
                continue
            orders = [*self._behind.forget(order), *(later for later, _ in self._of_capture[of])]
            self._written.forget(orders)
            for one in orders:
                self._translated.pop(one, None)

    def captures(self) -> list[Capture]:
        """Every capture, oldest run first."""
        self.refresh()
        return list(self._captures.values())

    def read(self, captures: Iterable[Capture]) -> None:
        """Read at once what is known of the intermediates of some captures; each is read when it is asked otherwise."""
        self._behind.read(dict.fromkeys(capture.order for capture in captures))

    def current(self, capture: Capture) -> Capture:
        """A capture with what was stored, dropped or pinned of it since it was found; as it is if it was replaced."""
        found = self._captures.get(capture.id)
        return found if found is not None and found.order == capture.order else capture

    def index(self, capture: Capture, name: str) -> Index | None:
        """The index of an intermediate, with its references; None: it has none.

        Raises
        ------
        StoreError
            Its record is damaged.
        """
        with self._lock:
            found = capture.indexes.get(name)
            if found is None:
                return None
            order, index = found
            if order not in self._translated:
                self._translated[order] = self.moves.translate(self._written.of_index(capture, name))
            return replace(index, references=self._translated[order])

    def sound_indexes(self, capture: Capture) -> dict[str, Index]:
        """The indexes of a capture, with their references, but for those whose record is damaged: others answer."""
        found = {}
        for name in capture.indexes:
            with suppress(StoreError):
                if (index := self.index(capture, name)) is not None:
                    found[name] = index
        return found

    def figures(self, capture: Capture, tally: Tally) -> np.ndarray:
        """The figures of a tally of a capture, (n_figures, n_columns), float64.

        Raises
        ------
        ChunkCorruptError
        """
        return self._written.figures(capture, tally)

    def find(self, key: Key | str) -> tuple[Capture, Intermediate]:
        """The capture and the intermediate that a key names.

        Raises
        ------
        IntermediateNotFoundError
            Naming the nearest model, version, dataset or intermediate.
        """
        return self.find_each([key])[0]

    def find_each(self, keys: Iterable[Key | str]) -> list[tuple[Capture, Intermediate]]:
        """As `find`, of several at one moment: ``latest`` is the same version for all."""
        self.refresh()
        wanted = map(Key.parse, keys)
        return [((capture := self._capture(key)), capture.resolve(key.intermediate)) for key in wanted]

    def find_capture(self, key: Key) -> Capture:
        """The capture that a key names: of ``latest``, the newest version that has the dataset."""
        self.refresh()
        return self._capture(key)

    def _capture(self, key: Key) -> Capture:
        of_version = self._of_version(key)
        found = [c for c in of_version if c.dataset == key.dataset]
        if not found:
            what = f"dataset of {key.model}@{key.version}:"
            raise IntermediateNotFoundError(what=what, name=key.dataset, known=[c.dataset for c in of_version])
        return found[-1]

    def held(self, lineage: str, is_wanted: Callable[[Intermediate], bool]) -> Intermediate | None:
        """A stored intermediate of that lineage that is wanted, with its references; None: there is none.

        Nobody reads or hashes what a lineage stands for, so only records that this user's key sealed are believed, and
        only moves that it sealed are followed.
        """
        with self._lock:
            self.refresh()
            for capture, name in self._with_lineage(lineage):
                if name in capture.stored and is_wanted(capture.intermediates[name]):
                    written = self._written.of(capture)[name]
                    if not self._written.were_sealed(capture.orders[name]):
                        continue
                    references = self.moves.translate(written, by_own=True)
                    is_gone = any(self.moves.is_gone(segment.id) for segment in references.segments)
                    if references.is_whole and not is_gone:
                        return replace(capture.intermediates[name], references=references)
            return None

    def derived(self, lineage: str) -> Intermediate | None:
        """An intermediate of that lineage that was not stored as it follows from another; None: there is none.

        By a record that this user's key sealed, as in `held`.
        """
        self.refresh()
        for capture, name in self._with_lineage(lineage):
            intermediate, order = capture.intermediates[name], capture.orders[name]
            is_left_out = name not in capture.stored and intermediate.derivation is not None
            if is_left_out and self._written.is_own(order, b""):
                return intermediate
        return None

    def references(self, capture: Capture) -> Mapping[str, References]:
        """Where the chunks of the stored intermediates of a capture lie, read at once and kept."""
        with self._lock:
            for name, references in self._written.of(capture).items():
                order = capture.orders[name]
                if order not in self._translated:
                    self._translated[order] = self.moves.translate(references)
            return {name: self._translated[capture.orders[name]] for name in capture.stored}

    def references_of(self, capture: Capture, name: str) -> References:
        """Where the chunks of one stored intermediate lie, whatever is wrong with the others of its capture."""
        with self._lock:
            return self.moves.translate(self._written.of(capture, [name])[name])

    def find_versions(self, text: str) -> list[Capture]:
        """The captures of the version that a text names, ``homes/ridge@2``; of ``latest``, of the newest alone.

        Raises
        ------
        InvalidKeyError, IntermediateNotFoundError
        """
        self.refresh()
        found = self._of_version(Key.parse_version(text))
        return [capture for capture in found if capture.number == found[-1].number]

    def runs_of(self, model: str) -> list[RunId]:
        """Every run that was captured as a model of that name, those that are deleted included."""
        self.refresh()
        heads = ((at, of[:2]) for of, facts in list(self._of_capture.items()) for at, fact in facts if fact.version)
        runs = dict.fromkeys(run for _, run in sorted(heads))
        return [run for run in runs if self._saying.name_of(run) == model]

    def _of_version(self, key: Key) -> list[Capture]:
        """The captures of a version, or of a run of them, by number, ``latest`` or tag."""
        of_model = self._of_model.get(key.model)
        if not of_model:
            raise IntermediateNotFoundError(what="model", name=key.model, known=self._of_model)
        found = [c for c in of_model if key.version in (LATEST, c.number, c.number.partition(".")[0])]
        found = found or [c for c in of_model if key.version in c.about.tags]
        if not found:
            known = [f"{key.model}@{c.number}" for c in of_model]
            raise IntermediateNotFoundError(what="version", name=f"{key.model}@{key.version}", known=known)
        return found

    def _with_lineage(self, lineage: str) -> Iterator[tuple[Capture, str]]:
        """The intermediates of that lineage, newest first."""
        if self._of_lineage is None:
            of_lineage: dict[str, list[CaptureId]] = defaultdict(list)
            for capture in self._captures.values():
                for beginning in capture.contents.lineages:
                    of_lineage[beginning].append(capture.id)
            self._of_lineage = of_lineage
        for of in reversed(self._of_lineage.get(lineage[:LINEAGE_DIGITS], [])):
            capture = self._captures[of]
            for name, intermediate in reversed([*capture.intermediates.items()]):
                if intermediate.lineage == lineage:
                    yield capture, name
