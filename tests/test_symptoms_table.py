"""docs/symptoms.md names tests that exist: a line without one is not there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "symptoms.md"


def test_every_symptom_names_tests_that_exist() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 43
    for line in lines:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", line)
        assert named, f"no test in: {line}"
        for file, name in named:
            assert f"def {name}(" in (HERE / file).read_text(), f"{file}::{name}"
