"""Records of which one field makes no sense, their digests right: whoever reads them says so, in an error of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mistique
from mistique.errors import ChunkCorruptError, MistiqueError, StoreError
from mistique.storage.checking import _why_no_fact, _why_no_usage
from mistique.storage.facts import fact_of, record_errors
from mistique.storage.record_bodies import references_in
from mistique.storage.record_cells import Order, Record
from mistique.storage.record_fields import to_json
from mistique.storage.usage import UsageLog
from mistique.store import Store
from tests.storage.hostile import ABSURD, OUTSIDE, make_store

VERSION = "lab/model@1.2"
KINDS = ("capture", "intermediate", "pin", "index", "drop", "said", "renamed", "moved", "removing", "removed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a record of each kind; nobody changes it."""
    return make_store(tmp_path_factory.mktemp("forged") / "s.mistique")


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    """A copy of it."""
    shutil.copytree(whole, tmp_path / "s.mistique")
    return mistique.open(tmp_path / "s.mistique")


def distorted(value: Any) -> Iterator[Any]:
    """A body again and again, each time with something else in the place of one thing in it."""
    yield from (*ABSURD, *OUTSIDE)
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            kept = value[key]
            for other in distorted(kept):
                value[key] = other
                yield value
            value[key] = kept


def records_of(store: Store) -> list[tuple[Order, Record]]:
    log = store._catalog._log
    log.refresh()
    found = log.records()
    behind = log.behind([order for order, record in found if record.kind == "capture"])
    return [*found, *(item for items in behind for item in items)]


def test_whatever_stands_in_a_record_it_is_understood_or_refused(whole: Path) -> None:
    with mistique.open(whole, mode="r") as store:
        found = records_of(store)
    assert {record.kind for _, record in found} == set(KINDS)
    for kind in KINDS:
        order, record = next(item for item in found if item[1].kind == kind)
        for body in distorted(json.loads(record.body)):
            forged = Record(kind, to_json(body), record.attachment)
            _why_no_fact(order, forged)
            try:
                with record_errors(order, forged):
                    hash(fact_of(forged).of)
            except ChunkCorruptError as error:
                assert f"record {order.counter}" in str(error)  # noqa: PT017  most of them are understood


def test_whatever_stands_in_references_they_are_understood_or_refused(whole: Path) -> None:
    with mistique.open(whole, mode="r") as store:
        capture, _ = store.catalog.find(f"{VERSION}/train/table")
        contents = store._catalog._log.attachments(list(capture.orders.values()))
    n_refused = 0
    for content in contents:
        for body in distorted(json.loads(content)):
            try:
                references_in(to_json(body), "here")
            except ChunkCorruptError:
                n_refused += 1
    assert n_refused > 100


def test_json_without_end_is_refused() -> None:
    with pytest.raises(ChunkCorruptError):
        references_in(b"[" * 100_000, "here")


def forge(store: Store, name: str, *, attachment: bytes | None = None, **fields: Any) -> str:
    """Capture again what a version holds, with other fields or references of one intermediate; its key."""
    with mistique.open(store.uri) as theirs:
        capture, _ = theirs.catalog.find(f"{VERSION}/train/{name}")
        log = theirs._catalog._log
        orders = list(capture.orders.values())
        contents = dict(zip(orders, log.attachments(orders), strict=True))
        behind = []
        for order, content in contents.items():
            body = json.loads(log.record(order).body)
            is_it = body["name"] == name
            changed = attachment if is_it and attachment is not None else content
            behind.append(Record("intermediate", to_json({**body, **(fields if is_it else {})}), changed))
        log.append([log.record(capture.order)], behind=behind)
    return f"{VERSION}/train/{name}"


@pytest.mark.parametrize("name", ["table", "layer", "coded"])
@pytest.mark.parametrize(
    "fields",
    [{"n_rows": 2**31}, {"n_rows": 41}, {"n_rows": 2**39}, {"shape": [2**31]}, {"shape": [2**20, 2**20]}],
)
def test_rows_and_columns_that_nothing_stored_bears_out_are_refused(
    store: Store, name: str, fields: dict[str, Any]
) -> None:
    if "shape" in fields:
        fields = {**fields, "columns": None}
    key = forge(store, name, **fields)
    with pytest.raises(StoreError):
        mistique.get(store, key, rows=slice(0, 2))
    with pytest.raises(StoreError):
        mistique.get(store, key)
    assert not store.check().is_whole


def test_rows_of_what_is_not_stored_are_not_believed_either(store: Store) -> None:
    key = forge(store, "layer", n_rows=2**39, is_stored=False)
    with pytest.raises(MistiqueError):
        mistique.get(store, key)


def test_cells_that_are_no_cells_are_refused(store: Store) -> None:
    types = [{"dtype": "float32", "cell": "O", "is_nullable": False, "categories": None, "is_ordered": False}]
    key = forge(store, "layer", types=types)
    with pytest.raises(ChunkCorruptError, match="cells of 'O'"):
        mistique.get(store, key)


def test_dictionaries_that_are_none_are_refused_and_named(store: Store) -> None:
    content = to_json({"segments": [], "runs": [], "dictionaries": [[]]})
    key = forge(store, "table", attachment=content)
    with pytest.raises(ChunkCorruptError, match="runs of chunks"):
        mistique.get(store, key)
    assert [damage.kind for damage in store.check().damages] == ["references"]


def test_advice_that_makes_no_sense_is_none(store: Store) -> None:
    forged = {"host": store._usage._host, "seen": [["read", "raw", [1.0], 0.1, 0.1]], "asked": []}
    log = store._usage._log
    for body in distorted(forged):
        assert isinstance(_why_no_usage(Order(1, "w"), Record("usage", to_json(body))), str)
    log.append(
        [Record("usage", to_json({**forged, "seen": seen})) for seen in ([["read"]], None, [["read", [], 1, 1, 1]])]
    )
    log.append([Record("usage", to_json(forged))])
    observations, _ = UsageLog(log, is_writable=False).load()
    assert [observation.kind for observation in observations][-1] == "read"
    assert np.isfinite(mistique.get(store, f"{VERSION}/train/layer").values).all()
