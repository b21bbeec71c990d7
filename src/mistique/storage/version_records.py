"""What is said of a version after it was captured: tags, notes, links to other tools, another name, that it is deleted.

Records like all others: appended, never changed, whole or not there. A run keeps the name that it was captured under in
all its records; another name is a record of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mistique.storage.record_cells import Order, Record
from mistique.storage.record_fields import expect, to_json

SAID, RENAMED = "said", "renamed"
# The action by which a run takes another number than the one it was captured with.
NUMBER = "number"
VersionId = tuple[str, str, int | None]  # model as captured, run, epoch
RunId = tuple[str, str]


@dataclass(frozen=True, slots=True)
class About:
    """What was said of a version.

    Parameters
    ----------
    tags : tuple of str
    notes : tuple of str
        Oldest first.
    links : mapping of str to str
        Names of other tools, ``mlflow``, to what they call it.
    """

    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


_NOTHING = About()


@dataclass(frozen=True, slots=True)
class Said:
    """A record of this file, parsed.

    Parameters
    ----------
    of : tuple of (str, str, int or None), optional
        The version. None: it is a rename.
    action : {"tag", "untag", "note", "link", "delete", "rename", "number"}
    name : str
        The tag, the other tool, the dataset that alone is deleted ("": all of them), or the new name.
    value : str
        The note, what the other tool calls it, or the number that its run takes.
    runs : tuple of (str, str)
        Those that are renamed.
    """

    of: VersionId | None
    action: str
    name: str = ""
    value: str = ""
    runs: tuple[RunId, ...] = ()


def said_record(of: VersionId, action: str, *, name: str = "", value: str = "") -> Record:
    """A record of something said of a version."""
    return Record(SAID, to_json({"of": of, "action": action, "name": name, "value": value}))


def renamed_record(runs: Iterable[RunId], to: str) -> Record:
    """A record of another name for some runs."""
    return Record(RENAMED, to_json({"runs": list(runs), "to": to}))


def said_of(record: Record) -> Said:
    """The inverse of both."""
    body = json.loads(record.body)
    if record.kind == RENAMED:
        expect(str, body["to"], *(text for run in body["runs"] for text in run))
        return Said(None, "rename", body["to"], runs=tuple((model, run) for model, run in body["runs"]))
    model, run, epoch = body["of"]
    expect(str, model, run, body["action"], body["name"], body["value"])
    expect(int, 0 if epoch is None else epoch)
    if body["action"] == NUMBER and not (body["value"].isascii() and body["value"].isdigit()):
        raise ValueError(f"number {body['value']!r}")
    return Said((model, run, epoch), body["action"], body["name"], body["value"])


class Saying:
    """All that was said, added up.

    Parameters
    ----------
    said : iterable of (Order, Said)
        Oldest first.
    """

    def __init__(self, said: Iterable[tuple[Order, Said]]) -> None:
        self._names: dict[RunId, str] = {}
        self._about: dict[VersionId, About] = {}
        self._deleted: dict[tuple[VersionId, str], Order] = {}
        self._numbers: dict[RunId, int] = {}
        for order, one in said:
            if one.of is None:
                self._names |= dict.fromkeys(one.runs, one.name)
            elif one.action == "delete":
                self._deleted[one.of, one.name] = order
            elif one.action == NUMBER:
                self._numbers[one.of[:2]] = int(one.value)
            else:
                self._about[one.of] = _with(self.about(one.of), one)

    def name_of(self, run: RunId) -> str:
        """What the model of a run is called now."""
        return self._names.get(run, run[0])

    def number_of(self, run: RunId, captured: int) -> int:
        """The number that a run takes, of which it was captured with another; 0: none."""
        return self._numbers.get(run, captured)

    def about(self, version: VersionId) -> About:
        """What was said of a version."""
        return self._about.get(version, _NOTHING)

    def is_deleted(self, version: VersionId, dataset: str, order: Order) -> bool:
        """Whether what was captured at `order` was deleted after it."""
        return any(order < self._deleted.get((version, name), order) for name in ("", dataset))


def _with(about: About, said: Said) -> About:
    if said.action == "note":
        return replace(about, notes=(*about.notes, said.value))
    if said.action == "link":
        return replace(about, links={**about.links, said.name: said.value})
    others = tuple(tag for tag in about.tags if tag != said.name)
    return replace(about, tags=(*others, said.name) if said.action == "tag" else others)
