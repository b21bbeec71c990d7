"""In a shared store, nothing that others wrote answers for what this user captures."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mistique
from mistique.errors import ChunkCorruptError
from mistique.ingest import layers, tables
from mistique.queries.listing import listing
from mistique.storage.artifacts import Artifact
from mistique.storage.digests import content_key, is_sealed, seal
from mistique.storage.move_records import SegmentMove, move_record
from mistique.storage.record_cells import Record
from mistique.store import Store
from tests.capturing import capturing, put, put_layer, references_of

RNG = np.random.default_rng(0)
MINE, FORGED = RNG.normal(size=(1500, 3)), RNG.normal(size=(1500, 3))
MY_MAPS, FORGED_MAPS = RNG.normal(size=(2, 1500, 6, 6, 8)).astype(np.float32)
POOL = {"op": "global_max", "keepdims": False}
OTHER_PROCESS = """
import sys
import numpy as np
import mistique
from tests.capturing import capturing
with mistique.open(sys.argv[1]) as store, capturing(store) as capture:
    capture.add("scale", np.random.default_rng(0).normal(size=(1500, 3)), lineage="of scale")
"""


@contextmanager
def as_another_user() -> Iterator[None]:
    """With the key of somebody else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MISTIQUE_SIGNING_KEY", "somebody else's")
        yield


class Marking:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_that_is_asked_of_a_strangers_store_or_done_to_it_runs_its_code(tmp_path: Path) -> None:
    mark, planted = tmp_path / "mark", pickle.dumps(Marking(tmp_path / "mark"))
    pickle.loads(planted)
    mark.unlink()  # it does what it is for
    uri, h5 = str(tmp_path / "s.mistique"), b"\x89HDF\r\n\x1a\n" + planted
    with as_another_user(), mistique.open(uri) as store:
        for number, (kind, payload) in enumerate([("cloudpickle", planted), ("skops", planted), ("keras", h5)]):
            with capturing(store, model=f"lab/{number}") as capture:
                capture.add("table", MINE + number)
                capture.append("layer", MY_MAPS + np.float32(number))
                capture.keep_model(Artifact(kind, payload))
    for number in range(3):
        with mistique.open(uri) as store:
            assert f"lab/{number}" in repr(store) + repr(listing(store))
            key = f"lab/{number}@1/train/"
            assert np.array_equal(mistique.get(store, key + "table").values, MINE + number)
            mistique.topk(store, key + "layer", unit=3, k=2)
            repr(mistique.explain(store, key + "layer"))
            mistique.index(store, key + "layer", max_share=8)
            assert store.check(repair=True).is_whole
            store.compact(grace_seconds=0)
            store.rename(f"lab/{number}", to=f"lab/renamed-{number}")
            store.delete(f"lab/renamed-{number}@1")
            store.gc(grace_seconds=0)
    assert not mark.exists()


def is_reused(store: Store, name: str, **facts: object) -> bool:
    """Whether a capture takes over what is there under the lineage of that name."""
    with capturing(store, model="lab/mine", codec=facts.pop("codec", "raw")) as capture:
        capture.append("maps", MY_MAPS, codec="raw")
        return capture.reuse(name, lineage=f"of {name}", **facts)


def test_a_lineage_that_another_user_claims_is_not_reused(store: Store) -> None:
    with as_another_user(), capturing(mistique.open(store.uri), model="lab/theirs") as capture:
        capture.add("scale", FORGED, lineage="of scale")
        capture.append("maps", FORGED_MAPS, parents=(), codec="raw")
        capture.append("largest", FORGED_MAPS.max(axis=(1, 2)), parents=("maps",), lineage="of largest", codec="auto")
    assert not is_reused(store, "scale")
    assert not is_reused(store, "largest", codec="auto", parents=("maps",))
    with as_another_user():
        assert is_reused(mistique.open(store.uri), "scale")


def test_what_another_user_says_was_left_out_is_not_believed(store: Store) -> None:
    def leave_out(shared: Store) -> None:
        with capturing(shared, model="lab/theirs", codec="auto") as capture:
            capture.append("maps", MY_MAPS, parents=(), codec="raw")
            facts = {"parents": ("maps",), "derivation": POOL, "lineage": "of largest"}
            capture.append("largest", MY_MAPS.max(axis=(1, 2)), **facts)

    with as_another_user():
        leave_out(mistique.open(store.uri))
    assert not is_reused(store, "largest", codec="auto", parents=("maps",))
    leave_out(store)
    assert is_reused(store, "largest", codec="auto", parents=("maps",))


