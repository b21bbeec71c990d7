"""The table of what is supported says what the tests hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.keras.networks import CASES

HERE = Path(__file__).parent


def table() -> list[str]:
    """What the last column names: `test_...` or `test_drop_in[...]`."""
    lines = (HERE.parents[1] / "docs" / "keras.md").read_text().splitlines()
    _, *rows = (line.strip("| ").split(" | ") for line in lines if line.startswith("| "))
    named = {row[0]: re.findall(r"`(test_[^`]*)`", row[-1]) for row in rows}
    assert all(named.values()), named
    return [name for names in named.values() for name in names]


def test_each_line_of_the_table_names_a_test_and_each_network_is_in_it() -> None:
    tests = {
        node.name
        for path in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    known = tests | {f"test_drop_in[{name}]" for name in CASES}
    named = table()
    assert len(named) > 30
    assert set(named) <= known
    assert {f"test_drop_in[{name}]" for name in CASES} <= set(named)
    assert len(set(named)) == len(named)
