"""The tables of what is supported are those that the tests make."""

from __future__ import annotations

import pytest

from tests.supported import PAGES, TESTS, marked, written


@pytest.mark.parametrize("name", PAGES)
def test_the_table_of_a_page_is_what_the_marks_of_the_tests_say(name: str) -> None:
    page = PAGES[name].read_text()
    assert written(page, TESTS / name) == page, "python -m tests.supported"
    assert len(list(marked(TESTS / name))) > 20
