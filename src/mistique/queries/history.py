"""What came from what: the versions of a store, and how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mistique.errors import IntermediateNotFoundError
from mistique.queries.answer import html_table, text_table
from mistique.queries.selection import catalog_of
from mistique.schema import ROW_LABEL, Version, escape_path
from mistique.storage.captures import Capture
from mistique.storage.catalog import Catalog
from mistique.storage.version_records import About

if TYPE_CHECKING:
    from mistique.store import Store

HEAD = ("version", "began", "datasets", "of", "tags")


@dataclass(frozen=True)
class ListedVersion:
    """One version of a model.

    Parameters
    ----------
    name : str
        ``homes/ridge@2``.
    version : Version
    captures : mapping of str to Capture
        By dataset.
    about : About
        Its tags, notes and links.
    """

    name: str
    version: Version
    captures: Mapping[str, Capture]
    about: About

    @property
    def label(self) -> str:
        """Which candidate and fold of a search it is; empty for others."""
        source = self.version.source
        fold = source.get("fold", "")
        parts = [source.get("searched", ""), fold if fold in ("", "all rows") else f"fold {fold}"]
        return ", ".join(part for part in parts if part)

    def cells(self) -> list[str]:
        """As a row of a table."""
        began = self.version.began.replace("T", " ")[:16]
        return [self.name, began, ", ".join(self.captures), self.label, ", ".join(self.about.tags)]


@dataclass(frozen=True, repr=False)
class Models(Sequence[ListedVersion]):
    """The versions of a store, oldest first within each model. Made by `Store.models`."""

    versions: tuple[ListedVersion, ...]

    def __getitem__(self, position: Any) -> Any:
        return self.versions[position]

    def __len__(self) -> int:
        return len(self.versions)

    def to_frame(self) -> Any:
        """A pandas frame: a row for each version, a column for each parameter that differs between them."""
        import pandas as pd

        params = _varying([one.version.params for one in self.versions])
        rows = [
            {
                "began": one.version.began,
                "datasets": ", ".join(one.captures),
                **{name: one.version.source.get(name, "") for name in ("searched", "fold", "candidate")},
                "tags": ", ".join(one.about.tags),
                "notes": "\n".join(one.about.notes),
                **one.about.links,
                **{name: one.version.params.get(name, "") for name in params},
            }
            for one in self.versions
        ]
        return pd.DataFrame(rows, index=pd.Index([one.name for one in self.versions], name="version"))

    def __repr__(self) -> str:
        return "\n".join(text_table(HEAD, [one.cells() for one in self.versions]))

    def _repr_html_(self) -> str:
        return html_table(f"{len(self)} versions", HEAD, [one.cells() for one in self.versions], [])


@dataclass(frozen=True, repr=False)
class Difference:
    """How the second of two versions differs from the first. Made by `diff`.

    Parameters
    ----------
    first, second : str
    params : mapping of str to (str, str)
        Those that differ; empty text for one that it has not.
    stages : mapping of str to {"same", "changed", "added", "removed", "unknown"}
        By the lineage of their values, over the datasets that both have.
    states : mapping of str to {"same", "changed", "added", "removed"}
        Whether what each stage or layer has learned differs.
    environment : mapping of str to (str, str)
        Versions of libraries that differ.
    """

    first: str
    second: str
    params: Mapping[str, tuple[str, str]]
    stages: Mapping[str, str]
    states: Mapping[str, str]
    environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """A line for each parameter and library, and one for each state of stages and weights."""
        found = [f"{name}: {a or '-'} -> {b or '-'}" for name, (a, b) in {**self.params, **self.environment}.items()]
        for what, states in (("values", self.stages), ("weights", self.states)):
            for state in ("same", "changed", "added", "removed", "unknown"):
                names = [name for name, one in states.items() if one == state]
                if names:
                    found.append(f"{what} {state}: {', '.join(names)}")
        return found

    def __repr__(self) -> str:
        return "\n".join([f"{self.first} -> {self.second}", *(f"  {line}" for line in self.lines())])


def models_of(catalog: Catalog, model: str | None = None) -> Models:
    """The versions of a store, or of one model of it."""
    grouped: dict[tuple[str, str], list[Capture]] = {}
    for capture in catalog.captures():
        if model is None or capture.version.model == model:
            grouped.setdefault((capture.version.model, capture.number), []).append(capture)
    order = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in grouped))}
    listed = [
        ListedVersion(
            f"{escape_path(name)}@{number}", captures[0].version, {c.dataset: c for c in captures}, captures[0].about
        )
        for (name, number), captures in grouped.items()
    ]
    return Models(tuple(sorted(listed, key=lambda one: order[one.version.model])))


# What `states` tells for each layer.
_BY_LAYER = ("keras_weights",)


def diff(store: Store, version: str, *, other: str) -> Difference:
    """How another version differs from one: in parameters, values of stages, weights by layer, libraries.

    Parameters
    ----------
    store : Store
    version, other : str
        Such as ``homes/ridge@1`` and ``homes/ridge@latest``; of one model or of two.

    Returns
    -------
    Difference

    Raises
    ------
    IntermediateNotFoundError
        Naming the nearest version.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mistique.sklearn import Pipeline
    >>> store = mistique.open(tempfile.mkdtemp() + "/s.mistique")
    >>> pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="demo/ridge")
    >>> for alpha in (1.0, 10.0):
    ...     _ = pipe.set_params(ridge__alpha=alpha).fit(np.arange(6.0).reshape(3, 2), np.arange(3.0))
    >>> mistique.diff(store, "demo/ridge@1", other="demo/ridge@2")
    demo/ridge@1 -> demo/ridge@2
      ridge__alpha: 1.0 -> 10.0
      values same: input, target, scale
      values changed: prediction
      weights same: scale
      weights changed: prediction
    """
    sides = [catalog_of(store).find_versions(name) for name in (version, other)]
    names = [f"{escape_path(side[0].version.model)}@{side[0].number}" for side in sides]
    a, b = (side[0].version for side in sides)
    return Difference(
        names[0],
        names[1],
        params=_changed(a.params, b.params),
        stages=_stages(*sides),
        states=_compared({k: (v,) for k, v in a.states.items()}, {k: (v,) for k, v in b.states.items()}),
        environment=_changed(*({k: v for k, v in side.environment.items() if k not in _BY_LAYER} for side in (a, b))),
    )


def log_lines(store: Store, model: str | None = None) -> list[str]:
    """The history of a store, as lines: each version, and how it differs from the one of its model before it."""
    lines: list[str] = []
    before: ListedVersion | None = None
    for one in models_of(store.catalog, model):
        rows = [f"{name} ({capture.contents.outline.n_rows:,} rows)" for name, capture in one.captures.items()]
        facts = [one.version.began.replace("T", " ")[:16], ", ".join(rows), one.label]
        tags = f"  [{', '.join(one.about.tags)}]" if one.about.tags else ""
        lines.append("  ".join([one.name, *(fact for fact in facts if fact)]) + tags)
        if before is not None and before.version.model == one.version.model:
            lines += [f"    {line}" for line in diff(store, before.name, other=one.name).lines()]
        else:
            names = list(dict.fromkeys(name for c in one.captures.values() for name in c.intermediates))
            lines.append(f"    {' -> '.join(name for name in names if name not in (ROW_LABEL, 'target'))}")
        told = before.version.artifact_note if before is not None else ""
        if one.version.artifact_note not in ("", told):
            lines.append(f"    model: {one.version.artifact_note}")
        lines += [f"    note: {note}" for note in one.about.notes]
        lines += [f"    {tool}: {run}" for tool, run in one.about.links.items()]
        before = one
    if model is not None and not lines:
        known = [one.version.model for one in models_of(store.catalog)]
        raise IntermediateNotFoundError(what="model", name=model, known=known)
    return lines or ["nothing was captured yet"]


def _varying(params: Sequence[Mapping[str, str]]) -> list[str]:
    names = dict.fromkeys(name for one in params for name in one)
    return [name for name in names if len({one.get(name) for one in params}) > 1]


def _changed(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    names = dict.fromkeys([*a, *b])
    return {name: (a.get(name, ""), b.get(name, "")) for name in names if a.get(name) != b.get(name)}


def _stages(first: Sequence[Capture], second: Sequence[Capture]) -> dict[str, str]:
    """Over the datasets that both have; if there is none, over all."""
    shared = {c.dataset for c in first} & {c.dataset for c in second}
    sides: list[dict[str, tuple[str, ...]]] = []
    for captures in (first, second):
        values: dict[str, tuple[str, ...]] = {}
        for capture in captures:
            if capture.dataset in shared or not shared:
                for name, node in capture.intermediates.items():
                    if name != ROW_LABEL:
                        values[name] = (*values.get(name, ()), node.lineage)
        sides.append(values)
    return _compared(*sides)


def _compared(a: Mapping[str, tuple[str, ...]], b: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    states = {}
    for name in dict.fromkeys([*a, *b]):
        if name not in a or name not in b:
            states[name] = "added" if name in b else "removed"
        elif "" in (*a[name], *b[name]):
            states[name] = "unknown"
        else:
            states[name] = "same" if a[name] == b[name] else "changed"
    return states
