"""A pytest plugin: scikit-learn's tests of Pipeline, run on mistique's with capture on.

Every pipeline that the module under test makes is ours and captures each of its fits into a store of this session. At
the end the number of captures that were committed is printed, so that a run without any can be told.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest

import mistique
import mistique.sklearn

STORE = mistique.open(os.environ["MISTIQUE_OWN_SUITE_STORE"])
NUMBERS = itertools.count()


class Pipeline(mistique.sklearn.Pipeline):
    """Ours, capturing from the start."""

    def __init__(self, steps: Any, *, transform_input: Any = None, memory: Any = None, verbose: bool = False) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.set_capture(STORE, model=f"own/{next(NUMBERS)}")


def make_pipeline(*steps: Any, **options: Any) -> Pipeline:
    """As scikit-learn's, of ours."""
    made = mistique.sklearn.make_pipeline(*steps, **options)
    return Pipeline(made.steps, transform_input=made.transform_input, memory=made.memory, verbose=made.verbose)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put ours in the place of scikit-learn's in the module under test."""
    for module in {item.module for item in items}:  # type: ignore[attr-defined]
        module.Pipeline = Pipeline
        module.make_pipeline = make_pipeline


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was captured."""
    terminalreporter.write_line(f"captures committed: {len(STORE.catalog.captures())}")
