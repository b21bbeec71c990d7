"""The catalog: what was captured, as nouns. Its records are the commit point."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mistique.errors import ChunkCorruptError, IntermediateNotFoundError
from mistique.schema import LATEST, ColumnType, Intermediate, Key, References, Run, Segment, Version
from mistique.storage.records import Order, Record, RecordLog

CaptureId = tuple[str, str, int | None, str]  # model, run, epoch, dataset


@dataclass(frozen=True)
class Capture:
    """What one commit holds: the intermediates of one version over one dataset, in the order of the model.

    `references` of an `Intermediate` are not loaded here; `Catalog.references` reads them by need.
    """

    version: Version
    dataset: str
    number: str
    intermediates: Mapping[str, Intermediate]
    orders: Mapping[str, Order]
    stored: frozenset[str]

    @property
    def prefix(self) -> str:
        """The keys of its intermediates begin with this."""
        return str(Key(self.version.model, self.number, self.dataset, "x"))[:-2]

    def resolve(self, name: str) -> Intermediate:
        """The intermediate with that name, alias, or position in the model (``-1`` is the prediction).

        Raises
        ------
        IntermediateNotFoundError
            Naming the nearest.
        """
        if name in self.intermediates:
            return self.intermediates[name]
        for intermediate in self.intermediates.values():
            if name in intermediate.aliases:
                return intermediate
        steps = [i for i in self.intermediates.values() if i.role in ("input", "stage", "prediction")]
        if name.lstrip("-").isdigit() and -len(steps) <= int(name) < len(steps):
            return steps[int(name)]
        aliases = [alias for i in self.intermediates.values() for alias in i.aliases]
        what = f"intermediate in {self.prefix}:"
        raise IntermediateNotFoundError(what=what, name=name, known=[*self.intermediates, *aliases])


class Catalog:
    """Versions, datasets and intermediates of a store, kept in memory without their references."""

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._captures: dict[CaptureId, Capture] = {}
        self._references: dict[Order, References] = {}
        self._is_loaded = False

    def refresh(self) -> None:
        """See what others have committed since."""
        if self._log.refresh() or not self._is_loaded:
            self._captures = _captures(self._log.records())
            self._is_loaded = True

    def captures(self) -> list[Capture]:
        """Every capture, oldest run first."""
        self.refresh()
        return list(self._captures.values())

    def commit(self, version: Version, dataset: str, intermediates: Sequence[Intermediate]) -> Capture:
        """Make a capture seen, whole and at once."""
        head = {"version": asdict(version), "dataset": dataset}
        records = [Record("capture", _json(head))]
        capture_id = _capture_id(version, dataset)
        for intermediate in intermediates:
            body = {"of": capture_id, "is_stored": intermediate.is_stored, **_intermediate_json(intermediate)}
            attachment = _json(asdict(intermediate.references)) if intermediate.references is not None else b""
            records.append(Record("intermediate", _json(body), attachment))
        self._log.append(records)
        self._is_loaded = False
        self.refresh()
        return self._captures[capture_id]

    def drop(self, capture: Capture, name: str) -> None:
        """Forget where an intermediate is stored; it can still be recomputed."""
        body = {"of": _capture_id(capture.version, capture.dataset), "name": name}
        self._log.append([Record("drop", _json(body))])
        self._is_loaded = False
        self.refresh()

    def find(self, key: Key | str) -> tuple[Capture, Intermediate]:
        """The capture and the intermediate that a key names.

        Raises
        ------
        IntermediateNotFoundError
            Naming the nearest model, version, dataset or intermediate.
        """
        wanted = Key.parse(key)
        capture = self.find_capture(wanted)
        return capture, capture.resolve(wanted.intermediate)

    def find_capture(self, key: Key) -> Capture:
        """The capture that a key names: of ``latest``, the newest version that has the dataset."""
        captures = self.captures()
        of_model = [c for c in captures if c.version.model == key.model]
        if not of_model:
            raise IntermediateNotFoundError(what="model", name=key.model, known=[c.version.model for c in captures])
        of_version = [c for c in of_model if key.version in (LATEST, c.number, c.number.partition(".")[0])]
        if not of_version:
            known = [f"{key.model}@{c.number}" for c in of_model]
            raise IntermediateNotFoundError(what="version", name=f"{key.model}@{key.version}", known=known)
        found = [c for c in of_version if c.dataset == key.dataset]
        if not found:
            known = [c.dataset for c in of_version]
            what = f"dataset of {key.model}@{key.version}:"
            raise IntermediateNotFoundError(what=what, name=key.dataset, known=known)
        return found[-1]

    def references(self, capture: Capture, intermediate: Intermediate) -> References | None:
        """Where the chunks of an intermediate lie; None when it is not stored."""
        if intermediate.name not in capture.stored:
            return None
        order = capture.orders[intermediate.name]
        if order not in self._references:
            content = self._log.attachment(order)
            try:
                self._references[order] = _references(json.loads(content))
            except (KeyError, TypeError, ValueError) as error:
                raise ChunkCorruptError(
                    where=f"references of {intermediate.name}", expected="runs", got=str(error)
                ) from error
        return self._references[order]


def _captures(records: list[tuple[Order, Record]]) -> dict[CaptureId, Capture]:
    """The newest capture of each version and dataset, in the order of runs and epochs."""
    bodies = [(order, record.kind, json.loads(record.body)) for order, record in records]
    run_numbers: dict[str, dict[str, int]] = {}
    heads: dict[CaptureId, tuple[Order, Version]] = {}
    parts: dict[CaptureId, dict[str, tuple[Order, Intermediate]]] = {}
    stored: dict[CaptureId, set[str]] = {}
    for order, kind, body in bodies:
        if kind == "capture":
            version = Version(**body["version"])
            runs = run_numbers.setdefault(version.model, {})
            runs.setdefault(version.run_id, len(runs) + 1)
            capture_id = _capture_id(version, body["dataset"])
            heads[capture_id], parts[capture_id], stored[capture_id] = (order, version), {}, set()
    for order, kind, body in bodies:
        capture_id = tuple(body.get("of", ()))
        if capture_id not in heads or order < heads[capture_id][0]:
            continue
        if kind == "intermediate" and order.writer == heads[capture_id][0].writer:
            intermediate = _intermediate(body)
            parts[capture_id][intermediate.name] = order, intermediate
            if body["is_stored"]:
                stored[capture_id].add(intermediate.name)
        elif kind == "drop":
            stored[capture_id].discard(body["name"])
    captures = {}
    for capture_id, (_, version) in heads.items():
        run = run_numbers[version.model][version.run_id]
        captures[capture_id] = Capture(
            version,
            capture_id[3],
            f"{run}" if version.epoch is None else f"{run}.{version.epoch}",
            {name: intermediate for name, (_, intermediate) in parts[capture_id].items()},
            {name: order for name, (order, _) in parts[capture_id].items()},
            frozenset(stored[capture_id]),
        )

    def age(item: tuple[CaptureId, Capture]) -> tuple[Any, ...]:
        version = item[1].version
        return run_numbers[version.model][version.run_id], version.epoch or 0, heads[item[0]][0]

    return dict(sorted(captures.items(), key=age))


def _capture_id(version: Version, dataset: str) -> CaptureId:
    return version.model, version.run_id, version.epoch, dataset


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _intermediate_json(intermediate: Intermediate) -> dict[str, Any]:
    return {**asdict(replace(intermediate, references=None)), "codec": dict(intermediate.codec)}


def _intermediate(body: dict[str, Any]) -> Intermediate:
    fields = {name: value for name, value in body.items() if name not in ("of", "is_stored")}
    fields["types"] = tuple(
        ColumnType(**{**kind, "categories": None if kind["categories"] is None else tuple(kind["categories"])})
        for kind in fields["types"]
    )
    for name in ("shape", "columns", "aliases", "parents"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    return Intermediate(**fields)


def _references(body: dict[str, Any]) -> References:
    return References(
        tuple(Segment(**segment) for segment in body["segments"]), tuple(Run(**run) for run in body["runs"])
    )
