"""An intermediate whose lineage the store holds is recorded without its values."""

from __future__ import annotations

import numpy as np
import pytest

import mistique
from mistique.errors import CaptureError
from mistique.store import Store
from tests.capturing import capturing

VALUES = np.arange(12.0).reshape(6, 2)


def test_what_is_reused_answers_as_what_was_captured(store: Store) -> None:
    with capturing(store) as capture:
        assert not capture.reuse("scale", lineage="abc")
        capture.add("scale", VALUES, lineage="abc")
    with capturing(store) as capture:
        assert capture.reuse("scaled", lineage="abc", aliases=("1",))
        capture.add("after", VALUES + 1)
    answer = mistique.get(store, "lab/model@2/train/scaled")
    assert answer.values.tolist() == VALUES.tolist()
    assert store.catalog.find("lab/model@2/train/scaled")[1].stored_nbytes == 0


def test_another_codec_is_not_what_was_asked(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("scale", VALUES, lineage="abc")
    with capturing(store, codec="power") as capture:
        assert not capture.reuse("scale", lineage="abc")
        capture.add("scale", VALUES, lineage="abc")


def test_what_was_dropped_is_not_held(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("scale", VALUES, lineage="abc")
    store.drop("lab/model@1/train/scale")
    with capturing(store) as capture:
        assert not capture.reuse("scale", lineage="abc")
        capture.add("scale", VALUES)


def test_rows_of_what_is_reused_must_be_those_of_the_input(store: Store) -> None:
    with capturing(store) as capture:
        capture.add("scale", VALUES, lineage="abc")
    with pytest.raises(CaptureError, match="'scale' has 6 rows, expected 3"), capturing(store) as capture:
        capture.add("input", VALUES[:3], role="input")
        capture.reuse("scale", lineage="abc")
