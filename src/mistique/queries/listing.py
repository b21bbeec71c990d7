"""What a store holds, as a table; and one intermediate, in detail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mistique.planner.plan import format_nbytes
from mistique.queries.answer import html_table, text_table
from mistique.queries.selection import find
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

HEAD = ("version", "dataset", "rows", "intermediates", "raw", "stored", "ratio")


@dataclass(frozen=True)
class ListedCapture:
    """One version over one dataset.

    Parameters
    ----------
    version, dataset : str
    n_rows, n_intermediates : int
    raw_nbytes : int
        Of what is stored of it, as it was captured.
    stored_nbytes : int
        That it added to the store.
    """

    version: str
    dataset: str
    n_rows: int
    n_intermediates: int
    raw_nbytes: int
    stored_nbytes: int

    def cells(self) -> list[str]:
        """As a row of a table."""
        return [
            self.version,
            self.dataset,
            f"{self.n_rows:,}",
            str(self.n_intermediates),
            format_nbytes(self.raw_nbytes),
            format_nbytes(self.stored_nbytes),
            format_ratio(self.raw_nbytes, self.stored_nbytes),
        ]


@dataclass(frozen=True, repr=False)
class Listing:
    """The captures of a store.

    Parameters
    ----------
    uri : str
    captures : tuple of ListedCapture
    model_nbytes : int
        Of the kept models, each counted once, before compression.
    index_nbytes : int
        Of the indexes of layers.
    """

    uri: str
    captures: tuple[ListedCapture, ...]
    model_nbytes: int
    index_nbytes: int = 0

    @property
    def raw_nbytes(self) -> int:
        """Bytes of everything captured, as it came."""
        return sum(capture.raw_nbytes for capture in self.captures)

    @property
    def stored_nbytes(self) -> int:
        """Bytes of the segments that hold it."""
        return sum(capture.stored_nbytes for capture in self.captures)

    def lines(self) -> list[str]:
        """The table, and below it what it all comes to."""
        if not self.captures:
            return ["nothing yet: give a store to mistique.sklearn.Pipeline.set_capture, or to", _CALLBACK]
        return [*text_table(HEAD, [capture.cells() for capture in self.captures]), self._total()]

    def __repr__(self) -> str:
        return "\n".join([self._title(), *self.lines()])

    def _repr_html_(self) -> str:
        notes = [self._total()] if self.captures else self.lines()
        return html_table(self._title(), HEAD, [capture.cells() for capture in self.captures], notes)

    def _title(self) -> str:
        n_models = len({capture.version.partition("@")[0] for capture in self.captures})
        return f"{self.uri}: {n_models} model{'' if n_models == 1 else 's'}"

    def _total(self) -> str:
        indexes = f"; indexes: {format_nbytes(self.index_nbytes)}" if self.index_nbytes else ""
        return (
            f"{format_nbytes(self.raw_nbytes)} captured, {format_nbytes(self.stored_nbytes)} stored "
            f"({format_ratio(self.raw_nbytes, self.stored_nbytes)}); kept models: {format_nbytes(self.model_nbytes)}"
            f"{indexes}"
        )


_CALLBACK = "mistique.keras.MistiqueCallback, and fit"


def listing(store: Store) -> Listing:
    """What a store holds, from its catalog alone."""
    captures = []
    models: dict[str | None, int] = {}
    found = store.catalog.captures()
    for capture in found:
        models[capture.version.artifact] = capture.version.artifact_nbytes
        outline = capture.contents.outline
        captures.append(
            ListedCapture(
                f"{capture.version.model}@{capture.number}",
                capture.dataset,
                outline.n_rows,
                outline.n_intermediates,
                outline.raw_nbytes,
                outline.stored_nbytes,
            )
        )
    models.pop(None, None)
    index_nbytes = sum(capture.contents.index_nbytes for capture in found)
    return Listing(store.uri, tuple(captures), sum(models.values()), index_nbytes)


def facts_of(store: Store, key: str) -> list[tuple[str, Any]]:
    """What is known of one intermediate, from its catalog record."""
    capture, node = find(store, key)
    codec = ", ".join(f"{name}={value}" for name, value in node.codec.items() if name != "name")
    types = sorted({kind.dtype for kind in node.types})
    return [
        ("key", f"{capture.prefix}/{node.name}"),
        ("also", ", ".join(node.aliases)),
        ("what", f"{node.role}{f', {node.detail}' if node.detail else ''}"),
        ("computed from", "unknown" if node.parents is None else ", ".join(node.parents)),
        ("rows", f"{node.n_rows:,}"),
        ("shape of a row", " x ".join(map(str, node.shape)) or "one value"),
        ("types", ", ".join(types)),
        ("columns", "" if node.columns is None else ", ".join(node.columns)),
        ("codec", f"{node.codec['name']}{f' ({codec})' if codec else ''}"),
        ("stored", _stored(capture, node)),
        ("raw bytes", format_nbytes(node.raw_nbytes)),
        ("bytes it added", format_nbytes(node.stored_nbytes)),
        ("index", _index(capture, node)),
        ("forward time a row", f"{node.forward_seconds_per_row * 1e6:.3g} us"),
        ("recomputing", node.recompute_note or ("bit-equal" if node.recompute_difference == 0 else "")),
    ]


def _stored(capture: Capture, node: Intermediate) -> str:
    if node.name in capture.stored:
        return "yes"
    if node.derivation is not None and node.parents is not None and len(node.parents) == 1:
        return f"no: it follows from {node.parents[0]} ({node.derivation['op']})"
    return "no: it is recomputed when asked"


def _index(capture: Capture, node: Intermediate) -> str:
    if node.name not in capture.indexes:
        return ""
    _, index = capture.indexes[node.name]
    return f"{index.form}, {format_nbytes(index.encoded_nbytes)}"


def format_ratio(raw_nbytes: int, stored_nbytes: int) -> str:
    """How many times smaller."""
    return f"{raw_nbytes / stored_nbytes:.3g} x" if stored_nbytes else "all shared"
