"""Versions after their capture: tags, notes, links, names, deletion. Records only; nothing is overwritten."""

from __future__ import annotations

import numpy as np
import pytest

import mistique
from mistique.errors import CatalogError, IntermediateNotFoundError, InvalidKeyError, StoreReadOnlyError
from mistique.store import Store
from tests.capturing import capturing, put

GENERATOR = np.random.default_rng(0)
TABLE = GENERATOR.normal(size=(5000, 3))


def three(store: Store) -> None:
    """Versions 1 to 3 of lab/model, of which the second alone has other values."""
    for factor in (1, 2, 1):
        put(store, TABLE * factor)


def names(store: Store) -> list[str]:
    return [one.name for one in store.models()]


def test_a_model_captured_again_under_its_name_is_another_version(store: Store) -> None:
    three(store)
    assert names(store) == ["lab/model@1", "lab/model@2", "lab/model@3"]
    assert np.array_equal(mistique.get(store, "lab/model@2/train/stage").values, TABLE * 2)


def test_a_tag_stands_for_its_version_and_belongs_to_one(store: Store) -> None:
    three(store)
    store.tag("lab/model@2", "best")
    assert np.array_equal(mistique.get(store, "lab/model@best/train/stage").values, TABLE * 2)
    store.tag("lab/model@1", "best")
    assert np.array_equal(mistique.get(store, "lab/model@best/train/stage").values, TABLE)
    assert [one.about.tags for one in store.models()] == [("best",), (), ()]
    store.tag("lab/model@best", "best", remove=True)
    with pytest.raises(IntermediateNotFoundError, match=r"no version 'lab/model@best'; nearest: lab/model@"):
        mistique.get(store, "lab/model@best/train/stage")


@pytest.mark.parametrize("tag", ["", "3", "latest", "a/b", "a@b"])
def test_a_tag_that_reads_as_something_else_is_refused(store: Store, tag: str) -> None:
    three(store)
    with pytest.raises(CatalogError, match="expected a tag"):
        store.tag("lab/model@1", tag)


def test_notes_and_runs_of_other_tools_are_kept_where_the_store_is_opened_again(store: Store) -> None:
    three(store)
    store.note("lab/model@2", "first with more rows")
    store.note("lab/model@2", "looks odd")
    store.link("lab/model@2", mlflow="0af3", wandb="x/y/9")
    about = mistique.open(store.uri, mode="r").models()[1].about
    assert about.notes == ("first with more rows", "looks odd")
    assert about.links == {"mlflow": "0af3", "wandb": "x/y/9"}
    frame = store.models().to_frame()
    assert frame.loc["lab/model@2", "mlflow"] == "0af3"


@pytest.mark.parametrize("runs", [{}, {"wandb": object()}, {"mlflow": ""}])
def test_a_run_that_is_no_text_is_refused(store: Store, runs: dict[str, object]) -> None:
    # A run of W&B in place of its id would be noted as the address of an object.
    three(store)
    with pytest.raises(CatalogError, match="expected"):
        store.link("lab/model@1", **runs)


def test_a_deleted_version_is_gone_its_number_stays_its_own_and_what_others_share_answers(store: Store) -> None:
    three(store)
    store.delete("lab/model@1")
    assert names(store) == ["lab/model@2", "lab/model@3"]
    with pytest.raises(IntermediateNotFoundError, match="lab/model@1"):
        mistique.get(store, "lab/model@1/train/stage")
    put(store, TABLE * 4)
    assert names(store)[-1] == "lab/model@4"
    removed = store.compact(grace_seconds=0), store.compact(grace_seconds=0)
    assert removed
    assert np.array_equal(mistique.get(store, "lab/model@3/train/stage").values, TABLE)
    assert np.array_equal(mistique.open(store.uri).catalog.captures()[0].id[2:], (None, "train"))


def test_what_only_a_deleted_version_holds_is_removed_by_a_compaction(store: Store) -> None:
    three(store)
    before = len(store.catalog.in_use()[0])
    store.delete("lab/model@2")
    assert len(store.catalog.in_use()[0]) == before - 1
    gone = [store.compact(grace_seconds=0).n_segments_removed for _ in range(2)]
    assert sum(gone) > 0
    for number in (1, 3):
        assert np.array_equal(mistique.get(store, f"lab/model@{number}/train/stage").values, TABLE)


def test_one_dataset_of_a_version_can_be_deleted(store: Store) -> None:
    with capturing(store) as first:
        first.add("stage", TABLE)
    with store.capture(model="lab/model", dataset="valid", framework="none", run_id=first.run_id) as second:
        second.add("stage", TABLE[:9])
    with pytest.raises(IntermediateNotFoundError, match="nearest: valid"):
        store.delete("lab/model@1", dataset="vald")
    # More than a version is no version: it would be deleted over all of its datasets.
    with pytest.raises(InvalidKeyError, match="expected a version project/model@version"):
        store.delete("lab/model@1/train")
    store.delete("lab/model@1", dataset="train")
    assert [capture.dataset for capture in store.catalog.captures()] == ["valid"]


def test_a_renamed_model_keeps_its_versions_and_the_old_name_begins_anew(store: Store) -> None:
    three(store)
    put(store, TABLE, model="lab/other")
    with pytest.raises(CatalogError, match="a name that no model has"):
        store.rename("lab/model", to="lab/other")
    store.rename("lab/model", to="lab/better")
    store.delete("lab/better@3")
    put(store, TABLE * 5, model="lab/model")
    put(store, TABLE * 6, model="lab/better")
    assert names(store) == ["lab/better@1", "lab/better@2", "lab/better@4", "lab/other@1", "lab/model@1"]
    assert np.array_equal(mistique.get(store, "lab/better@2/train/stage").values, TABLE * 2)
    store.rename("lab/better", to="lab/best")
    assert np.array_equal(mistique.get(store, "lab/best@4/train/stage").values, TABLE * 6)
    store.drop("lab/best@2/train/stage")
    assert not store.catalog.find("lab/best@2/train/stage")[0].stored


def test_two_who_say_something_at_once_are_both_heard(store: Store) -> None:
    three(store)
    other = mistique.open(store.uri)
    store.note("lab/model@1", "one")
    other.note("lab/model@1", "two")
    assert set(store.models()[0].about.notes) == {"one", "two"}


def test_a_store_opened_to_look_only_is_not_changed(store: Store) -> None:
    three(store)
    looking = mistique.open(store.uri, mode="r")
    for change in (
        lambda: looking.delete("lab/model@1"),
        lambda: looking.rename("lab/model", to="lab/x"),
        lambda: looking.tag("lab/model@1", "best"),
    ):
        with pytest.raises(StoreReadOnlyError):
            change()
    assert len(store.models()) == 3


def test_a_difference_names_parameters_stages_and_weights(store: Store) -> None:
    for alpha, seen in (("1.0", "a"), ("2.0", "b")):
        with capturing(store, params={"alpha": alpha, "kind": "ridge"}) as capture:
            capture.add("input", TABLE, role="input", lineage="x")
            capture.add("scale", TABLE + 1, lineage="y")
            capture.add("model", TABLE * float(alpha), lineage=seen)
            capture.describe_version(states={"scale": "s", "model": seen})
    found = mistique.diff(store, "lab/model@1", other="lab/model@latest")
    assert found.params == {"alpha": ("1.0", "2.0")}
    assert found.stages == {"input": "same", "scale": "same", "model": "changed"}
    assert found.states == {"scale": "same", "model": "changed"}
