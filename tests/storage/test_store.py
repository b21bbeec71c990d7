"""A store as a thing at a URI: what is opened, refused, copied, closed."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from threading import Timer

import numpy as np
import pandas as pd
import pytest
import tiledb

import mistique
from mistique.errors import (
    ChunkCorruptError,
    FormatVersionError,
    StoreClosedError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from mistique.schema import FORMAT_VERSION
from mistique.storage.artifacts import Artifact
from mistique.storage.layout import Layout
from mistique.store import Store
from tests.capturing import capturing, put, put_layer


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("kind", ["file", "folder", "group", "array"])
def test_what_is_no_store_is_refused_and_left_as_it_was(tmp_path: Path, kind: str, mode: str) -> None:
    path = tmp_path / "thing"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_text("mine")
    elif kind == "group":
        tiledb.group_create(str(path))
        tiledb.from_numpy(str(path / "mine"), np.zeros(3)).close()
        with tiledb.Group(str(path), "w") as group:
            group.add("mine", name="mine", relative=True)
    else:
        tiledb.from_numpy(str(path), np.zeros(3)).close()
    before = sorted(path.rglob("*"))
    with pytest.raises(StoreNotFoundError, match="thing"):
        mistique.open(path, mode=mode)
    assert sorted(path.rglob("*")) == before


def test_nothing_is_refused_for_reading_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="found nothing"):
        mistique.open(tmp_path / "none", mode="r")
    assert not (tmp_path / "none").exists()


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode: expected"):
        mistique.open(tmp_path / "s", mode="w")


def test_a_newer_format_is_refused_naming_both_versions(store: Store) -> None:
    with tiledb.Group(store.uri, "w") as group:
        group.meta["mistique_format_version"] = FORMAT_VERSION + 1
    for mode in ("r", "a"):
        with pytest.raises(FormatVersionError, match=rf"format {FORMAT_VERSION + 1}.*up to {FORMAT_VERSION}"):
            mistique.open(store.uri, mode=mode)


def test_a_store_that_was_half_made_is_made_whole(store: Store) -> None:
    with tiledb.Group(store.uri, "w") as group:
        del group.meta["mistique_format_version"]
    shutil.rmtree(Path(store.uri) / "usage")
    again = mistique.open(store.uri)
    assert mistique.get(again, put(again, np.arange(3.0))).values.tolist() == [0, 1, 2]


def test_a_store_that_another_makes_while_it_is_looked_for_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, look = str(tmp_path / "s.mistique"), tiledb.object_type

    def look_before_it_is_made(path: str, ctx: tiledb.Ctx | None = None) -> str | None:
        found = look(path, ctx=ctx)
        if path == uri and found is None:
            monkeypatch.undo()
            put(mistique.open(uri), np.arange(2.0), model="lab/other")
        return found

    monkeypatch.setattr(tiledb, "object_type", look_before_it_is_made)
    store = mistique.open(uri)
    put(store, np.arange(3.0))
    assert {capture.version.model for capture in store.catalog.captures()} == {"lab/other", "lab/model"}


def test_writes_to_a_store_opened_for_reading_are_refused(store: Store) -> None:
    key = put(store, np.arange(3.0))
    reader = mistique.open(store.uri, mode="r")
    before = sorted(Path(store.uri).rglob("*"))
    with pytest.raises(StoreReadOnlyError, match='mode="r"'):
        put(reader, np.arange(3.0))
    with pytest.raises(StoreReadOnlyError):
        reader.drop(key)
    mistique.get(reader, key)
    reader.close()
    assert sorted(Path(store.uri).rglob("*")) == before


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_store_opened_by_a_relative_path_can_be(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"a": np.arange(2000.0), "t": pd.array(["x", None] * 1000, dtype="str")})
    with mistique.open("here.mistique") as store:
        key, layer_key = put(store, frame), put_layer(store, np.eye(70), model="lab/net", codec="power")
        right = [mistique.get(store, k).to_frame() for k in (key, layer_key)]
    (tmp_path / "far" / "away").mkdir(parents=True)
    there = tmp_path / "far" / "away" / "there.mistique"
    if how == "copied":
        shutil.copytree("here.mistique", there)
    shutil.move("here.mistique", there if how == "moved" else tmp_path / "aside")
    with mistique.open(there) as moved:
        for k, expected in zip((key, layer_key), right, strict=True):
            pd.testing.assert_frame_equal(mistique.get(moved, k).to_frame(), expected)
        put(moved, frame)
        assert mistique.get(moved, "lab/model@2/train/stage").to_frame().equals(right[0])


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", "." * 32, "/" + "0" * 31, "A" * 32, "0" * 31, "0" * 33, "0" * 31 + "\n"]
)
def test_a_name_that_could_lead_out_of_the_store_is_refused(name: str) -> None:
    layout = Layout("store")
    for make in (layout.segment, layout.artifact):
        with pytest.raises(StoreNotFoundError):
            make(name)


def test_a_closed_store_says_so_and_closing_twice_does_no_harm(store: Store) -> None:
    key = put(store, np.arange(3.0))
    store.close()
    store.close()
    for use in (lambda: mistique.get(store, key), lambda: put(store, np.arange(3.0)), lambda: store.calibration):
        with pytest.raises(StoreClosedError, match=r"mistique.open\("):
            use()
    assert repr(store).startswith("closed store")


def artifact_folders(store: Store) -> list[Path]:
    return [path for path in (Path(store.uri) / "artifacts").iterdir() if len(path.name) == 64]


def test_an_artifact_comes_back_and_is_stored_once(store: Store) -> None:
    artifact = Artifact("skops", bytes(range(256)) * 50)
    digests = {store._artifacts.put(artifact) for _ in range(3)}
    assert digests == {artifact.digest}
    found = store._artifacts.get(artifact.digest)
    assert (found.kind, found.payload, found.is_signed) == ("skops", artifact.payload, True)
    assert len(artifact_folders(store)) == 1


def test_the_kind_of_an_artifact_is_part_of_its_address(store: Store) -> None:
    assert store._artifacts.put(Artifact("a", b"x")) != store._artifacts.put(Artifact("b", b"x"))


def test_an_empty_artifact_comes_back(store: Store) -> None:
    assert store._artifacts.get(store._artifacts.put(Artifact("skops", b""))).payload == b""


@pytest.mark.parametrize("schema", [None, b"half of it"])
def test_an_artifact_whose_maker_died_before_its_schema_was_whole_is_made_anew(
    store: Store, schema: bytes | None
) -> None:
    artifact = Artifact("skops", b"model")
    folder = Path(store.uri) / "artifacts" / artifact.digest / "__schema"
    folder.mkdir(parents=True)
    if schema is not None:
        (folder / "__1_1_0123456789abcdef0123456789abcdef").write_bytes(schema)
    assert store._artifacts.get(store._artifacts.put(artifact)).payload == b"model"


def test_who_comes_second_waits_for_the_schema_of_who_is_making_an_artifact(store: Store, tmp_path: Path) -> None:
    artifact = Artifact("skops", b"model")
    with mistique.open(tmp_path / "other.mistique") as other:
        made = Path(other.uri) / "artifacts" / other._artifacts.put(artifact)
    (schema,) = (path for path in (made / "__schema").iterdir() if path.is_file())
    being_made = Path(store.uri) / "artifacts" / artifact.digest
    (being_made / "__schema").mkdir(parents=True)
    Timer(0.3, shutil.copy, (schema, being_made / "__schema")).start()
    assert store._artifacts.get(store._artifacts.put(artifact)).payload == b"model"
    assert [path.name for path in (being_made / "__schema").iterdir() if path.is_file()] == [schema.name]


def test_what_another_key_signed_is_not_signed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store._artifacts.put(Artifact("skops", b"model"))
    monkeypatch.setenv("MISTIQUE_SIGNING_KEY", "somebody else")
    assert not store._artifacts.get(digest).is_signed
    store._artifacts.put(Artifact("skops", b"model"))
    assert store._artifacts.get(digest).is_signed
    monkeypatch.delenv("MISTIQUE_SIGNING_KEY")
    assert store._artifacts.get(digest).is_signed


def test_a_signature_moved_to_another_artifact_is_no_signature(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    good = store._artifacts.put(Artifact("skops", b"good"))
    with monkeypatch.context() as patch:
        patch.setenv("MISTIQUE_SIGNING_KEY", "a stranger")
        bad = store._artifacts.put(Artifact("skops", b"bad"))
    with tiledb.open(store._layout.artifact(good)) as source, tiledb.open(store._layout.artifact(bad), "w") as target:
        for name, value in source.meta.items():
            if name.startswith("signature_"):
                target.meta[name] = value
    assert store._artifacts.get(good).is_signed
    assert not store._artifacts.get(bad).is_signed


def test_a_tampered_payload_is_refused_before_anything_parses_it(store: Store) -> None:
    digest = store._artifacts.put(Artifact("skops", b"harmless"))
    with tiledb.open(store._layout.artifact(digest), "w") as array:
        array[:8] = np.frombuffer(b"harmful!", np.uint8)
    with pytest.raises(ChunkCorruptError):
        store._artifacts.get(digest)


def test_the_signing_key_can_be_read_by_its_user_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTIQUE_CONFIG_DIR", str(tmp_path / "new"))
    store._artifacts.put(Artifact("skops", b"model"))
    (key,) = (tmp_path / "new").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    content = key.read_bytes()
    assert len(content) >= 32
    store._artifacts.put(Artifact("skops", b"other"))
    assert key.read_bytes() == content


def test_without_a_place_for_a_key_artifacts_are_kept_unsigned(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MISTIQUE_CONFIG_DIR", str(tmp_path / "file" / "below"))
    digest = store._artifacts.put(Artifact("skops", b"model"))
    assert not store._artifacts.get(digest).is_signed


def test_no_file_of_a_store_lies_outside_of_it(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    with mistique.open(tmp_path / "only" / "s.mistique") as store, capturing(store) as capture:
        capture.add("x", np.arange(3.0))
        capture.keep_model(Artifact("skops", b"model"))
    assert os.listdir(tmp_path / "only") == ["s.mistique"]
