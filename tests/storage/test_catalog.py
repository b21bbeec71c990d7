"""Order without clocks, commits that all readers see alike, compaction under readers and writers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Thread, current_thread
from time import sleep
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mistique
from mistique.errors import ChunkCorruptError, IntermediateNotFoundError
from mistique.queries.listing import listing
from mistique.schema import Key
from mistique.storage import catalog_reader, records
from mistique.storage.captures import numbers_of
from mistique.storage.options import StorageOptions
from mistique.storage.record_cells import Order, Record
from mistique.storage.records import RecordLog, create_records
from mistique.storage.version_records import Saying
from mistique.store import Store
from tests.capturing import capturing, put

WRITER = """
import sys
from mistique.storage.options import StorageOptions
from mistique.storage.record_cells import Record
from mistique.storage.records import RecordLog
options = StorageOptions(compact_fragments=5)
log = RecordLog(sys.argv[1], options.context(), options)
for i in range(int(sys.argv[3])):
    log.append([Record(sys.argv[2], str(i).encode(), b"x" * i)])
"""


@pytest.fixture
def log_uri(tmp_path: Path) -> str:
    uri = str(tmp_path / "log")
    create_records(uri, StorageOptions().context())
    return uri


def new_log(uri: str, **options: int) -> RecordLog:
    chosen = StorageOptions(**options)  # type: ignore[arg-type]
    return RecordLog(uri, chosen.context(), chosen)


def bodies(log: RecordLog) -> list[bytes]:
    log.refresh()
    return [record.body for _, record in log.records()]


def test_records_are_read_in_the_order_in_which_they_were_written(log_uri: str) -> None:
    for i in range(12):
        new_log(log_uri).append([Record("k", b"%d" % i)])
    assert bodies(new_log(log_uri)) == [b"%d" % i for i in range(12)]


def test_two_writers_with_one_counter_are_read_in_one_order_by_all(log_uri: str) -> None:
    first, second = new_log(log_uri), new_log(log_uri)
    # Neither has seen the other: both count from the same number.
    second.refresh = lambda: False  # type: ignore[method-assign]
    first.append([Record("k", b"a"), Record("k", b"b")])
    second.append([Record("k", b"c"), Record("k", b"d")])
    del second.refresh
    seen = [bodies(log) for log in (first, second, new_log(log_uri), new_log(log_uri))]
    assert len(set(map(tuple, seen))) == 1
    assert sorted(seen[0]) == [b"a", b"b", b"c", b"d"]
    assert sorted(order.counter for order, _ in first.records()) == [1, 1, 2, 2]


def test_records_written_at_one_time_are_seen_by_all_in_the_order_in_which_they_were_written(
    log_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if two writers had drawn one number; TileDB reads what has one timestamp in no order.
    monkeypatch.setattr(records, "random_timestamp", lambda: 7)
    first, second, reader = (new_log(log_uri, compact_fragments=7) for _ in range(3))
    for i in range(0, 30, 3):
        first.append([Record("k", b"%d" % i)])
        second.append([Record("k", b"%d" % (i + 1)), Record("k", b"%d" % (i + 2))])
        expected = [b"%d" % n for n in range(i + 3)]
        assert [bodies(log) for log in (first, second, reader, new_log(log_uri))] == [expected] * 4


def test_a_log_that_is_compacted_keeps_every_record_and_attachment(log_uri: str) -> None:
    log = new_log(log_uri, compact_fragments=3)
    orders = [log.append([Record("k", b"%d" % i, b"x" * i)])[0] for i in range(20)]
    assert len(log._commits()) < 20
    again = new_log(log_uri)
    assert bodies(again) == [b"%d" % i for i in range(20)]
    assert again.attachments(orders) == [b"x" * i for i in range(20)]


def test_what_lies_behind_a_record_is_read_when_it_is_asked_for(log_uri: str) -> None:
    log = new_log(log_uri)
    behind = [Record("b", b"%d" % i, b"y" * i) for i in range(5)]
    head, *orders = log.append([Record("k", b"head", b"x" * 700)], behind=behind)
    (other,) = log.append([Record("k", b"later")])
    assert other.counter > orders[-1].counter > head.counter
    for reader in (log, new_log(log_uri)):
        assert bodies(reader) == [b"head", b"later"]
        assert [order for order, _ in reader.records()] == [head, other]
        found = reader.behind([head, other])
        assert [(order, record.body) for order, record in found[0]] == [
            (order, b"%d" % i) for i, order in enumerate(orders)
        ]
        assert found[1] == []
        assert reader.attachments([orders[3], head]) == [b"yyy", b"x" * 700]


def test_of_many_captures_only_that_one_is_read_which_is_asked_about(store: Store) -> None:
    for version in range(5):
        put(store, np.arange(9.0) + version)
    store.compact(grace_seconds=0)
    with mistique.open(store.uri, mode="r") as reader:
        log = reader.catalog._log
        assert len(listing(reader).captures) == 5
        assert len(log._behind) == 0
        mistique.get(reader, "lab/model@3/train/stage", rows=[7])
        assert len(log._behind) == 1
        put(store, np.arange(3.0))
        assert len(listing(reader).captures) == 6
        assert len(log._behind) == 1


def test_an_attachment_that_is_not_there_is_an_error(log_uri: str) -> None:
    log = new_log(log_uri)
    (order,) = log.append([Record("k", b"body", b"attached")])
    with pytest.raises(ChunkCorruptError, match="got none"):
        log.attachments([type(order)(order.counter + 1, order.writer)])


@pytest.mark.slow
def test_a_reader_sees_every_record_once_while_two_processes_write_and_compact(log_uri: str) -> None:
    n = 25
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, log_uri, name, str(n)]) for name in ("a", "b")]
    reader = new_log(log_uri)
    seen: set[object] = set()
    while any(writer.poll() is None for writer in writers):
        reader.refresh()
        now = {order for order, _ in reader.records()}
        assert seen <= now
        seen = now
        fresh = new_log(log_uri)
        fresh.refresh()
        assert seen <= {order for order, _ in fresh.records()}
    assert [writer.returncode for writer in writers] == [0, 0]
    expected = sorted((kind, b"%d" % i) for kind in "ab" for i in range(n))
    for log in (reader, new_log(log_uri)):
        log.refresh()
        assert sorted((record.kind, record.body) for _, record in log.records()) == expected
        contents = log.attachments([order for order, _ in log.records()])
        assert [len(c) for c in contents] == [int(record.body) for _, record in log.records()]


def test_two_writers_of_one_model_make_two_versions(store: Store) -> None:
    other = mistique.open(store.uri)
    with capturing(store) as first, capturing(other) as second:
        first.add("x", np.array([1.0]))
        second.add("x", np.array([2.0]))
    assert {first.committed, second.committed} == {"lab/model@1", "lab/model@2"}
    for reader in (store, other, mistique.open(store.uri, mode="r")):
        assert mistique.get(reader, f"{first.committed}/train/x").values.tolist() == [1.0]
        assert mistique.get(reader, f"{second.committed}/train/x").values.tolist() == [2.0]


def test_an_open_store_sees_what_another_commits(store: Store) -> None:
    reader = mistique.open(store.uri, mode="r")
    for i in range(1, 4):
        put(store, np.array([float(i)]))
        assert mistique.get(reader, "lab/model@latest/train/stage").values.tolist() == [i]


def test_checkpoints_of_a_run_are_versions_and_the_newest_is_latest(store: Store) -> None:
    for epoch in (2, 1, 10):
        put(store, np.array([float(epoch)]), run_id="ab" * 16, epoch=epoch)
    assert mistique.get(store, "lab/model@1.2/train/stage").values.tolist() == [2]
    for version in ("latest", "1", "1.10"):
        assert mistique.get(store, f"lab/model@{version}/train/stage").values.tolist() == [10]


def test_latest_is_the_newest_version_that_has_the_dataset(store: Store) -> None:
    put(store, np.array([1.0]), dataset="valid")
    put(store, np.array([2.0]), dataset="train")
    assert mistique.get(store, "lab/model@latest/valid/stage").key == "lab/model@1/valid/stage"


def test_of_several_keys_latest_is_one_version(store: Store) -> None:
    put(store, np.array([1.0]))

    def keys() -> Iterator[str]:
        yield "lab/model@latest/train/stage"
        put(mistique.open(store.uri), np.array([2.0]))
        yield "lab/model@latest/train/stage"

    assert [capture.number for capture, _ in store.catalog.find_each(keys())] == ["1", "1"]
    assert store.catalog.find("lab/model@latest/train/stage")[0].number == "2"


def test_a_dropped_intermediate_is_not_read_again(store: Store) -> None:
    key = put(store, np.arange(3.0))
    store.drop(key)
    for reader in (store, mistique.open(store.uri, mode="r")):
        with pytest.raises(mistique.errors.NoPlanError, match=r"not stored.*not kept"):
            mistique.get(reader, key)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("lab/modle@1/train/stage", "model 'lab/modle'; nearest: lab/model"),
        ("lab/model@7/train/stage", "version 'lab/model@7'; nearest: lab/model@1"),
        ("lab/model@1/trian/stage", "dataset .*'trian'; nearest: train"),
        ("lab/model@1/train/stgae", "'stgae'; nearest: stage"),
    ],
)
def test_an_unknown_key_names_the_nearest(store: Store, key: str, what: str) -> None:
    put(store, np.arange(3.0))
    with pytest.raises(IntermediateNotFoundError, match=what):
        mistique.get(store, key)


@pytest.mark.slow
def test_a_store_of_1000_intermediates_is_listed_without_opening_a_segment(store: Store) -> None:
    for version in range(10):
        with capturing(store) as capture:
            for i in range(100):
                capture.add(f"stage-{i}", np.array([float(version)]))
    store.close()
    # No segment can be opened: there is none.
    (Path(store.uri) / "segments").rename(Path(store.uri).parent / "elsewhere")
    with mistique.open(store.uri, mode="r") as reader:
        assert sum(capture.n_intermediates for capture in listing(reader).captures) == 1000
        assert "lab/model@10" in repr(reader)
        assert not reader.segments._open


def test_of_versions_that_were_deleted_no_more_than_their_records_stays_in_memory(store: Store) -> None:
    keys = [put(store, np.full((40, 3), float(i))) for i in range(6)]
    held, log = store.catalog.find_capture(Key.parse(keys[0])), store.catalog._log
    for key in keys:
        mistique.get(store, key)
    n_of_one = len(log.behind([held.order])[0])
    for key in keys[:5]:
        store.delete(key.partition("/train")[0])
    put(store, np.zeros(3), model="lab/other")
    assert len(store.catalog._behind._known) <= 2  # that which is held, and which is there
    assert len(log._found_behind) <= 3 * n_of_one
    assert set(store.catalog._written._references) <= set(log._found_behind)
    # Who has one in hand goes on with it, whatever happened since.
    store.compact(grace_seconds=0)
    assert held.stored == {"stage"}
    assert store.catalog.references(held)["stage"].is_whole
    del held
    put(store, np.ones(3), model="lab/other")
    assert [np.unique(mistique.get(store, keys[5]).values).tolist()] == [[5.0]]


def test_a_capture_that_is_written_while_another_thread_reads_is_reported(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, is_reading, is_written = store.catalog._log, Event(), Event()
    reader, add_up, append = Thread(target=store.catalog.refresh), catalog_reader.captures_of, log.append

    def slow(*args: Any) -> Any:
        if current_thread() is reader:
            is_reading.set()
            assert is_written.wait(60)
            sleep(0.1)  # it ends after the writer has gone on
        return add_up(*args)

    def append_meanwhile(*args: Any, **options: Any) -> Any:
        if reader.ident is None:
            with mistique.open(store.uri) as other:  # there is something to read
                put(other, np.zeros(3), model="lab/other")
            reader.start()
            assert is_reading.wait(60)
        orders = append(*args, **options)
        is_written.set()
        return orders

    monkeypatch.setattr(catalog_reader, "captures_of", slow)
    monkeypatch.setattr(log, "append", append_meanwhile)
    key = put(store, np.ones(3))
    reader.join()
    assert np.array_equal(mistique.get(store, key).values, np.ones(3))


@pytest.mark.parametrize("writer", ["0" * 16, "f" * 16])
def test_a_number_that_was_told_stays_whoever_was_writing_meanwhile(
    tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with mistique.open(tmp_path / "s.mistique") as first, mistique.open(tmp_path / "s.mistique") as second:
        put(first, np.zeros(3))
        put(second, np.zeros(4))
        write_records = records.write_records

        def slow(*args: Any) -> Any:
            # The second has chosen where its record goes; before it lies there, the first commits a run, and tells.
            if not told:
                told.append("")
                told[0] = put(first, np.full(3, 1.0))
            return write_records(*args)

        monkeypatch.setattr(records, "write_records", slow)
        monkeypatch.setattr(second.catalog._log, "_writer", writer)
        told.append(put(second, np.full(3, 2.0)))
        assert len(set(told)) == 2
        for opened in (first, second, mistique.open(tmp_path / "s.mistique", mode="r")):
            assert [mistique.get(opened, key).values[0] for key in told] == [1.0, 2.0]
        assert put(first, np.full(3, 3.0)) == "lab/model@5/train/stage"


def test_two_that_gave_way_to_each_other_leave_no_number_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = "0" * 16, "f" * 16
    together, gave_way = Barrier(2, timeout=60), Event()
    n_written = dict.fromkeys((early, late), 0)
    write_records = records.write_records

    def slow(uri: str, ctx: Any, heads: Any, behind: Any) -> Any:
        writer = heads[0][0].writer
        if writer not in n_written:  # of another log
            return write_records(uri, ctx, heads, behind)
        n_written[writer] += 1
        if n_written[writer] == 1:  # each chose its place without the other, and looks when both are written
            together.wait()
            written = write_records(uri, ctx, heads, behind)
            together.wait()
            return written
        if writer == late and n_written[late] == 2:  # it claims another number when the other waits no longer
            assert gave_way.wait(60)
        written = write_records(uri, ctx, heads, behind)
        if writer == early and n_written[early] == 2:
            gave_way.set()
        return written

    with mistique.open(tmp_path / "s.mistique") as first, mistique.open(tmp_path / "s.mistique") as second:
        put(first, np.zeros(3))
        for opened, name in ((first, early), (second, late)):
            monkeypatch.setattr(opened.catalog._log, "_writer", name)
        monkeypatch.setattr(records, "write_records", slow)
        with ThreadPoolExecutor() as pool:
            told = list(pool.map(put, (first, second), (np.full(3, 1.0), np.full(3, 2.0))))
        assert sorted(told) == ["lab/model@2/train/stage", "lab/model@3/train/stage"]
        assert [mistique.get(first, key).values[0] for key in told] == [1.0, 2.0]


def claims(*numbers: int) -> dict[tuple[str, str], tuple[Order, int]]:
    """Of runs in this order."""
    return {("lab/model", f"run {i}"): (Order(i + 1, "0" * 16), number) for i, number in enumerate(numbers)}


@given(st.lists(st.integers(0, 6), max_size=8), st.integers(0, 8))
def test_runs_have_a_number_each_which_is_theirs_if_they_alone_claim_it(numbers: list[int], n_known: int) -> None:
    known = numbers_of(claims(*numbers[:n_known]), Saying([]), {})
    for before in ({}, known):
        found = list(numbers_of(claims(*numbers), Saying([]), before).values())
        assert len(set(found)) == len(numbers)
        alone = [i for i, number in enumerate(numbers) if number and numbers.count(number) == 1]
        assert [found[i] for i in alone] == [numbers[i] for i in alone]
        assert {number for number in numbers if number} <= set(found)
    # Known ones keep a number that they claim, whoever claims it later.
    later = numbers_of(claims(*numbers), Saying([]), known)
    assert all(later[run] == n for (run, n), claimed in zip(known.items(), numbers, strict=False) if n == claimed)


@pytest.mark.parametrize(
    ("claimed", "expected"), [((0, 0, 3), [1, 2, 3]), ((1, 1, 3), [1, 2, 3]), ((1, 1, 2), [1, 3, 2])]
)
def test_who_claims_no_number_of_its_own_is_counted_in_order(claimed: tuple[int, ...], expected: list[int]) -> None:
    first = numbers_of(claims(*claimed), Saying([]), {})
    assert list(first.values()) == expected
    assert numbers_of(claims(*claimed), Saying([]), first) == first
