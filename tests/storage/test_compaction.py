"""Compaction changes no answer, takes away what nobody refers to, and mends what was stored twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.codecs import Pool, Power
from mistique.errors import StoreError, StoreReadOnlyError
from mistique.schema import Segment
from mistique.storage.artifacts import Artifact
from mistique.store import Store
from tests.capturing import capturing, put, put_layer, references_of

N_ROWS = 5000
RNG = np.random.default_rng(0)
RACE = """
import sys
import numpy as np
import mistique
from tests.capturing import capturing
with mistique.open(sys.argv[1]) as store, capturing(store, model=sys.argv[2]) as capture:
    sys.stdin.readline()  # both processes have looked at what is there
    capture.append("layer", np.random.default_rng(0).normal(size=(2000, 100)).astype(np.float32))
    capture.add("table", np.random.default_rng(1).normal(size=(9000, 4))[:2000])
    capture._segments()
    print("ready", flush=True)
    sys.stdin.readline()
"""


def ask(store: Store) -> dict[str, object]:
    """Everything that is stored, as plain values."""
    answers: dict[str, object] = {}
    for capture in store.catalog.captures():
        for name in capture.stored:
            answer = mistique.get(store, f"{capture.prefix}/{name}")
            cells = answer.values.tobytes() if answer.values.dtype != object else repr(answer.values.tolist())
            facts = cells, repr(answer.rows.tolist()), answer.columns, answer.max_abs_error, answer.values.dtype
            answers[f"{capture.prefix}/{name}"] = facts
    return answers


def segments_of(store: Store) -> set[str]:
    """Names of the segments that lie in a store."""
    return {path.name for path in (Path(store.uri) / "segments").iterdir() if len(path.name) == 32}


def fill(store: Store, *, n_epochs: int = 4) -> None:
    """Tables with text, nulls, categories and columns of few values, and layers, over several epochs."""
    for epoch in range(1, n_epochs + 1):
        table = pd.DataFrame(
            {
                "x": np.random.default_rng(epoch).normal(size=N_ROWS),
                "few": np.arange(N_ROWS) % 7 * 1.5,
                "text": pd.array([f"t{i % 50}" if i % 3 else None for i in range(N_ROWS)], dtype="str"),
                "n": pd.array([1, None] * (N_ROWS // 2), dtype="Int64"),
                "kind": pd.Categorical(["u", "v"] * (N_ROWS // 2)),
            }
        )
        layer = np.random.default_rng(epoch // 3).normal(size=(N_ROWS, 70)).astype(np.float32)
        with capturing(store, run_id="0" * 32, epoch=epoch) as capture:
            capture.set_labels([f"r{i}" for i in range(N_ROWS)])
            capture.add("table", table)
            capture.add("scaled", table[["x", "few"]] * 2)
            capture.add("coded column", table["x"].to_numpy()[:, None], codec=Power(bits=5))
            capture.append("layer", layer)
            capture.append("coded", layer + epoch, codec="power")
            capture.keep_model(Artifact("pickle", b"%d" % (epoch // 2) * 100))


@pytest.mark.parametrize("grace_seconds", [0, 3600])
def test_answers_before_and_after_are_equal(store: Store, grace_seconds: float) -> None:
    fill(store)
    before = ask(store)
    assert len(before) == 4 * 6
    done = store.compact(grace_seconds=grace_seconds)
    assert (done.n_segments_rewritten > 4, done.n_segments_made) == (True, 1)
    assert ask(store) == before
    with mistique.open(store.uri) as again:
        assert ask(again) == before
        again.compact(grace_seconds=grace_seconds)
        assert ask(again) == before
    assert ask(store) == before


def test_a_second_compaction_finds_nothing_to_do(store: Store) -> None:
    fill(store)
    store.compact(grace_seconds=0)
    segments = segments_of(store)
    done = store.compact(grace_seconds=0)
    assert (done.n_segments_rewritten, done.n_segments_removed) == (0, 0)
    assert segments_of(store) == segments


def test_compactions_between_captures_add_up(store: Store) -> None:
    before: dict[str, object] = {}
    for i in range(5):
        put(store, np.arange(3000.0) % (i + 2), model=f"lab/{i}", labels=[f"r{j}" for j in range(3000)])
        put_layer(store, np.full((1500, 80), i, np.float32), model=f"lab/layer-{i}")
        store.compact(grace_seconds=0)
        found = ask(store)
        assert {key: found[key] for key in before} == before
        before = found
    assert len(segments_of(store)) == 1
    assert ask(mistique.open(store.uri, mode="r")) == before


def test_what_was_dropped_takes_no_bytes_any_more_and_the_rest_is_as_it_was(store: Store) -> None:
    fill(store)
    store.compact(grace_seconds=0)
    for epoch in range(1, 4):
        for name in ("table", "coded", "layer"):
            store.drop(f"lab/model@1.{epoch}/train/{name}")
    before = ask(store)
    done = store.compact(grace_seconds=0)
    assert ask(store) == ask(mistique.open(store.uri, mode="r")) == before
    assert done.nbytes_after < 0.6 * done.nbytes_before
    assert done.waiting_nbytes == 0


def test_what_is_out_of_use_stays_for_the_grace_period(store: Store) -> None:
    fill(store, n_epochs=2)
    before, segments = ask(store), segments_of(store)
    done = store.compact()
    assert done.n_segments_removed == 0
    assert done.waiting_nbytes > 0
    assert segments < segments_of(store)
    assert store.compact().n_segments_removed == 0
    assert store.compact(grace_seconds=0).n_segments_removed == len(segments)
    assert segments & segments_of(store) == set()
    assert ask(store) == before


def test_garbage_that_no_record_names_is_removed_when_it_is_old_enough(store: Store) -> None:
    key = put(store, np.arange(3000.0))
    writer = store._make_writer()
    capture = store.capture(model="lab/killed", dataset="train", framework="none", codec="raw")
    capture.append("layer", RNG.normal(size=(5000, 100)).astype(np.float32))
    capture._segments().finish()
    assert len(segments_of(store)) == 2
    assert store.compact().n_segments_removed == 0
    assert store.compact(grace_seconds=0).n_segments_removed == 1
    assert mistique.get(store, key).values.tolist() == np.arange(3000.0).tolist()
    assert writer.n_units == 0


def test_models_that_no_version_has_are_removed(store: Store) -> None:
    fill(store)
    store._artifacts.put(Artifact("pickle", b"of a capture that failed"))
    assert store.compact().n_artifacts_removed == 0
    assert store.compact(grace_seconds=0).n_artifacts_removed == 1
    for capture in store.catalog.captures():
        assert capture.version.artifact is not None
        assert len(store._artifacts.get(capture.version.artifact).payload) == 100


def test_a_model_that_was_removed_can_be_captured_again(store: Store) -> None:
    model = Artifact("pickle", b"of a capture that failed")
    store._artifacts.put(model)
    assert store.compact(grace_seconds=0).n_artifacts_removed == 1
    for _ in range(2):
        with capturing(store) as capture:
            capture.keep_model(model)
            capture.add("table", np.arange(9.0))
        version = store.catalog.find(f"{capture.committed}/train/table")[0].version
        found = store._artifacts.get(str(version.artifact))
        assert (found.payload, found.is_signed) == (model.payload, True)
    assert store.compact(grace_seconds=0).n_artifacts_removed == 0
    assert store.check().n_whole_models == 1


def race(store: Store) -> None:
    """Two processes store the same at once, neither seeing the other."""
    command = [sys.executable, "-c", RACE, store.uri]
    writers = [
        subprocess.Popen([*command, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for model in ("lab/one", "lab/two")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("\n")
        assert writer.returncode == 0


def test_what_two_processes_stored_twice_is_kept_once(store: Store) -> None:
    race(store)
    before = ask(store)
    keys = ["lab/one@1/train/layer", "lab/two@1/train/layer"]
    first, second = (references_of(store, key) for key in keys)
    assert {s.id for s in first.segments}.isdisjoint(s.id for s in second.segments)
    done = store.compact(grace_seconds=0)
    assert done.n_chunks_deduplicated >= 2
    assert done.nbytes_after < 0.6 * done.nbytes_before
    assert ask(store) == before
    assert references_of(store, keys[0]) == references_of(store, keys[1])


def test_a_twin_of_what_a_large_segment_holds_is_left_to_that(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    race(store)
    before = ask(store)
    monkeypatch.setattr("mistique.dedup.survey.SMALL_NBYTES", 0)
    segments = segments_of(store)
    done = store.compact(grace_seconds=0)
    assert (done.n_segments_rewritten, done.n_segments_made, done.n_segments_removed) == (2, 0, 2)
    assert segments_of(store) < segments
    assert ask(store) == before


def test_large_segments_in_full_use_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mistique.dedup.survey.SMALL_NBYTES", 0)
    fill(store)
    segments = segments_of(store)
    assert store.compact(grace_seconds=0).n_segments_rewritten == 0
    assert segments_of(store) == segments


def test_equal_digests_of_unequal_chunks_are_not_believed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_layer(store, RNG.normal(size=(2000, 100)).astype(np.float32), model="lab/one")
    put_layer(store, RNG.normal(size=(2000, 100)).astype(np.float32), model="lab/two")
    put(store, RNG.normal(size=(2000, 3)), model="lab/three")
    before = ask(store)
    reader = store.segments
    lie = type(reader).contents

    def contents(self: object, segment: Segment) -> np.ndarray:
        return np.ones_like(lie(reader, segment))

    monkeypatch.setattr(type(reader), "contents", contents)
    assert store.compact(grace_seconds=0).n_chunks_deduplicated == 0
    monkeypatch.undo()
    assert ask(store) == before


def test_chunks_that_were_moved_are_found_by_later_captures(store: Store) -> None:
    table, layer = RNG.normal(size=(N_ROWS, 3)), RNG.normal(size=(3000, 100)).astype(np.float32)
    put(store, table)
    put_layer(store, layer, model="lab/layer")
    store.compact(grace_seconds=0)
    for opened in (store, mistique.open(store.uri)):
        for key in (put(opened, table), put_layer(opened, layer, model="lab/layer")):
            assert opened.catalog.find(key)[1].stored_nbytes == 0
    assert len(segments_of(store)) == 1


def test_a_store_that_was_open_before_goes_on(store: Store) -> None:
    fill(store)
    before = ask(store)
    with mistique.open(store.uri) as other:
        put(other, np.arange(N_ROWS) % 7 * 1.5, model="lab/other")  # it remembers where that column lies
        store.drop("lab/model@1.1/train/layer")
        other.compact(grace_seconds=0)
        del before["lab/model@1.1/train/layer"]
        found = ask(store)
        assert {key: found[key] for key in before} == before
        key = put(store, np.arange(N_ROWS) % 7 * 1.5, model="lab/third")
        assert store.catalog.find(key)[1].stored_nbytes == 0
        assert mistique.get(other, key).values.tolist() == (np.arange(N_ROWS) % 7 * 1.5).tolist()


def test_a_reader_that_holds_references_to_what_was_removed_reads_on(store: Store) -> None:
    key = put(store, np.arange(N_ROWS) * 1.0)
    put(store, np.arange(N_ROWS) * 2.0, model="lab/other")
    with mistique.open(store.uri, mode="r") as reader:
        capture, node = reader.catalog.find(key)
        reader.catalog.references(capture)
        store.compact(grace_seconds=0)
        from mistique.planner.execute import execute

        values, _ = execute(reader, capture, node)
        assert values.to_numpy().tolist() == (np.arange(N_ROWS) * 1.0).tolist()


def test_a_capture_that_refers_to_what_was_moved_meanwhile_is_stored_and_right(store: Store) -> None:
    values, layer = RNG.normal(size=(N_ROWS, 3)), RNG.normal(size=(N_ROWS, 100)).astype(np.float32)
    put(store, values)
    put_layer(store, layer, model="lab/layer")
    with mistique.open(store.uri) as other, capturing(store, model="lab/late") as capture:
        capture.add("table", values)
        capture.append("layer", layer)
        capture._segments()._encode_tables()
        capture._segments()._workers.drain()
        other.compact()
    assert mistique.get(store, "lab/late@1/train/table").values.tobytes() == values.tobytes()
    store.compact(grace_seconds=0)
    assert mistique.get(store, "lab/late@1/train/layer").values.tobytes() == layer.tobytes()


def test_a_capture_that_refers_to_what_was_removed_meanwhile_is_not_stored_and_says_so(store: Store) -> None:
    values = RNG.normal(size=(N_ROWS, 3))
    key = put(store, values)
    with mistique.open(store.uri) as other:
        capture = store.capture(model="lab/late", dataset="train", framework="none", codec="raw")
        capture.add("table", values)
        capture._segments()._encode_tables()
        other.drop(key)
        other.compact(grace_seconds=0)
        with pytest.raises(StoreError, match="longer grace_seconds"):
            capture.commit()
        assert [found.version.model for found in other.catalog.captures()] == ["lab/model"]
        again = put(store, values, model="lab/late")
        assert mistique.get(other, again).values.tobytes() == values.tobytes()


def test_a_damaged_segment_stays_and_costs_the_others_nothing(store: Store) -> None:
    fill(store, n_epochs=3)
    key = put_layer(store, RNG.normal(size=(2000, 100)).astype(np.float32), model="lab/damaged")
    before = ask(store)
    (segment,) = references_of(store, key).segments
    folder = Path(store.uri) / "segments" / segment.id / "__fragments"
    largest = max((file for file in folder.rglob("*.tdb")), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 3] ^= 1
    largest.write_bytes(content)
    with mistique.open(store.uri) as again:
        again.compact(grace_seconds=0)
        with pytest.raises(StoreError):
            mistique.get(again, key)
        again.drop(key)
        del before[key]
        assert ask(again) == before


def test_an_empty_store_can_be_compacted(store: Store) -> None:
    done = store.compact(grace_seconds=0)
    assert (done.n_segments_rewritten, done.n_segments_removed, done.n_chunks_deduplicated) == (0, 0, 0)
    assert "0 rewritten into 0" in repr(done)
    assert mistique.get(store, put(store, np.arange(3.0))).values.tolist() == [0, 1, 2]


def test_a_store_opened_to_look_only_is_not_compacted(store: Store) -> None:
    put(store, np.arange(3.0))
    with pytest.raises(StoreReadOnlyError, match="compact"):
        mistique.open(store.uri, mode="r").compact()


def test_what_another_user_wrote_stays_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    with monkeypatch.context() as patch:
        patch.setenv("MISTIQUE_SIGNING_KEY", "somebody else's")
        with mistique.open(store.uri) as theirs:
            keys = [put(theirs, np.arange(3000.0) + i, model="lab/theirs") for i in range(3)]
            written = {segment.id for key in keys for segment in references_of(theirs, key).segments}
    before = ask(store)
    store.compact(grace_seconds=0)
    assert written < segments_of(store)
    assert len(segments_of(store)) == len(written) + 1
    for key in keys:
        store.drop(key)
        del before[key]
    assert store.compact(grace_seconds=0).n_segments_removed == len(written)
    assert ask(store) == before


def test_pooled_maps_are_read_from_where_they_were_moved(store: Store) -> None:
    maps = RNG.normal(size=(1500, 8, 8, 6)).astype(np.float32)
    with capturing(store) as capture:
        capture.append("maps", maps, codec=Pool())
        capture.append("others", maps + 1, codec="power")
    before = ask(store)
    assert store.compact(grace_seconds=0).n_segments_removed == 2
    assert ask(store) == before
