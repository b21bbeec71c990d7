"""Threads that share one Store lose nothing."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

import mistique
from mistique.errors import IntermediateNotFoundError
from mistique.schema import Key
from mistique.storage.segment_writer import SegmentWriter
from mistique.store import Store
from tests.capturing import put


def test_captures_of_eight_threads_are_all_there_and_right(store: Store) -> None:
    def work(number: int) -> str:
        return put(store, np.full(100, float(number)), model=f"lab/{number % 3}")

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(work, range(24)))
    assert len(store.catalog.captures()) == 24
    assert len(set(keys)) == 24
    found = sorted(
        float(mistique.get(store, f"{capture.prefix}/stage").values[0]) for capture in store.catalog.captures()
    )
    assert found == [float(number) for number in range(24)]


def test_threads_that_capture_and_delete_do_not_get_in_the_way_of_those_that_ask(store: Store) -> None:
    sent, deleted, is_over = {put(store, np.full((60, 2), -1.0)): -1.0}, set(), Event()

    def write(number: int) -> None:
        mine: list[str] = []
        for i in range(15):
            value = 100.0 * number + i
            mine.append(put(store, np.full((60, 2), value), model=f"lab/{number}"))
            sent[mine[-1]] = value
            if i % 3 == 2:
                deleted.add(mine[0])
                store.delete(mine.pop(0).partition("/train/")[0])

    def ask(number: int) -> None:
        chosen = random.Random(number)
        while not is_over.is_set():
            key = chosen.choice(list(sent))
            try:
                held = store.catalog.find_capture(Key.parse(key))
                assert set(mistique.get(store, key).values.flat) == {sent[key]}
            except IntermediateNotFoundError:
                assert key in deleted
            else:
                store.catalog.refresh()  # deleted now or not, who has it in hand goes on with it
                assert store.catalog.references(held)["stage"].is_whole

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(2)]
        writing = [pool.submit(write, number) for number in range(2)]
        wait(writing)
        is_over.set()
        for future in (*writing, *asking):
            future.result()
    for key, value in sent.items():
        if key not in deleted:
            assert set(mistique.get(store, key).values.flat) == {value}


def test_a_survey_is_of_one_moment_though_another_compacts_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [put(store, np.full((60, 2), float(i))) for i in range(3)]
    store.compact()
    moves = store.catalog.moves
    part, n_before = moves._part, moves.n_records

    def compacted_meanwhile(*args: Any) -> Any:
        if moves.n_records == n_before:  # what was moved once is moved again while it is followed
            with mistique.open(store.uri) as other:
                keys.append(put(other, np.full((60, 2), 3.0)))
                other.compact()
            store.catalog.refresh()
            assert moves.n_records > n_before
        return part(*args)

    monkeypatch.setattr(moves, "_part", compacted_meanwhile)
    store.compact()
    assert [mistique.get(store, key).values[0, 0] for key in keys] == [0.0, 1.0, 2.0, 3.0]
    assert store.check().is_whole


def test_a_compaction_begins_anew_when_another_without_grace_removes_what_it_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [put(store, np.full((60, 2), float(i))) for i in range(3)]
    create, made = SegmentWriter._create, []

    def removed_meanwhile(writer: SegmentWriter, n_bytes: int) -> None:
        create(writer, n_bytes)
        made.append(writer.id)
        if len(made) == 1:
            with mistique.open(store.uri) as other:
                other.compact(grace_seconds=0)

    monkeypatch.setattr(SegmentWriter, "_create", removed_meanwhile)
    store.compact(grace_seconds=0)
    assert made[0] not in (segment.name for segment in (Path(store.uri) / "segments").iterdir())
    assert [mistique.get(store, key).values[0, 0] for key in keys] == [0.0, 1.0, 2.0]
    assert store.check().is_whole
