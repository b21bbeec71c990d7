"""The examples of README.md, docs/ and the docstrings run as they stand.

A Markdown file's ``python`` blocks run one after the other as one script in an empty folder, in a process of
their own and with the file's own line numbers, so that a traceback points into the file. ``<!-- no-run -->``
on a line before a block leaves it out.
"""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
BLOCK = re.compile(
    r"^(?P<skip><!-- no-run -->[ \t]*\n\s*)?^```python[^\n]*\n(?P<code>.*?)^```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


def script_of(markdown: str) -> str:
    """The Python of a page, every line at the line where it stands in the page; empty when none is to run."""
    lines = [""] * (markdown.count("\n") + 1)
    for block in BLOCK.finditer(markdown):
        if block["skip"] is None:
            start = markdown.count("\n", 0, block.start("code"))
            code = block["code"].splitlines()
            lines[start : start + len(code)] = code
    return "\n".join(lines).rstrip()


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What came of running it in that folder."""
    path = folder / "page.py"
    path.write_text(script, encoding="utf-8")
    return subprocess.run([sys.executable, str(path)], cwd=folder, capture_output=True, text=True, check=False)


def needs_keras(source: str) -> list[pytest.MarkDecorator]:
    """The marker for what imports Keras."""
    return [pytest.mark.keras] if re.search(r"\b(keras|tensorflow)\b", source) else []


def pages_with_examples() -> list[object]:
    """Every page that has something to run."""
    scripts = {page: script_of(page.read_text(encoding="utf-8")) for page in PAGES}
    return [
        pytest.param(script, id=str(page.relative_to(ROOT)), marks=needs_keras(script))
        for page, script in scripts.items()
        if script
    ]


def modules_with_examples() -> list[object]:
    """Every module of mistique whose source has a doctest, found without importing it."""
    spec = find_spec("mistique")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    found = []
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if re.search(r"^\s*>>> ", source, re.MULTILINE):
            name = ".".join(("mistique", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
            in_keras = name.startswith("mistique.keras")
            found.append(pytest.param(name, marks=[pytest.mark.keras] if in_keras else needs_keras(source)))
    return found


@pytest.mark.parametrize("script", pages_with_examples())
def test_page_runs(script: str, tmp_path: Path) -> None:
    run = run_script(script, tmp_path)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"


@pytest.mark.parametrize("module_name", modules_with_examples())
def test_docstring_examples_hold(module_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(module_name)
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    outcome = doctest.testmod(module, optionflags=flags)
    assert outcome.failed == 0
    assert outcome.attempted > 0


def test_blocks_share_one_namespace_and_keep_their_lines(tmp_path: Path) -> None:
    page = "# Page\n\n```python\nx = 1\n```\n\ntext\n\n```python\nassert x == 1\nraise SystemExit(x + 6)\n```\n"
    script = script_of(page)
    assert script.splitlines()[3] == "x = 1"
    assert run_script(script, tmp_path).returncode == 7


@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_a_marked_block_is_left_out(gap: str) -> None:
    page = f"```python\na = 1\n```\n<!-- no-run -->{gap}```python\nb = 2\n```\n"
    assert script_of(page).split() == ["a", "=", "1"]


def test_other_languages_are_left_out() -> None:
    assert script_of("```console\nmistique demo\n```\n\n```\nplain\n```\n") == ""
