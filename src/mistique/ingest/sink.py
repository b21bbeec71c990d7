"""What a capture needs of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mistique.ingest.buffer import Buffered, SegmentBuffer
from mistique.schema import Intermediate, Version
from mistique.storage.artifacts import Artifact
from mistique.storage.captures import Capture as Committed


class Sink(Protocol):
    """What a capture needs of a store."""

    def check(self) -> None:
        """Raise `StoreClosedError` if the store was closed, or a fork carried it into another process."""

    def held(self, lineage: str, is_wanted: Callable[[Intermediate], bool]) -> Intermediate | None:
        """An intermediate of that lineage that the store holds and that is wanted, with its references."""

    def derived(self, lineage: str) -> Intermediate | None:
        """An intermediate of that lineage that was not stored as it follows from another."""

    def pays(self, intermediate: Intermediate, *, row_seconds: float, row_nbytes: float) -> bool:
        """Whether storing it is predicted to pay, if running the model for a row of it takes so long."""

    def buffer(self) -> SegmentBuffer:
        """A buffer whose segments lie in the store."""

    def keep(self, artifact: Artifact) -> str:
        """Put an artifact; its digest."""

    def commit(
        self, version: Version, dataset: str, intermediates: Sequence[Intermediate], buffered: Buffered
    ) -> Committed:
        """Make the capture seen."""
