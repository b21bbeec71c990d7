"""The index of digests is advice: captures and compactions go on without it, lose nothing, and say so once."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mistique
from mistique.errors import CaptureWarning
from mistique.store import Store
from tests.capturing import put, put_layer, references_of
from tests.storage.invariants import assert_whole
from tests.storage.test_check import flip

VALUES = np.random.default_rng(0).normal(size=3000)
LAYER = np.random.default_rng(1).normal(size=(200, 100)).astype(np.float32)


def flipped_data(digests: Path) -> None:
    for file in digests.rglob("a0.tdb"):
        flip(file)


def flipped_metadata(digests: Path) -> None:
    flip(max(digests.rglob("__fragment_metadata.tdb")), 0.99)


def missing_file(digests: Path) -> None:
    max(digests.rglob("a1.tdb")).unlink()


def flipped_schema(digests: Path) -> None:
    flip(next(path for path in (digests / "__schema").iterdir() if path.is_file()))


def folder_is_gone(digests: Path) -> None:
    shutil.rmtree(digests)


DAMAGES = (flipped_data, flipped_metadata, missing_file, flipped_schema, folder_is_gone)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a table and a layer, whose chunks are in the index."""
    path = tmp_path / "s.mistique"
    with mistique.open(path) as store:
        put(store, VALUES)
        put_layer(store, LAYER)
    return path


def captured_again(store: Store) -> tuple[list[str], list[str]]:
    """What was captured before is captured again: the segments in which that lies, and what warnings said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keys = [put(store, VALUES), put_layer(store, LAYER)]
    assert all(warning.category is CaptureWarning for warning in caught)
    with mistique.open(store.uri, mode="r") as reader:
        assert mistique.get(reader, keys[0]).values.tolist() == VALUES.tolist()
        assert np.array_equal(mistique.get(reader, keys[1]).values.reshape(LAYER.shape), LAYER)
    segments = [segment.id for key in keys for segment in references_of(store, key).segments]
    return segments, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_capture_goes_on_without_a_damaged_index_and_a_repair_mends_it(
    path: Path, damage: Callable[[Path], None]
) -> None:
    with mistique.open(path) as store:
        held, said = captured_again(store)
        assert len(held) == 2
        assert not said
    damage(path / "digests")
    with mistique.open(path) as store:
        stored, said = captured_again(store)
        assert len(said) == 1
        assert f"mistique check {path} --repair" in said[0]
        assert not set(stored) & set(held)
        # The columns of tables that this process has just stored need no index.
        again, said = captured_again(store)
        assert again[0] == stored[0]
        assert not said
        assert {found.kind for found in store.check().damages} == {"digests"}
        assert not store.check().lost
        store.check(repair=True)
        assert store.check().is_whole
    with mistique.open(path) as store:
        first, said = captured_again(store)
        second, said_then = captured_again(store)
        assert set(first) == set(second)
        assert not said + said_then


def test_an_index_that_is_damaged_under_an_open_store_ends_no_capture(path: Path) -> None:
    with mistique.open(path) as store, mistique.open(path) as other:
        held, _ = captured_again(store)
        store._dedup.forget()  # nothing that is remembered answers for the index
        flipped_data(path / "digests")
        stored, said = captured_again(store)
        assert len(said) == 1
        assert not set(stored) & set(held)
        other.check(repair=True)
        first, said = captured_again(store)
        store._dedup.forget()
        second, _ = captured_again(store)
        assert set(first) == set(second)
        assert not said


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_compaction_comes_to_its_end_without_a_damaged_index(path: Path, damage: Callable[[Path], None]) -> None:
    kept = {"lab/model@1/train/stage": VALUES, "lab/model@2/train/layer": LAYER}
    with mistique.open(path) as store:
        put(store, VALUES + 1, model="lab/other")
        assert {found.kind for found in store.check().damages} == set()
    damage(path / "digests")
    with mistique.open(path) as store:
        with pytest.warns(CaptureWarning, match=f"mistique check {path} --repair") as caught:
            done = store.compact(grace_seconds=0)
        assert len(caught) == 1
        assert (done.n_segments_rewritten, done.n_segments_made) == (3, 1)
        assert {found.kind for found in store.check().damages} == {"digests"}
        assert store.check(repair=True).lost == ()
        assert_whole(path, kept, {})
        first, _ = captured_again(store)
        second, said = captured_again(store)
        assert set(first) == set(second)
        assert not said
        store.compact(grace_seconds=0)  # warnings are errors
        assert_whole(path, kept, {})


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_needs_no_index_does_not_mind_that_it_is_damaged(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path / "digests")
    with mistique.open(path) as store:
        assert store.gc(grace_seconds=0).n_segments_removed == 0
        store.rename("lab/model", to="lab/renamed")
        store.delete("lab/renamed@2")
        assert store.evict(max_nbytes=1e9) == []
        assert store.gc(grace_seconds=0).n_segments_removed == 1
        assert mistique.get(store, "lab/renamed@1/train/stage").values.tolist() == VALUES.tolist()
        assert {found.kind for found in store.check().damages} == {"digests"}


def test_an_index_that_lies_behind_a_link_since_the_store_was_opened_is_not_written(path: Path) -> None:
    with mistique.open(path) as store:
        outside = path.parent / "outside"
        (path / "digests").rename(outside)
        (path / "digests").symlink_to(outside)
        before = sorted(outside.rglob("*"))
        _, said = captured_again_without_reader(store)
        assert len(said) == 1
        assert "is a link" in said[0]
        assert sorted(outside.rglob("*")) == before


def captured_again_without_reader(store: Store) -> tuple[list[str], list[str]]:
    """As `captured_again`, of a store that nobody else can open."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        key = put(store, VALUES + 1)
    assert mistique.get(store, key).values.tolist() == (VALUES + 1).tolist()
    return [segment.id for segment in references_of(store, key).segments], [str(warning.message) for warning in caught]
