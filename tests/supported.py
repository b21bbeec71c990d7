"""The tables of what is supported, in docs/sklearn.md and docs/keras.md: written from the marks of the tests.

``@pytest.mark.supported(what, how)`` puts a test into the line of `what`; the first that names a line says how it is
supported, others say `what` alone. ``python -m tests.supported`` writes the tables; lines stay where they are, new ones
come last.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PAGES = {"sklearn": DOCS / "sklearn.md", "keras": DOCS / "keras.md"}
_HEAD = "| what | how | held by |\n|---|---|---|\n"
_TABLE = re.compile(re.escape(_HEAD) + r"((?:\|.*\n)*)")


def marked(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Of each mark below a folder: the line, how (may be empty), and the test."""
    for path in sorted(folder.glob("test_*.py")):
        for test in ast.parse(path.read_text()).body:
            if isinstance(test, ast.FunctionDef):
                for decorator in test.decorator_list:
                    for case, said in _marks(decorator, ""):
                        yield said[0], "".join(said[1:]), f"{path.name}::{test.name}{case}"


def _marks(node: ast.AST, case: str) -> Iterator[tuple[str, list[str]]]:
    """The marks within a decorator, each with the case of a parametrized test that it is put on: ``[sequential]``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "supported":
            yield case, [ast.literal_eval(argument) for argument in node.args]
            return
        if node.func.attr == "param":
            case = f"[{ast.literal_eval(node.args[0])}]"
    for child in ast.iter_child_nodes(node):
        yield from _marks(child, case)


def written(page: str, folder: Path) -> str:
    """A page, its table being that of the tests in a folder.

    Raises
    ------
    ValueError
        A line of which no test says how, or more than one does.
    """
    how: dict[str, list[str]] = {}
    tests: dict[str, list[str]] = {}
    for what, said, test in marked(folder):
        how.setdefault(what, []).extend([said] if said else [])
        tests.setdefault(what, []).append(f"`{test}`")
    if unclear := {what: said for what, said in how.items() if len(said) != 1}:
        raise ValueError(f"how these are supported has to be said once: {unclear}")
    found = _TABLE.search(page)
    if found is None:
        raise ValueError(f"no table that begins with {_HEAD!r}")
    places = {line.split(" | ")[0].removeprefix("| "): i for i, line in enumerate(found[1].splitlines())}
    lines = [
        f"| {what} | {how[what][0]} | {', '.join(tests[what])} |\n"
        for what in sorted(tests, key=lambda what: places.get(what, len(places)))
    ]
    return page[: found.start()] + _HEAD + "".join(lines) + page[found.end() :]


if __name__ == "__main__":
    for name, target in PAGES.items():
        target.write_text(written(target.read_text(), TESTS / name))
