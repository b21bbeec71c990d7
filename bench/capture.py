"""What capture costs: the time and memory of a fit, and of a network's pass, with it and without."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from threadpoolctl import threadpool_limits

from bench.harness import Report, Road, Scratch, Timings, in_subprocess, interleaved, peak_nbytes, run
from bench.models import (
    BATCH_ROWS,
    Fashion,
    Homes,
    batches,
    captured_fashion,
    captured_homes,
    close_store,
    extractor,
    fashion,
    fresh_store,
    homes,
)


def measure(report: Report, scratch: Scratch) -> None:
    report.notes += [
        "fit: a round is one store and three pipelines; each is fitted plainly and with capture, in changing order,"
        " with one OpenMP thread.",
        "forward pass: keras.Model of every layer's output, predict_on_batch, each output fetched and thrown away.",
        "keep=none: the same hooked pass, only input and target stored: the difference to raw is encoding and writing.",
        "every capture is into an empty store that was made before the clock ran; the commit is within the time.",
        "callback: one on_epoch_end over the same rows, as net.fit calls it.",
        "memory: peak resident set of a process of its own, above what it held when data and model were ready.",
    ]
    _fits(report, scratch, homes(4_000) if report.is_quick else homes(), n_rounds=1 if report.is_quick else 3)
    _passes(report, scratch, fashion(512 if report.is_quick else 5_000), n_rounds=1 if report.is_quick else 3)
    if report.is_quick:
        report.notes.append("quick: memory is not measured, one round")
    else:
        _memory(report)


def _fits(report: Report, scratch: Scratch, given: Homes, *, n_rounds: int) -> None:
    _fit_round(Timings(), scratch, Homes(given.X[:1_000], given.y[:1_000], given.pipelines), is_captured_first=False)
    timings = Timings()
    for number in range(n_rounds):
        _fit_round(timings, scratch, given, is_captured_first=number % 2 == 1)
    for road in ("captured", "plain"):
        by_pipeline = [timings.seconds[f"{name}, {road}"] for name in given.pipelines]
        timings.seconds[f"all three, {road}"] = [sum(parts) for parts in zip(*by_pipeline, strict=True)]
    for name in (*given.pipelines, "all three"):
        ratios = timings.ratios(f"{name}, captured", f"{name}, plain")
        report.add(f"fit {name}, {len(given.X):,} homes: captured / plain", ratios)
        added = timings.median(f"{name}, captured") - timings.median(f"{name}, plain")
        report.add(f"fit {name}: seconds added", added, unit="s")
    report.facts["fit_seconds"] = timings.medians()


def _fit_round(timings: Timings, scratch: Scratch, given: Homes, *, is_captured_first: bool) -> None:
    """Every pipeline fitted with and without capture, into one store."""
    opened = fresh_store(scratch)
    for name, pipe in given.pipelines.items():
        for is_captured in (is_captured_first, not is_captured_first):
            pipe.set_capture(opened[1] if is_captured else None, model=f"homes/{name}", on_error="raise")
            road = f"{name}, {'captured' if is_captured else 'plain'}"
            # With two OpenMP threads on cores that others use too, plain boosting took 22 s, captured 7 s (medians).
            with threadpool_limits(1, user_api="openmp"):
                timings.time(road, lambda p=pipe: p.fit(given.X, given.y))
    close_store(opened)


def _passes(report: Report, scratch: Scratch, given: Fashion, *, n_rounds: int) -> None:
    from mistique.keras import MistiqueCallback

    all_layers = extractor(given.net)
    few = Fashion(given.net, given.x[:BATCH_ROWS], given.y[:BATCH_ROWS])

    def fetch_all(_: Any) -> None:
        for batch in batches(given.x):
            all_layers.predict_on_batch(batch)

    def call_back(opened: Any) -> None:
        options: dict[str, Any] = {"codec": "power", "batch_size": BATCH_ROWS, "on_error": "raise"}
        callback = MistiqueCallback(opened[1], given.x, given.y, model="fashion/cnn", **options)
        callback.set_model(given.net)
        callback.set_params({"epochs": 1})
        callback.on_train_begin()
        callback.on_epoch_end(0)
        callback.on_train_end()

    def into_store(capture: Callable[[Any], Any]) -> Road:
        return Road(capture, before=lambda: fresh_store(scratch), after=close_store)

    roads = {
        "forward pass": Road(fetch_all),
        "predict": Road(lambda _: given.net.predict(given.x, batch_size=BATCH_ROWS, verbose=0)),
        "capture keep=none": into_store(lambda opened: captured_fashion(opened[1], given, keep="none")),
        "capture raw": into_store(lambda opened: captured_fashion(opened[1], given, codec="raw")),
        "capture power": into_store(lambda opened: captured_fashion(opened[1], given, codec="power")),
        "callback power": into_store(call_back),
    }
    for codec in ("raw", "power"):  # the warm-up: the last batch is smaller and is compiled for itself
        opened = fresh_store(scratch)
        captured_fashion(opened[1], few, codec=codec)
        close_store(opened)
    roads["forward pass"].run(None)
    roads["predict"].run(None)
    timings = interleaved(roads, n_rounds=n_rounds, n_warm_up=0)
    for road in list(roads)[2:]:
        report.add(f"CNN, {len(given.x):,} images: {road} / forward pass", timings.ratios(road, "forward pass"))
    for road in ("capture raw", "capture power"):
        report.add(f"CNN, {len(given.x):,} images: {road} / predict", timings.ratios(road, "predict"))
    report.facts["pass_seconds"] = timings.medians()


_PEAKS = ("fit plain", "fit captured", "pass plain", "pass raw", "pass power")


def _memory(report: Report) -> None:
    found = {what: in_subprocess("bench.capture", "--peak-of", what) for what in _PEAKS}
    for what, (ready, peak) in found.items():
        report.add(f"memory of {what}: peak above data and model", (peak - ready) / 1e6, unit="MB")
    report.facts["memory_nbytes"] = {what: {"ready": r, "peak": p} for what, (r, p) in found.items()}


def _peak_of(what: str) -> tuple[int, int]:
    """Peak bytes when everything is ready, and after the run."""
    kind, _, how = what.partition(" ")
    with Scratch() as scratch:
        _, store = fresh_store(scratch)
        if kind == "fit":
            given = homes()
            ready = peak_nbytes()
            if how == "captured":
                captured_homes(store, given)
            else:
                for pipe in given.pipelines.values():
                    pipe.fit(given.X, given.y)
        else:
            network = fashion()
            all_layers = extractor(network.net)
            all_layers.predict_on_batch(network.x[:BATCH_ROWS])
            ready = peak_nbytes()
            if how == "plain":
                for batch in batches(network.x):
                    all_layers.predict_on_batch(batch)
            else:
                captured_fashion(store, network, codec=how)
        return ready, peak_nbytes()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        print(json.dumps(_peak_of(sys.argv[2])))
    else:
        sys.exit(run("capture", __doc__, measure))
