"""References come from a record that a stranger may have written: what cannot be is refused before it is used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from mistique.schema import Dictionary, Part, References, Run, Segment
from mistique.storage.record_bodies import references_of

SEGMENT = Segment("ab" * 16, 4, 4, Part(0, 8, "00"), Part(8, 8, "00"), 64)
REFERENCES = References((SEGMENT,), (Run(0, 0, 4, 0, 1, 0, 1, 0, 0, 0),), (Dictionary(0, 0, 3, 0),))


def body(**changes: Any) -> dict[str, Any]:
    found = asdict(REFERENCES)
    found["runs"] = [{**run, **changes} for run in found["runs"]]
    return found


def test_references_come_back_as_they_were_written() -> None:
    assert references_of(body()) == REFERENCES


@pytest.mark.parametrize("changes", [{"unit": 2**30}, {"block_step": -(2**40)}, {"segment": 1}, {"segment": -1}])
def test_chunks_that_lie_nowhere_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="chunks at"):
        references_of(body(**changes))


@pytest.mark.parametrize("changes", [{"unit": "0"}, {"n_blocks": 1.5}, {"group": None}])
def test_places_that_are_no_numbers_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="expected int"):
        references_of(body(**changes))


def test_a_dictionary_that_lies_nowhere_is_refused() -> None:
    found = body()
    found["dictionaries"] = [{**found["dictionaries"][0], "segment": 7}]
    with pytest.raises(ValueError, match="chunks at"):
        references_of(found)
