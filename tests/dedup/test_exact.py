"""What the store holds already is referred to, whoever wrote it; what the index says is held against the segment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mistique
from mistique.store import Store
from tests.capturing import capturing, put, put_layer

if TYPE_CHECKING:
    import pandas as pd


def segments(store: Store) -> set[str]:
    """Names of the segments there are."""
    return {path.name for path in Path(store.uri, "segments").iterdir() if not path.name.startswith("__")}


def added(store: Store, key: str) -> int:
    """Bytes that an intermediate added to the store."""
    return store.catalog.find(key)[1].stored_nbytes


def test_a_table_that_another_model_stored_adds_nothing(store: Store, homes: pd.DataFrame) -> None:
    first = put(store, homes, model="homes/one")
    before = segments(store)
    second = put(store, homes, model="homes/two")
    assert added(store, first) > 0
    assert added(store, second) == 0
    assert segments(store) == before
    assert mistique.get(store, second).to_frame().reset_index(drop=True).equals(homes.reset_index(drop=True))


def test_a_table_that_another_process_stored_adds_nothing(store: Store, homes: pd.DataFrame) -> None:
    program = (
        "import sys, mistique; from mistique.data import load_homes; from tests.capturing import put;"
        "put(mistique.open(sys.argv[1]), load_homes().iloc[:1500], model='homes/one')"
    )
    subprocess.run([sys.executable, "-c", program, store.uri], check=True, cwd=Path(__file__).parents[2])
    assert added(store, put(store, homes, model="homes/two")) == 0


def test_only_the_columns_that_changed_are_stored_anew(store: Store, homes: pd.DataFrame) -> None:
    put(store, homes, model="homes/one")
    before = segments(store)
    changed = homes.assign(grade=homes["grade"] + 1)
    key = put(store, changed, model="homes/two")
    _, intermediate = store.catalog.find(key)
    references = store.catalog.references(store.catalog.find(key)[0])[intermediate.name]
    assert mistique.get(store, key).to_frame().reset_index(drop=True).equals(changed.reset_index(drop=True))
    new_columns = {
        run.group + i
        for run in references.runs
        for i in range(run.n_groups)
        if references.segments[run.segment].id not in before
    }
    assert new_columns == {homes.columns.get_loc("grade")}


def test_a_column_that_a_stage_passes_through_is_stored_once(store: Store) -> None:
    table = np.random.default_rng(0).random((3000, 4))
    with capturing(store) as capture:
        capture.add("input", table, role="input")
        capture.add("passed", table, parents=("input",))
    assert added(store, "lab/model@1/train/passed") == 0
    assert np.array_equal(mistique.get(store, "lab/model@1/train/passed").values, table)


def test_columns_that_are_null_in_the_same_rows_share_one_mask(store: Store) -> None:
    import pandas as pd

    is_null = np.random.default_rng(0).random(2000) < 0.4
    one = pd.Series(np.arange(2000), dtype="Int64").mask(is_null)
    key = put(store, pd.DataFrame({"one": one, "two": one * 7}))
    capture, intermediate = store.catalog.find(key)
    runs = store.catalog.references(capture)[intermediate.name].runs
    masks = [(run.segment, run.segment_group) for run in runs for _ in range(run.n_groups) if run.group >= 2]
    assert len(set(masks)) == 1


def test_equal_bits_of_another_type_are_not_taken_for_the_column(store: Store) -> None:
    put(store, np.zeros(500, np.float64))
    key = put(store, np.zeros(500, np.int64))
    assert mistique.get(store, key).values.dtype == np.int64


def test_an_index_entry_that_points_to_another_chunk_does_no_harm(store: Store) -> None:
    from mistique.codecs import Raw
    from mistique.storage.digests import Place, chunk_digest, codec_text
    from mistique.storage.records import random_timestamp

    put(store, np.arange(500.0))
    digest = chunk_digest(np.ones((1, 500)), np.empty(0), codec_text(Raw().config()))
    segment = next(iter(segments(store)))
    for place in (Place(segment, 0, 0), Place("f" * 32, 0, 0), Place(segment, 9, 9)):
        store._digests.add({digest: place}, timestamp=random_timestamp())
    key = put(store, np.ones(500))
    assert mistique.get(store, key).values.tolist() == [1.0] * 500


def test_blocks_of_a_layer_that_are_alike_are_stored_once(store: Store) -> None:
    layer = np.tile(np.random.default_rng(0).random((1024, 16), np.float32), (3, 1))
    key = put_layer(store, layer, batch_rows=512)
    capture, intermediate = store.catalog.find(key)
    runs = store.catalog.references(capture)[intermediate.name].runs
    assert {(run.segment_block, run.segment_group) for run in runs} == {(0, 0)}
    assert np.array_equal(mistique.get(store, key).values, layer)
