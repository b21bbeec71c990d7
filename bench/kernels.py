"""Speed of kernels and codecs on one core, against a copy of the same float32 bytes; bytes a value of each codec."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.harness import Report, Road, Scratch, interleaved, run
from bench.models import fashion, layer_outputs
from mistique.codecs import Codec, KBit, LowPrecision, Power, Raw, Threshold, within, zstd
from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.payload import PayloadReader
from mistique.kernels import digest, kbit, look_up, power
from mistique.schema import ColumnType
from mistique.sklearn.content import content_digest

FLOAT32 = ColumnType("float32", "<f4")
SHAPE = (64, 1024)
CHUNK = SHAPE[0] * SHAPE[1]


def measure(report: Report, scratch: Scratch) -> None:
    report.notes += [
        "kernels: over a layer's bytes, more than the caches hold, chunk by chunk as a capture does; a copy of the same"
        " bytes by numpy.copyto into memory that has been written before. 1 is as fast as the copy.",
        "content digest: of the same bytes as one array, as a stage's input is known again; against numpy's sum of its"
        " 64-bit words, which reads each once.",
        "k-bit: histogram and codes, the table made once; power: range and codes. Both without the entropy stage.",
        "codecs: chunk by chunk, entropy stage included; bytes a value are those of the payloads.",
        "layer: conv2 of the CNN, unit by unit, chunks of 64 columns x 1,024 rows.",
    ]
    n_rows = 1024 if report.is_quick else 4096
    network = fashion(n_rows)
    layer = layer_outputs(network.net, network.x, layers=["conv2"])["conv2"]
    columns = np.moveaxis(layer, -1, 1).reshape(n_rows, -1).T
    whole = columns[: columns.shape[0] // SHAPE[0] * SHAPE[0], : n_rows // SHAPE[1] * SHAPE[1]]
    blocks = whole.reshape(-1, SHAPE[0], whole.shape[1] // SHAPE[1], SHAPE[1]).swapaxes(1, 2)
    chunks = np.ascontiguousarray(blocks.reshape(-1, *SHAPE))
    _kernels(report, chunks.reshape(-1))
    _codecs(report, chunks[: 8 if report.is_quick else 200])


def _kernels(report: Report, values: np.ndarray) -> None:
    copied, codes, decoded = np.zeros_like(values), np.zeros(values.size, np.uint8), np.zeros_like(values)
    key, context, out = digest.expand_key(bytes(32)), np.zeros(2, np.uint64), np.zeros(2, np.uint64)
    counts, is_there = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.uint8)
    table = np.arange(1 << 16, dtype=np.uint16).astype(np.uint8)
    found, numbers = np.zeros(2, np.uint32), np.zeros(256, np.uint32)

    def digest_chunk(chunk: slice) -> None:
        digest.digest_words(values[chunk].view(np.uint64), np.uint64(CHUNK * 4), context, key, out)

    def encode_power(chunk: slice) -> None:
        power.largest_patterns(values[chunk].view(np.uint32), found)
        largest = max(float(found[:1].view(np.float32)[0]), 1e-9)
        power.encode_power_positive(values[chunk], np.float32(31**2 / largest), codes[chunk])

    def encode_kbit(chunk: slice) -> None:
        kbit.count_tops(values[chunk].view(np.uint32), 8, is_there, counts)
        kbit.encode_tops(values[chunk].view(np.uint32), table, codes[chunk])

    def decode(chunk: slice) -> None:
        look_up.look_up(codes[None, chunk], numbers[None], decoded[None, chunk].view(np.uint32))

    def over_chunks(kernel: Callable[[slice], None]) -> None:
        for start in range(0, values.size, CHUNK):
            kernel(slice(start, start + CHUNK))

    kernels: dict[str, Callable[[slice], None]] = {
        "digest": digest_chunk,
        "power encode": encode_power,
        "kbit encode": encode_kbit,
        "decode by table": decode,
    }
    roads = {name: Road(lambda _, f=kernel: over_chunks(f)) for name, kernel in kernels.items()}
    roads["content digest"] = Road(lambda _: content_digest(values))
    roads["read"] = Road(lambda _: np.add.reduce(values.view(np.uint64)))
    roads["copy"] = Road(lambda _: np.copyto(copied, values))
    timings = interleaved(roads, n_rounds=5 if report.is_quick else 21)
    bars = {"digest": 0.8, "power encode": 0.3, "kbit encode": 0.3}
    for name in kernels:
        title = f"{values.nbytes / 1e6:.0f} MB of float32: {name} / copy, speed"
        report.add(title, timings.ratios("copy", name), bar=bars.get(name), is_high_better=True)
    title = f"{values.nbytes / 1e6:.0f} MB: content digest / reading once, time"
    report.add(title, timings.ratios("content digest", "read"), bar=2.0)
    report.facts["kernels, GB/s of float32"] = {
        name: round(values.nbytes / seconds / 1e9, 2) for name, seconds in timings.medians().items()
    }


def _codecs(report: Report, chunks: np.ndarray) -> None:
    codecs: dict[str, Codec] = {
        "raw": Raw(),
        "power 5 bits": Power(),
        "power 8 bits": Power(8),
        "kbit 5 bits": KBit(5),
        "kbit 8 bits": KBit(),
        "bfloat16": LowPrecision(),
        "threshold": Threshold(positions=64),
        "within relative 1e-2": within(relative=1e-2),
    }
    for name, codec in codecs.items():
        _report_coder(
            report,
            name,
            chunks,
            encode=lambda chunk, c=codec: c.encode(chunk, FLOAT32),
            decode=lambda payload, c=codec: c.decode(payload, SHAPE, FLOAT32),
        )
    codes = [Power().codes(chunk, FLOAT32)[0] for chunk in chunks]
    coders: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
        "power codes, entropy stage": (
            encode_codes,
            lambda coded: decode_codes(PayloadReader(np.frombuffer(coded, np.uint8)), SHAPE),
        ),
    }
    for level in (1, 3):
        coders[f"power codes, zstd {level}"] = (
            lambda block, n=level: zstd.compress(block, level=n),
            lambda frame: zstd.decompress(np.frombuffer(frame, np.uint8), CHUNK),
        )
    for name, (encode, decode) in coders.items():
        _report_coder(report, name, codes, encode=encode, decode=decode)


def _report_coder(
    report: Report, name: str, blocks: Any, *, encode: Callable[[Any], Any], decode: Callable[[Any], Any]
) -> None:
    payloads = [encode(block) for block in blocks]
    roads = {
        "encode": Road(lambda _: [encode(block) for block in blocks]),
        "decode": Road(lambda _: [decode(payload) for payload in payloads]),
    }
    timings = interleaved(roads, n_rounds=1 if report.is_quick else 5, n_warm_up=0)
    n_values = CHUNK * len(payloads)
    report.add(f"{name}: payload", sum(len(payload) for payload in payloads) / n_values, unit="B/val")
    report.facts[f"{name}: million values a second"] = {
        verb: round(n_values / timings.median(verb) / 1e6, 1) for verb in roads
    }


if __name__ == "__main__":
    sys.exit(run("kernels", __doc__, measure))
