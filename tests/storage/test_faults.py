"""A fault at each storage operation in turn: afterwards nothing is lost, nothing is half shown, nothing dangles.

A sample of the operations here, another one for each kind of work; the parts ``faults-*`` of ``python -m bench.safety``
try every one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.faulted import KINDS, WORK, trials
from tests.storage.faults import failing, unreadable

STEPS = {"make": 8, "compact": 60, "repair": 45}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("work", [pytest.param(name, marks=[pytest.mark.keras] * (name == "keras")) for name in WORK])
def test_a_fault_at_any_operation_loses_nothing(tmp_path: Path, work: str, kind: str) -> None:
    step = 290 if KINDS[kind] is unreadable else STEPS.get(work, 29)
    first = list(KINDS).index(kind) + list(WORK).index(work)
    tried = [*trials(work, kind, tmp_path, first=first, step=step)]
    assert [complaint for _, _, complaint in tried if complaint] == []
    assert tried
    assert tried[0][1] > 3


@pytest.mark.slow
def test_all_that_makes_a_store_is_among_the_operations(tmp_path: Path) -> None:
    import mistique

    with failing() as counted:
        mistique.open(tmp_path / "s.mistique").close()
    assert {"group_create", "Array.create", "Group.add", "Group.close", "Metadata.__setitem__"} <= {*counted.names}
