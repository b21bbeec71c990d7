"""The table of what is supported names tests that exist: a line without one is not there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "sklearn.md"


def test_every_line_of_the_table_names_tests_that_exist() -> None:
    table = PAGE.read_text().partition("<!-- table:")[2]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 15
    for line in lines:
        named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", line)
        assert named, f"no test in: {line}"
        for file, name in named:
            assert f"def {name or 'test_'}" in (HERE / file).read_text(), f"{file}::{name}"