def test_a_record_with_my_lineage_and_references_to_other_values_is_not_reused(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("scale", MINE, lineage="of scale")
    mine, node = store.catalog.find("lab/model@1/train/scale")
    with as_another_user():
        theirs = mistique.open(store.uri)
        forged = references_of(theirs, put(theirs, FORGED, model="lab/theirs"))
        version = replace(mine.version, model="lab/forged")
        theirs.catalog.commit(version, "train", [replace(node, references=forged)])
    with capturing(store, model="lab/again") as capture:
        assert capture.reuse("scale", lineage="of scale")
    assert mistique.get(store, "lab/again@1/train/scale").values.tobytes() == MINE.tobytes()


def test_my_seal_does_not_cover_another_attachment_or_body(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("scale", MINE, lineage="of scale")
    mine, _ = store.catalog.find("lab/model@1/train/scale")
    body = json.loads(store._catalog._log.record(mine.orders["scale"]).body)
    store.drop("lab/model@1/train/scale")
    with as_another_user():
        theirs = mistique.open(store.uri)
        put(theirs, FORGED, model="lab/theirs")
        capture_of_theirs, _ = theirs.catalog.find("lab/theirs@1/train/stage")
        (attachment,) = theirs._catalog._log.attachments([capture_of_theirs.orders["stage"]])
        head = {"version": {**vars_of(mine.version), "model": "lab/forged"}, "dataset": "train"}
        of = ["lab/forged", *body["of"][1:]]
        forged = Record("intermediate", to_json({**body, "of": of}), attachment)
        theirs._catalog._log.append([Record("capture", to_json(head))], behind=[forged])
    assert mistique.get(store, "lab/forged@1/train/scale").values.tobytes() == FORGED.tobytes()
    assert not is_reused(store, "scale")


def vars_of(version: object) -> dict[str, object]:
    return {name: getattr(version, name) for name in version.__dataclass_fields__}  # type: ignore[attr-defined]


def to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_a_segment_that_claims_the_digests_of_my_columns_is_not_referred_to(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, honest = content_key(), tables.column_contents
    columns = {FORGED[:, i].tobytes(): MINE[:, i] for i in range(3)}

    def claimed(cells: np.ndarray, block_rows: int, context: object, _: bytes) -> np.ndarray:
        pretended = columns.get(cells.tobytes())
        return honest(cells if pretended is None else np.ascontiguousarray(pretended), block_rows, context, key)

    monkeypatch.setattr(tables, "column_contents", claimed)
    with as_another_user():
        forged = put(mistique.open(store.uri), FORGED, model="lab/theirs")
    monkeypatch.undo()
    # The index does name the forged segment, by my own digests.
    digests = store.segments.contents(references_of(store, forged).segments[0])
    store._digests.refresh()
    assert store._digests.find(digests)
    assert store._dedup.locate(digests) == {}
    found = mistique.get(store, put(store, MINE)).values
    assert found.tobytes() == MINE.tobytes()


def test_a_segment_that_claims_the_digests_of_my_layers_is_not_referred_to(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = put_layer(mistique.open(store.uri), MY_MAPS, model="lab/before")
    contents = store.segments.contents(references_of(store, mine).segments[0])
    store.drop(mine)
    listed = iter(contents.tolist())
    monkeypatch.setattr(layers, "digest_bytes", lambda *_: tuple(next(listed)))
    with as_another_user(), mistique.open(store.uri, max_buffer_nbytes=1) as theirs:
        put_layer(theirs, FORGED_MAPS, model="lab/theirs")
    monkeypatch.undo()
    found = mistique.get(store, put_layer(mistique.open(store.uri), MY_MAPS)).values
    assert found.tobytes() == MY_MAPS.tobytes()


def redirect(shared: Store, mine: str, theirs: str) -> None:
    """Say that the chunks of one intermediate moved to those of another."""
    source, target = (references_of(shared, key).segments[0] for key in (mine, theirs))
    table = shared.segments.table(source)
    n_chunks = source.n_chunks
    units = np.repeat(np.arange(source.n_units), np.diff(table.first_chunk))
    places = np.arange(n_chunks) - table.first_chunk[units]
    part = SegmentMove(source, table.first_chunk, np.zeros(n_chunks, np.int64), units, places)
    facts = {"made": [], "generation": 1, "forgotten": [], "unix_seconds": time.time()}
    shared.catalog.say(move_record([part], [target], **facts))


def test_a_move_that_another_user_claims_is_not_followed_by_what_i_capture(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("scale", MINE, lineage="of scale")
    with as_another_user():
        theirs = mistique.open(store.uri)
        redirect(theirs, "lab/model@1/train/scale", put(theirs, FORGED, model="lab/theirs"))
    is_reused(store, "scale")
    with capturing(mistique.open(store.uri), model="lab/again") as capture:
        capture.add("scale", MINE)
    assert mistique.get(store, "lab/again@1/train/scale").values.tobytes() == MINE.tobytes()
    found = store.catalog.find("lab/mine@1/train/maps")[0]
    assert "scale" not in found.intermediates


def test_what_was_moved_by_a_compaction_of_this_user_is_reused(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("scale", MINE, lineage="of scale")
    put(store, FORGED, model="lab/other")
    before = references_of(store, "lab/model@1/train/scale")
    assert store.compact(grace_seconds=0).n_segments_made == 1
    again = mistique.open(store.uri)
    assert references_of(again, "lab/model@1/train/scale") != before
    assert is_reused(again, "scale")
    assert mistique.get(again, "lab/mine@1/train/scale").values.tobytes() == MINE.tobytes()
    assert again.catalog.find(put(again, MINE, model="lab/more"))[1].stored_nbytes == 0


def test_a_compaction_does_not_vouch_for_digests_that_another_user_claims(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, honest = content_key(), tables.column_contents
    pretended = {FORGED[:, i].tobytes(): np.ascontiguousarray(MINE[:, i]) for i in range(3)}
    monkeypatch.setattr(
        tables,
        "column_contents",
        lambda cells, rows, context, _: honest(pretended.get(cells.tobytes(), cells), rows, context, key),
    )
    with as_another_user():
        theirs = mistique.open(store.uri)
        keys = [put(theirs, FORGED[:, [i]], model=f"lab/theirs{i}") for i in range(3)]
    monkeypatch.undo()
    put(store, RNG.normal(size=(1500, 2)), model="lab/mine1")
    put(store, RNG.normal(size=(1500, 2)), model="lab/mine2")
    again = mistique.open(store.uri)
    assert again.compact(grace_seconds=0).n_segments_made == 1
    again = mistique.open(store.uri)
    assert mistique.get(again, put(again, MINE)).values.tobytes() == MINE.tobytes()
    found = [mistique.get(again, k).values.reshape(-1).tobytes() for k in keys]
    assert found == [FORGED[:, i].tobytes() for i in range(3)]


def test_values_of_another_user_are_stored_again(store: Store) -> None:
    with as_another_user():
        put(mistique.open(store.uri), MINE, model="lab/theirs")
    key = put(store, MINE)
    assert store.catalog.find(key)[1].stored_nbytes > 0
    again = put(mistique.open(store.uri), MINE)
    assert store.catalog.find(again)[1].stored_nbytes == 0


def test_what_another_process_of_this_user_captured_is_reused(store: Store) -> None:
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, store.uri], check=True)
    assert is_reused(store, "scale")
    found = mistique.get(store, "lab/mine@1/train/scale").values
    assert found.tobytes() == MINE.tobytes()
    assert store.catalog.find(put(store, MINE))[1].stored_nbytes == 0


def test_a_seal_is_of_its_purpose_its_parts_and_its_key() -> None:
    found = seal("record", b"ab", b"c")
    assert is_sealed(found, "record", b"ab", b"c")
    others = [("segment", b"ab", b"c"), ("record", b"a", b"bc"), ("record", b"abc"), ("record", b"ab", b"c", b"")]
    assert not any(is_sealed(found, *other) for other in others)  # type: ignore[arg-type]
    assert not any(is_sealed(other, "record", b"ab", b"c") for other in (None, 3, "", "é", found[:-1]))
    with as_another_user():
        assert not is_sealed(found, "record", b"ab", b"c")


@pytest.mark.parametrize(
    ("field", "value"),
    [("shape", [0]), ("shape", ["7"]), ("codec", -1), ("codec", {"name": 1}), ("derivation", []), ("n_rows", True)],
)
def test_fields_of_a_record_that_are_not_what_they_should_be_are_refused(
    store: Store, field: str, value: object
) -> None:
    key = put(store, np.arange(3.0))
    capture, node = store.catalog.find(key)
    order = capture.orders[node.name]
    log = store.catalog._log
    body = {**json.loads(log.record(order).body), field: value}
    head = next(record for _, record in log.records() if record.kind == "capture")
    log.append([head], behind=[Record("intermediate", to_json(body), log.attachments([order])[0])])
    with mistique.open(store.uri, mode="r") as again, pytest.raises(ChunkCorruptError, match="intermediate"):
        again.catalog.find(key)


@pytest.mark.parametrize("outline", [[], {}, {"n_rows": "7"}, {"n_rows": -1}, {"n_rows": 2**60}, {"lineages": 3}])
def test_an_outline_that_is_none_is_refused(store: Store, outline: object) -> None:
    put(store, np.arange(3.0))
    log = store.catalog._log
    head = next(record for _, record in log.records() if record.kind == "capture")
    body = json.loads(head.body)
    wrong = {**body["outline"], **outline} if isinstance(outline, dict) and outline else outline
    log.append([Record("capture", to_json({**body, "outline": wrong}))])
    with mistique.open(store.uri, mode="r") as again, pytest.raises(ChunkCorruptError, match="capture"):
        again.catalog.captures()


def test_intermediates_behind_the_record_of_another_capture_are_refused(store: Store) -> None:
    key = put(store, np.arange(3.0))
    capture, _ = store.catalog.find(key)
    log = store.catalog._log
    behind = [record for _, record in log.behind([capture.order])[0]]
    body = json.loads(log.record(capture.order).body)
    forged = to_json({**body, "version": {**body["version"], "model": "lab/forged"}})
    log.append([Record("capture", forged)], behind=behind)
    log.append([Record("capture", to_json({**body, "dataset": "valid"}))], behind=[Record("drop", behind[0].body)])
    with mistique.open(store.uri, mode="r") as again:
        for wrong in ("lab/forged@1/train/stage", "lab/model@1/valid/stage"):
            with pytest.raises(ChunkCorruptError):
                again.catalog.find(wrong)
        assert again.catalog.find(key)[1].n_rows == 3
