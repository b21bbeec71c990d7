"""What capture costs beside the model: time and memory of a network's pass, and time of a pipeline's fit.

Parts: cnn, memory, fit.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from threadpoolctl import threadpool_limits

import mistique
from bench import data
from bench.harness import Report, Road, Scratch, Timings, forget_peak, in_subprocess, interleaved, peak_nbytes, run
from bench.models import (
    AUTO,
    BATCH_ROWS,
    Network,
    batches,
    captured,
    cifar,
    close_store,
    extractor,
    fresh_store,
)
from bench.pipelines import homes_pipelines

_CODECS = tuple(dict.fromkeys((AUTO, "power", "raw")))
_ALLOWED_NBYTES = 300_000_000


def measure_cnn(report: Report, scratch: Scratch) -> None:
    """Capture of the CIFAR CNN's layers against the forward pass that fetches the same and throws them away."""
    given = cifar(256 if report.is_quick else 5_000)
    all_layers = extractor(given.net)

    def into_store(codec: str, keep: str = "all") -> Road:
        def take(opened: tuple[Path, mistique.store.Store]) -> None:
            captured(opened[1], given, model="cifar", codec=codec, keep=keep)

        return Road(take, before=lambda: fresh_store(scratch), after=close_store)

    roads = {
        "forward pass": Road(lambda _: _fetch(all_layers, given)),
        "not stored": into_store("raw", keep="none"),
        **{codec: into_store(codec) for codec in _CODECS},
    }
    timings = interleaved(roads, n_rounds=1 if report.is_quick else 5)
    what = f"CIFAR CNN, {len(given.x):,} images"
    for codec in _CODECS:
        bar = 1.3 if codec == AUTO else None
        report.add(f"{what}: capture by {codec} / forward pass", timings.ratios(codec, "forward pass"), bar=bar)
    report.add(f"{what}: capture, not stored / forward pass", timings.ratios("not stored", "forward pass"))
    n_values = sum(int(_row_nbytes(layer)) for layer in given.net.layers) * len(given.x)
    report.facts |= {"seconds": timings.medians(), "bytes fetched": n_values, "layers": _layer_names(given)}
    report.notes += [
        "forward pass: one compiled keras.Model of every layer's output, predict_on_batch in batches of"
        f" {BATCH_ROWS}, each output fetched as an array and thrown away.",
        "capture: mistique.keras.capture of every layer into an empty store that was made before the clock ran; the"
        " commit is within the time. After a warm-up of every road.",
        "not stored: keep='none', the same pass with only input, target and prediction stored.",
    ]


def measure_memory(report: Report, scratch: Scratch) -> None:
    """Peak memory of a capture over that of the forward pass, each in a process of its own."""
    if report.is_quick:
        report.notes.append("quick: two processes, few images")
    n_rows = 256 if report.is_quick else 5_000
    allowed = inspect.signature(mistique.open).parameters["max_buffer_nbytes"].default + _ALLOWED_NBYTES
    found = {}
    for road in ("forward pass", *((AUTO,) if report.is_quick else _CODECS)):
        found[road] = in_subprocess("bench.write_path", "--peak-of", road, str(n_rows))
    for codec in (road for road in found if road != "forward pass"):
        over = found[codec]["peak"] - found["forward pass"]["peak"]
        report.add(f"peak memory of capture by {codec} over forward pass", over / 1e6, unit="MB", bar=allowed / 1e6)
    report.facts["nbytes"] = found
    report.notes.append(
        "peak resident set (VmHWM) of a process that makes data and network, trains it, and runs one road; the bar is"
        " the default of max_buffer_nbytes and 300 MB."
    )


def measure_fit(report: Report, scratch: Scratch) -> None:
    """Pipeline.fit with capture against without, for ten pipelines over homes."""
    X, y = data.homes(3_000 if report.is_quick else None)
    templates = homes_pipelines()[::4] if report.is_quick else homes_pipelines()
    pipelines = {template.name: next(template.pipelines()) for template in templates}
    _fit_round(Timings(), scratch, pipelines, X[:1_000], y[:1_000], is_captured_first=False)
    timings = Timings()
    for number in range(1 if report.is_quick else 3):
        _fit_round(timings, scratch, pipelines, X, y, is_captured_first=number % 2 == 1)
    ratios = {name: timings.ratios(f"{name}, captured", f"{name}, plain") for name in pipelines}
    for name, found in ratios.items():
        report.add(f"fit {name}, {len(X):,} homes: captured / plain", found)
    report.add("fit, the median pipeline: captured / plain", median(map(median, ratios.values())), bar=1.2)
    for name, pipe in pipelines.items():
        # What capture cannot do without: the prediction of the training rows is an intermediate.
        timings.time(f"{name}, predict", lambda p=pipe: p.predict(X))
    report.facts["seconds"] = timings.medians()
    report.notes += [
        "a round: one empty store and all pipelines, each in its first setting fitted plainly and with capture, in"
        " changing order, with one OpenMP thread, after a round over 1,000 rows.",
        "predict, in the facts: the whole pipeline over the training rows, once; capture stores the prediction, so it"
        " has to run the last step where fit does not.",
    ]


def _fit_round(
    timings: Timings, scratch: Scratch, pipelines: dict[str, Any], X: Any, y: Any, *, is_captured_first: bool
) -> None:
    opened = fresh_store(scratch)
    for name, pipe in pipelines.items():
        for is_captured in (is_captured_first, not is_captured_first):
            pipe.set_capture(opened[1] if is_captured else None, model=f"homes/{name}", on_error="raise")
            road = f"{name}, {'captured' if is_captured else 'plain'}"
            # With more OpenMP threads than free cores, boosting waits for itself (22 s for 7 s).
            with threadpool_limits(1, user_api="openmp"):
                timings.time(road, lambda p=pipe: p.fit(X, y))
        pipe.set_capture(None)
    close_store(opened)


def _fetch(all_layers: Any, given: Network) -> None:
    for batch in batches(given.x):
        all_layers.predict_on_batch(batch)


def _layer_names(given: Network) -> list[str]:
    return [layer.name for layer in given.net.layers]


def _row_nbytes(layer: Any) -> int:
    n_values = 1
    for side in layer.output.shape[1:]:
        n_values *= side
    return 4 * n_values


def _peak_of(road: str, n_rows: int) -> dict[str, int]:
    """Peak bytes when everything is ready, and after the road."""
    given = cifar(n_rows)
    with Scratch() as scratch:
        path, store = fresh_store(scratch)
        all_layers = extractor(given.net)
        all_layers.predict_on_batch(given.x[:BATCH_ROWS])
        # The training before may have held more than what is measured.
        forget_peak()
        ready = peak_nbytes()
        if road == "forward pass":
            _fetch(all_layers, given)
        else:
            captured(store, given, model="cifar", codec=road)
        peak = peak_nbytes()
        close_store((path, store))
    return {"ready": ready, "peak": peak}


PARTS = {"cnn": measure_cnn, "memory": measure_memory, "fit": measure_fit}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        print(json.dumps(_peak_of(sys.argv[2], int(sys.argv[3]))))
    else:
        sys.exit(run("write_path", __doc__, PARTS))
