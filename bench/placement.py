"""What each step on a column's way into the store saves, one after the other: bytes, and seconds of the capture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from threadpoolctl import threadpool_limits

import mistique
from bench import data
from bench.flights import flights_pipelines
from bench.harness import Report, Scratch, nbytes_of
from bench.pipelines import homes_pipelines
from bench.template import Template, stage_tables

# The step that finds nothing when it is left out.
_STEPS = {
    "numbers": "mistique.ingest.tables.numbered",
    "bases": "mistique.dedup.bases.Bases.find",
    "images": "mistique.codecs.lossless_columns.find_image",
}
# How similar columns are placed, and the steps that are taken.
_WAYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "exact duplicates": ("off", ()),
    "and numbers and values": ("off", ("numbers",)),
    "and functions of what is stored": ("off", ("numbers", "bases")),
    "and images within a chunk": ("off", ("numbers", "bases", "images")),
    "and placement": ("on", ("numbers", "bases", "images")),
    "as by default, placement auto": ("auto", ("numbers", "bases", "images")),
    "images alone": ("off", ("images",)),
    "images and placement alone": ("on", ("images",)),
}


def measure_placement(report: Report, scratch: Scratch) -> None:
    """Homes and flights, every way of saving beside the others."""
    report.notes += [
        "the first setting of every third pipeline, fitted once; its tables are captured in every way in turn.",
        "bytes: of the segments alone. seconds: of all captures of that way, encoding and writing, without the fit.",
    ]
    X, y = data.homes(3_000 if report.is_quick else None)
    _measure(report, scratch, "homes", homes_pipelines()[:: 9 if report.is_quick else 3], X, y)
    X, y = data.flights(3_000 if report.is_quick else 100_000)
    _measure(report, scratch, "flights", flights_pipelines()[:: 9 if report.is_quick else 3], X, y)


def _measure(report: Report, scratch: Scratch, name: str, templates: Sequence[Template], X: Any, y: Any) -> None:
    paths = {way: scratch.path(f"{name}-{number}.mistique") for number, way in enumerate(_WAYS)}
    seconds = dict.fromkeys(_WAYS, 0.0)
    with ExitStack() as stack:
        stores = {
            way: stack.enter_context(mistique.open(paths[way], placement=placement))
            for way, (placement, _) in _WAYS.items()
        }
        for template in templates:
            pipe = next(template.pipelines())
            with threadpool_limits(1, user_api="openmp"):
                pipe.fit(X, y)
            tables = list(stage_tables(pipe, X, y))
            for way, store in stores.items():
                with _only(_WAYS[way][1]):
                    started = time.perf_counter()
                    _capture(store, f"{name}/{template.name}", tables)
                    seconds[way] += time.perf_counter() - started
    nbytes = {way: nbytes_of(path / "segments") for way, path in paths.items()}
    first = next(iter(_WAYS))
    what = f"{len(templates)} pipelines, {len(X):,} {name}"
    for way in list(_WAYS)[1:]:
        report.add(f"{what}: {first} / {way}, bytes", nbytes[first] / nbytes[way], is_high_better=True)
        report.add(f"{what}: {way} / {first}, seconds", seconds[way] / seconds[first])
    report.facts[name] = {"nbytes": nbytes, "seconds": seconds}


def _capture(store: mistique.store.Store, model: str, tables: Sequence[tuple[str, Any]]) -> None:
    with store.capture(model=model, dataset="train", framework="bench", codec="raw") as capture:
        for name, table in tables:
            capture.add(name, table)


@contextmanager
def _only(steps: Sequence[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for step, function in _STEPS.items():
            if step not in steps:
                stack.enter_context(patch(function, lambda *_, **__: None))
        yield
