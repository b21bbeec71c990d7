"""Text that stages pass on is taken apart once, and what was taken early is encoded beside the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.ingest.columns import describe
from mistique.ingest.texts import SeenTexts
from mistique.sklearn.content import content_digest
from mistique.store import Store
from tests.capturing import capturing

TOWNS = ["Kent", None, "Renton", "", "Sankt Pölten"] * 20


def _frame(towns: list[str | None] = TOWNS) -> pd.DataFrame:
    return pd.DataFrame({"town": pd.array(towns, dtype="str"), "rooms": np.arange(float(len(towns)))})


def test_text_that_is_passed_on_is_the_same_column_again() -> None:
    seen, frame = SeenTexts(), _frame()
    first = describe(frame, what="a", texts=seen).parts
    passed_on = describe(frame.assign(rooms=1.0).copy(), what="b", texts=seen).parts
    assert isinstance(first, list)
    assert isinstance(passed_on, list)
    assert passed_on[0] is first[0]


def test_text_that_was_changed_in_place_is_another_column() -> None:
    seen, frame = SeenTexts(), _frame()
    describe(frame, what="a", texts=seen)
    frame.loc[0, "town"] = "Auburn"
    changed = describe(frame, what="b", texts=seen).parts
    assert isinstance(changed, list)
    assert changed[0].cells[:3].tolist() == ["Auburn", "", "Renton"]


@pytest.mark.parametrize("towns", [TOWNS, [], [None] * 5])
def test_equal_text_has_one_digest_wherever_it_lies(towns: list[str | None]) -> None:
    inside = _frame(["before", *towns, "behind"])[["town"]].iloc[1:-1].reset_index(drop=True)
    assert content_digest(inside) == content_digest(_frame(towns)[["town"]]) != ""


@pytest.mark.parametrize("other", [["Kent", None], ["Kent", ""], ["Ken", "t"], [None, "Kent"], ["Kent", "", ""]])
def test_other_text_has_another_digest(other: list[str | None]) -> None:
    assert content_digest(_frame(other)[["town"]]) != content_digest(_frame(["Kent", "t"])[["town"]])


def test_what_settled_early_and_what_came_later_are_both_stored(store: Store) -> None:
    frame = _frame()
    with capturing(store) as capture:
        capture.add("first", frame)
        capture.settle()
        capture.add("second", frame.assign(rooms=frame.rooms * 2))
        capture.settle()
        capture.add("third", frame.assign(rooms=frame.rooms))
    for name, factor in (("first", 1), ("second", 2), ("third", 1)):
        found = mistique.get(store, f"{capture.committed}/train/{name}").to_frame()
        pd.testing.assert_frame_equal(found, frame.assign(rooms=frame.rooms * factor))
    references = store.catalog.references(store.catalog.find(f"{capture.committed}/train/first")[0])
    assert references["first"].runs == references["third"].runs
