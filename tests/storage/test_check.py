"""`Store.check` finds and names every kind of damage; a repair drops what is damaged and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import ChunkCorruptError, MistiqueError, StoreError, StoreReadOnlyError
from mistique.queries.listing import listing
from mistique.storage.artifacts import Artifact
from mistique.storage.record_cells import Record
from mistique.storage.record_fields import to_json
from tests.capturing import capturing, put, put_layer, references_of
from tests.storage.test_compaction import ask

N_ROWS = 200
LAYER, CODED, TABLE = (f"lab/model@1.1/train/{name}" for name in ("layer", "coded", "table"))
KEPT = "lab/other@1/train/stage"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with tables, layers, a quantized layer and a model at two epochs, and a table of another model."""
    path = tmp_path_factory.mktemp("check") / "s.mistique"
    table = pd.DataFrame(
        {"n": np.arange(N_ROWS) % 9 * 1.5, "t": pd.array(["a", "bb", None, ""] * (N_ROWS // 4), dtype="str")}
    )
    with mistique.open(path) as store:
        for epoch in (1, 2):
            with capturing(store, run_id="0" * 32, epoch=epoch) as capture:
                capture.set_labels([f"r{i}" for i in range(N_ROWS)])
                capture.add("table", table)
                capture.append("layer", np.random.default_rng(epoch).normal(size=(N_ROWS, 700)).astype(np.float32))
                capture.append("coded", np.random.default_rng(epoch + 9).normal(size=(N_ROWS, 70)), codec="power")
                capture.keep_model(Artifact("pickle", b"model %d" % epoch * 10))
        put(store, np.arange(300.0), model="lab/other")
        ask(store)
    return path


@pytest.fixture
def path(filled: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(filled, tmp_path / "copy.mistique"))


def flip(file: Path, share: float = 0.5) -> None:
    """Change one byte of a file."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * share)] ^= 0x55
    file.write_bytes(content)


def segment_of(path: Path, key: str) -> Path:
    """The folder of the one segment of an intermediate."""
    with mistique.open(path, mode="r") as store:
        (segment,) = references_of(store, key).segments
    return path / "segments" / segment.id


def fragments_of(array: Path) -> list[Path]:
    """Its fragments, the smallest first."""
    return sorted((array / "__fragments").iterdir(), key=lambda f: sum(x.stat().st_size for x in f.iterdir()))


def payload(path: Path) -> None:
    """A byte at the beginning of the only unit of the layer."""
    flip(next((segment_of(path, LAYER) / "__fragments").rglob("a0.tdb")), 0.01)


def unit_table(path: Path) -> None:
    with mistique.open(path, mode="r") as store:
        (segment,) = references_of(store, LAYER).segments
        beginning = store.segments.table(segment).to_bytes()[:16]
    file = next((path / "segments" / segment.id / "__fragments").rglob("a0.tdb"))
    content = bytearray(file.read_bytes())
    content[content.rindex(beginning) + 20] ^= 1
    file.write_bytes(content)


def segment_is_gone(path: Path) -> None:
    shutil.rmtree(segment_of(path, LAYER))


def segment_without_data(path: Path) -> None:
    next((segment_of(path, LAYER) / "__fragments").rglob("a0.tdb")).unlink()


def fragment_metadata(path: Path) -> None:
    file = next((segment_of(path, LAYER) / "__fragments").rglob("__fragment_metadata.tdb"))
    file.write_bytes(file.read_bytes()[:100])


def model(path: Path) -> None:
    with mistique.open(path, mode="r") as store:
        digest = store.catalog.find(LAYER)[0].version.artifact
    flip(next((path / "artifacts" / str(digest) / "__fragments").rglob("a0.tdb")))


def forged_references(path: Path) -> None:
    """A record, its digests right, that refers to a unit that is not there."""
    with mistique.open(path) as store:
        capture, _ = store.catalog.find(LAYER)
        references = references_of(store, LAYER)
        run = replace(references.runs[0], unit=10**6)
        head = {"version": asdict(capture.version), "dataset": "train", "uses": [references.segments[0].id]}
        attachments = store.catalog._log.attachments(list(capture.orders.values()))
        records = [Record("capture", to_json(head))]
        for (name, order), attachment in zip(capture.orders.items(), attachments, strict=True):
            content = to_json(asdict(replace(references, runs=(run,)))) if name == "layer" else attachment
            records.append(Record("intermediate", store.catalog._log.record(order).body, content))
        store.catalog._log.append(records[:1], behind=records[1:])


@pytest.mark.parametrize(
    ("damage", "kind", "lost"),
    [
        (payload, "unit", {LAYER}),
        (unit_table, "segment", {LAYER}),
        (segment_is_gone, "segment", {LAYER}),
        (segment_without_data, "unit|segment", {LAYER}),
        (fragment_metadata, "unit|segment", {LAYER}),
        (forged_references, "references", {LAYER}),
        (model, "model", set()),
    ],
)
def test_damage_is_named_and_a_repair_drops_it_alone(
    path: Path, damage: Callable[[Path], None], kind: str, lost: set[str]
) -> None:
    with mistique.open(path, mode="r") as store:
        before = ask(store)
    damage(path)
    with mistique.open(path) as store:
        found = store.check()
        assert {one.kind for one in found.damages} <= set(kind.split("|"))
        assert not found.is_whole
        assert set(found.lost) == lost
        assert found.n_whole == len(before) - len(lost)
        assert found.lost_models == (("lab/model@1.1",) if damage is model else ())
        assert store.check(repair=True).is_repaired
        assert store.check().is_whole, store.check()
    for key in lost:
        del before[key]
    with mistique.open(path) as store:
        assert ask(store) == before
        layer = np.random.default_rng(1).normal(size=(N_ROWS, 700)).astype(np.float32)
        key = put_layer(store, layer, model="lab/again")
        assert mistique.get(store, key).values.tobytes() == layer.tobytes()
        store.compact(grace_seconds=0)
        store.gc(grace_seconds=0)
        assert store.check().is_whole
        found = ask(store)
        assert {key: found[key] for key in before} == before


def test_a_model_that_a_repair_dropped_is_said_to_be_gone_and_not_to_be_damaged(path: Path) -> None:
    model(path)
    with mistique.open(path) as store:
        digest = store.catalog.find(LAYER)[0].version.artifact
        store.check(repair=True)
        with pytest.raises(StoreError, match="is not in the store: a repair dropped it") as caught:
            store._artifacts.get(digest)
    assert not isinstance(caught.value, ChunkCorruptError)


def catalog_file(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        # The smallest fragment holds the capture of lab/other, the others an epoch each.
        file = fragments_of(path / "catalog")[0] / name
        if name == "__fragment_metadata.tdb":
            file.write_bytes(file.read_bytes()[:200])
        else:
            flip(file)

    return damage


@pytest.mark.parametrize("name", ["a0.tdb", "d1.tdb", "d2.tdb", "__fragment_metadata.tdb"])
def test_a_damaged_catalog_record_costs_its_own_capture_only(path: Path, name: str) -> None:
    with mistique.open(path, mode="r") as store:
        before = ask(store)
    catalog_file(name)(path)
    with mistique.open(path) as store:
        with pytest.raises(MistiqueError):
            ask(store)
        found = store.check()
        assert {one.kind for one in found.damages} <= {"records", "references"}
        assert found.n_whole == len(before) - 1
        store.check(repair=True)
        assert store.check().is_whole
    with mistique.open(path) as store:
        del before[KEPT]
        assert ask(store) == before
        assert "lab/model@1.2" in repr(listing(store))
        values = np.arange(300.0)
        assert mistique.get(store, put(store, values, model="lab/new")).values.tobytes() == values.tobytes()


def test_a_damaged_schema_of_the_catalog_costs_nothing(path: Path) -> None:
    with mistique.open(path, mode="r") as store:
        before = ask(store)
    for part in ("catalog", "digests", "usage"):
        for file in (path / part / "__schema").iterdir():
            if file.is_file():
                flip(file)
    with mistique.open(path) as store:
        found = store.check(repair=True)
        assert {one.kind for one in found.damages} == {"records", "digests", "usage"}
        assert not found.lost
        assert store.check().is_whole
        assert ask(store) == before


@pytest.mark.parametrize("part", ["usage", "digests"])
def test_damage_to_what_is_only_advice_costs_no_intermediate(path: Path, part: str) -> None:
    with mistique.open(path, mode="r") as store:
        before = ask(store)
    flip(next(fragments_of(path / part)[0].glob("a0*.tdb")))
    with mistique.open(path) as store:
        found = store.check(repair=True)
        assert ({one.kind for one in found.damages}, found.lost) == ({part}, ())
        assert store.check().is_whole
        assert ask(store) == before
        assert mistique.get(store, put(store, np.arange(9.0), model="lab/new")).values.tolist() == list(range(9))


def test_of_a_compacted_catalog_only_the_tile_that_is_damaged_is_lost(path: Path) -> None:
    with mistique.open(path) as store:
        for i in range(4):
            # As many records as make some tiles.
            with capturing(store, model=f"lab/{i}") as capture:
                for number in range(50):
                    capture.add(f"stage {number}", np.arange(5.0) + i)
            (taken,) = store.catalog.find_versions(f"lab/{i}@1")
            store.catalog.drop(taken, *taken.intermediates)
        store.compact(grace_seconds=0)
        store.compact(grace_seconds=0)
        before = ask(store)
        assert store.check().is_whole
    flip(fragments_of(path / "catalog")[-1] / "a0.tdb", 0.95)
    with mistique.open(path) as store:
        found = store.check(repair=True)
        assert found.damages
        assert store.check().is_whole, store.check()
        now = ask(store)
        assert {key: before[key] for key in now} == now
        assert len(listing(store).captures) == 7


def test_row_labels_that_are_lost_leave_the_rows_numbered(path: Path) -> None:
    shutil.rmtree(segment_of(path, "lab/model@1.1/train/row_label"))
    with mistique.open(path) as store:
        found = store.check(repair=True)
        assert "lab/model@1.1/train/row_label" in found.lost
        assert mistique.get(store, LAYER).rows.tolist() == list(range(N_ROWS))
        assert store.check().is_whole


def test_a_store_is_whole_and_a_check_says_how_much_of_it_it_read(path: Path) -> None:
    with mistique.open(path, mode="r") as store:
        found = store.check()
        assert (found.is_whole, found.n_whole, found.n_whole_models) == (True, 9, 2)
        assert found.n_bytes > 2 * N_ROWS * 700 * 2
        assert "whole: 9 intermediates, 2 models" in repr(found)
        with pytest.raises(StoreReadOnlyError):
            store.check(repair=True)


def test_gc_removes_what_nothing_refers_to_and_rewrites_nothing(path: Path) -> None:
    with mistique.open(path) as store:
        store.drop(LAYER)
        before, segments = ask(store), {p.name for p in (path / "segments").iterdir() if len(p.name) == 32}
        assert store.gc().n_segments_removed == 0
        done = store.gc(grace_seconds=0)
        assert (done.n_segments_removed, done.n_segments_made) == (1, 0)
        assert {p.name for p in (path / "segments").iterdir() if len(p.name) == 32} < segments
        assert ask(store) == before
        assert store.check().is_whole
