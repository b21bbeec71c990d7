"""How rows and columns are cut, by the width of an intermediate: reads of parts in other block and chunk sizes.

The part ``widths`` of `bench.read_path`; decision 18 quotes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest.mock import patch

import numpy as np

import mistique
from bench.harness import Report, Road, Scratch, interleaved
from bench.models import fresh_store
from mistique import schema

_SHAPES: dict[int, tuple[int, ...]] = {10: (10,), 500: (500,), 4_096: (8, 8, 64), 65_536: (32, 32, 64)}
_RULE = "as it is"


@dataclass(frozen=True)
class _Cut:
    """Rows of a block and cells of a chunk; None: as the rule has it."""

    block_rows: int | None = None
    chunk_cells: int | None = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While it lasts, what is captured and read is cut so."""
        with ExitStack() as stack:
            if self.block_rows is not None:
                fixed = {
                    "ROW_BLOCK_ROWS": self.block_rows,
                    "TABLE_BLOCK_ROWS": self.block_rows,
                    "ROW_BLOCK_CELLS": 2**62,
                }
                stack.enter_context(patch.multiple(schema, **fixed))
            if self.chunk_cells is not None:
                stack.enter_context(patch.multiple(schema, CHUNK_CELLS=self.chunk_cells))
            yield


_CUTS = {
    _RULE: _Cut(),
    "blocks of 64": _Cut(64),
    "blocks of 256": _Cut(256),
    "blocks of 1,024": _Cut(1024),
    "blocks of 4,096": _Cut(4096),
    "chunks of 16 Ki cells": _Cut(None, 16 * 1024),
    "chunks of 256 Ki cells": _Cut(None, 256 * 1024),
}


def measure_widths(report: Report, scratch: Scratch) -> None:
    """One column, one unit, ten scattered rows, and all, of tables and layers of 10 to 65,536 columns."""
    n_rounds, n_cells = (2, 2**21) if report.is_quick else (5, 2**26)
    report.notes += [
        "tables by raw, layers by power: positive normal values, half of them zero, float32. Each cut has a store of"
        " its own, open before the clock runs; page cache warm. Each round asks for another column, unit, other rows.",
        "a figure is the time of another cut over that of the rule; above 1 the rule is faster.",
    ]
    rng = np.random.default_rng(0)
    for width, shape in _SHAPES.items():
        n_rows = min(10_000, n_cells // width)
        values = np.maximum(rng.standard_normal((n_rows, width), np.float32), 0)
        if width <= 500:
            _compare(report, scratch, f"table {n_rows:,} x {width}", values, is_table=True, n_rounds=n_rounds)
        layer = values.reshape(n_rows, *shape)
        _compare(report, scratch, f"layer {n_rows:,} x {width:,}", layer, is_table=False, n_rounds=n_rounds)


def _compare(report: Report, scratch: Scratch, what: str, values: np.ndarray, *, is_table: bool, n_rounds: int) -> None:
    seen: dict[tuple[int, int], str] = {}
    stores: dict[str, mistique.Store] = {}
    paths = []
    for name, cut in _CUTS.items():
        with cut.applied():
            path, store = fresh_store(scratch)
            with store.capture(
                model="cut", dataset="d", framework="none", codec="raw" if is_table else "power"
            ) as taken:
                (taken.add if is_table else taken.append)("x", values)
            node = store.catalog.find("cut@1/d/x")[1]
            geometry = min(node.block_rows, node.n_rows), node.group_columns
        paths.append(path)
        if geometry in seen:  # nothing else than another name
            report.facts[f"{what}, {name}"] = f"the same as {seen[geometry]}"
            store.close()
            continue
        seen[geometry] = name
        stores[name] = store
        report.facts[f"{what}, {name}"] = {
            "block_rows": geometry[0],
            "group_columns": geometry[1],
            "stored_nbytes": node.stored_nbytes,
        }
    for question, asked in _questions(values, is_table=is_table).items():
        roads = {name: _road(store, _CUTS[name], asked) for name, store in stores.items()}
        timings = interleaved(roads, n_rounds=n_rounds)
        report.facts[f"{what}, {question}, seconds"] = timings.medians()
        for name in stores:
            if name != _RULE:
                report.add(f"{what}, {question}: {name} / the rule", timings.ratios(name, _RULE), is_high_better=True)
    for store in stores.values():
        store.close()
    for path in paths:
        Scratch.remove(path)


def _road(store: mistique.Store, cut: _Cut, asked: Callable[[int], dict[str, Any]]) -> Road:
    numbers = count()

    def ask(given: dict[str, Any]) -> None:
        with cut.applied():
            mistique.get(store, "cut@1/d/x", **given)

    return Road(ask, before=lambda: asked(next(numbers)))


def _questions(values: np.ndarray, *, is_table: bool) -> dict[str, Callable[[int], dict[str, Any]]]:
    n_rows, n_units = len(values), values.shape[-1]
    n_columns = values[0].size

    def rows(number: int) -> dict[str, Any]:
        return {"rows": np.sort(np.random.default_rng(number).choice(n_rows, 10, replace=False))}

    questions: dict[str, Callable[[int], dict[str, Any]]] = {
        "one column": lambda number: {"columns": [(7 + 997 * number) % n_columns]},
        "10 scattered rows": rows,
        "all": lambda number: {},
    }
    if n_units < n_columns:
        questions["one unit"] = lambda number: {"unit": (5 + 11 * number) % n_units}
    return questions
