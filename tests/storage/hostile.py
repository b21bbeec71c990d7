"""Damages stores at random, an encrypted one among them, and asks everything: a process of its own, as it may crash.

Usage: ``python -m tests.storage.hostile FOLDER SEED N``, of an empty folder. Prints what came out wrong; ends with 0 if
nothing did.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

import mistique
from mistique.errors import MistiqueError
from mistique.queries.listing import listing
from mistique.storage.artifacts import Artifact
from mistique.storage.encryption import KeySource
from mistique.storage.payloads import Payloads
from mistique.storage.record_cells import Record
from mistique.storage.record_fields import to_json
from mistique.storage.segments import SegmentReader
from mistique.storage.units import UnitTable
from mistique.store import Store
from tests.capturing import capturing, put
from tests.storage.flip_bytes import ask

N_ROWS = 40
# Beyond twice what the answers need: stacks and arenas of threads that happen to start, and pieces of 16 MiB.
SLACK_NBYTES = 64 * 2**20
MAX_ADDRESS_NBYTES = 2 * 2**30
# Of three rounds of damages of each kind, the last is of an encrypted store.
N_ROUNDS = 3
ABSURD = (-1, 0, 1, 255, 2**31, 2**53, 2**62, -(2**62), 1e308, None, True, "", "x" * 1000, [], {}, [[]])
OUTSIDE = ("../../../outside", "/outside", "s3://elsewhere/x", "file:///outside", "%2e%2e%2foutside", "\0", "..")


def stored_key() -> bytes:
    """Of the encrypted store."""
    return b"0" * 32


def make_store(path: Path, key: KeySource | None = None) -> Path:
    """A tiny store with a table, a layer, a quantized layer and a model, at two epochs."""
    labels = [f"r{i}" for i in range(N_ROWS)]
    table = pd.DataFrame({"n": np.arange(N_ROWS, dtype=float), "t": pd.array(["a", "bb", None, ""] * 10, dtype="str")})
    layer = np.random.default_rng(0).normal(size=(N_ROWS, 70)).astype(np.float32)
    with mistique.open(path, key=key) as store:
        move_some(store)
        for epoch in (1, 2):
            with capturing(store, run_id="0" * 32, epoch=epoch) as capture:
                capture.set_labels(labels)
                capture.add("table", table)
                capture.append("layer", layer + epoch)
                capture.append("coded", layer, codec="power")
                capture.keep_model(Artifact("pickle", b"payload" * 10))
        say_more(store)
    return path


def move_some(store: Store) -> None:
    """A record of each kind that a compaction writes, and of a model that was renamed."""
    for number in (1, 2):
        put(store, np.arange(3.0) + number, model=f"lab/old-{number}")
    store.rename("lab/old-1", to="lab/new")
    store.drop("lab/old-2@1/train/stage")
    store.compact(grace_seconds=0)
    store.compact(grace_seconds=0)


def say_more(store: Store) -> None:
    """A record of each kind of what is said later."""
    key, version = "lab/model@1.2/train/layer", "lab/model@1.2"
    mistique.index(store, key, max_share=8)
    store.pin(key)
    store.tag(version, "best")
    store.note(version, "a note")
    store.link(version, mlflow="run")


def files_of(path: Path) -> list[Path]:
    """Files that have something in them."""
    return sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)


def flip(path: Path, rng: random.Random) -> str:
    """One to forty bytes of a file."""
    file = rng.choice(files_of(path))
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 4, 40))):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    file.write_bytes(content)
    return f"flip {file.relative_to(path)}"


def cut(path: Path, rng: random.Random) -> str:
    """The end of a file is gone, or there is more of it."""
    file = rng.choice(files_of(path))
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.8 else content + rng.randbytes(100))
    return f"cut {file.relative_to(path)}"


def remove(path: Path, rng: random.Random) -> str:
    """A file or a folder is missing."""
    found = rng.choice(sorted(path.rglob("*")))
    shutil.rmtree(found) if found.is_dir() else found.unlink()
    return f"remove {found.relative_to(path)}"


def swap(path: Path, rng: random.Random) -> str:
    """Two files of one name, or two folders, in each other's place."""
    one = rng.choice(sorted(path.rglob("*")))
    alike = [p for p in path.rglob("*") if p != one and p.is_dir() == one.is_dir() and len(p.name) == len(one.name)]
    alike = [p for p in alike if p not in one.parents and one not in p.parents]
    if not alike:
        return flip(path, rng)
    other, aside = rng.choice(sorted(alike)), path / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return f"swap {one.relative_to(path)} and {other.relative_to(path)}"


def link(path: Path, rng: random.Random) -> str:
    """A file or folder is a link to what lies outside."""
    found = rng.choice(sorted(path.rglob("*")))
    outside = path.parent / f"outside-{rng.randrange(10**9)}"
    found.rename(outside)
    found.symlink_to(outside)
    return f"link {found.relative_to(path)}"


def size(path: Path, rng: random.Random) -> str:
    """Eight bytes of a file are a number that makes no sense."""
    file = rng.choice(files_of(path))
    content = bytearray(file.read_bytes())
    at = rng.randrange(max(len(content) - 8, 1))
    content[at : at + 8] = rng.choice((2**64 - 1, 2**63, 2**40, 2**33, 0)).to_bytes(8, "little")
    file.write_bytes(content)
    return f"size {file.relative_to(path)} at {at}"


def forge(path: Path, rng: random.Random, key: KeySource | None = None) -> str:
    """A newer capture, or another record again, whose digests are right and of which one thing makes no sense."""
    with mistique.open(path, key=key) as store:
        capture, _ = store.catalog.find("lab/model@1.2/train/table")
        log = rng.choice((store._catalog._log, store._catalog._log, store._usage._log))
        log.refresh()
        heads = [record for _, record in log.records() if record.kind != "capture"]
        if rng.random() < 0.5 and log is store._catalog._log:
            orders = list(capture.orders.values())
            head = log.record(capture.order)
            heads = [head, *(Record("intermediate", log.record(order).body) for order in orders)]
        else:
            orders = [order for order, record in log.records() if record.kind != "capture"]
        if not heads:
            return flip(path, rng)
        contents = log.attachments(orders)
        attachments = contents if len(contents) == len(heads) else [b"", *contents]
        records = [Record(h.kind, h.body, attachment) for h, attachment in zip(heads, attachments, strict=True)]
        number = rng.randrange(len(records))
        chosen = records[number]
        is_attachment = chosen.attachment[:1] == b"{" and rng.random() < 0.5
        body = json.loads(chosen.attachment if is_attachment else chosen.body)
        where = _distort(body, rng)
        content = to_json(body)
        records[number] = Record(
            chosen.kind, chosen.body if is_attachment else content, content if is_attachment else chosen.attachment
        )
        if records[0].kind == "capture":
            log.append(records[:1], behind=records[1:])
        else:
            log.append([records[number]])
    return f"forge {chosen.kind}{' references' if is_attachment else ''} {where}"


def _distort(value: object, rng: random.Random) -> str:
    """Put something else in the place of one leaf of JSON; says where."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))  # type: ignore[call-overload, arg-type]
    key = rng.choice(keys)
    inner = value[key]  # type: ignore[index]
    if isinstance(inner, (dict, list)) and inner and rng.random() < 0.9:
        return f"{key}.{_distort(inner, rng)}"
    new = rng.choice(OUTSIDE) if isinstance(inner, str) and rng.random() < 0.7 else rng.choice(ABSURD)
    value[key] = new  # type: ignore[index]
    return f"{key} = {str(new)[:40]!r}"


KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    "flip": flip, "cut": cut, "remove": remove, "swap": swap, "link": link, "size": size, "forge": forge,
}  # fmt: skip


def look(path: Path, key: KeySource | None = None) -> dict[str, object]:
    """List, check and ask."""
    with mistique.open(path, mode="r", key=key) as store:
        repr(listing(store))
        store.check()
    return ask(path, key)


def with_forged_payloads(path: Path, rng: random.Random, key: KeySource | None = None) -> str:
    """Answers from payloads of which the digests are right and some bytes make no sense: only errors of ours."""
    read = SegmentReader._read

    def distorted(self: SegmentReader, *arguments: object) -> Payloads:
        payloads: Payloads = read(self, *arguments)  # type: ignore[arg-type]
        content = payloads.content.copy()
        for begin, size in zip(payloads.begins.tolist(), payloads.n_bytes.tolist(), strict=True):
            for _ in range(rng.choice((1, 3))):
                content[begin + rng.randrange(size)] = rng.randrange(256)
        return Payloads(content, payloads.begins, payloads.n_bytes)

    with patch.object(SegmentReader, "_read", distorted), patch.object(UnitTable, "hold"):
        look(path, key)
    return "right"


def peak_nbytes() -> int:
    """The most memory since it was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def growth_of_look(path: Path, key: KeySource | None) -> int:
    """Memory that asking everything of a store takes."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_nbytes()
    look(path, key)
    return peak_nbytes() - before


def main(folder: Path, seed: str, n: int) -> int:
    """The number of damages after which something went wrong."""
    stores: list[tuple[Path, KeySource | None]] = [
        (make_store(folder / "s.mistique"), None),
        (make_store(folder / "sealed.mistique", stored_key), stored_key),
    ]
    rights = [look(*store) for store in stores]
    needs = [growth_of_look(*store) for store in stores]
    # A size that makes no sense asks for gigabytes: refused at once under a limit.
    address_nbytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (address_nbytes + MAX_ADDRESS_NBYTES, resource.RLIM_INFINITY))
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    largest, wrong = 0, 0
    for number in range(n):
        a_round, which = divmod(number, len(KINDS) + 1)
        kind, is_sealed = (*KINDS, "payload")[which], a_round % N_ROUNDS == N_ROUNDS - 1
        (path, key), right, needed = stores[is_sealed], rights[is_sealed], needs[is_sealed]
        copy = folder / f"damaged-{number}"
        shutil.copytree(path, copy)
        Path("/proc/self/clear_refs").write_text("5")
        before, what = peak_nbytes(), f"payload {number}"
        if kind != "payload":
            what = forge(copy, rng, key) if kind == "forge" else KINDS[kind](copy, rng)
            what += " of an encrypted store" if is_sealed else ""
        # On the last line when the process dies of it.
        sys.stdout.write(f"{number} {what}\n")
        sys.stdout.flush()
        try:
            if kind == "payload":
                outcome = with_forged_payloads(copy, rng, key)
            else:
                outcome = "right" if look(copy, key) == right or kind == "forge" else "WRONG"
        except MistiqueError:
            outcome = "refused"
        except Exception as error:  # noqa: BLE001  the point is to see what comes
            outcome = f"CRASH {type(error).__name__}"
            sys.stdout.write(f"CRASH: {what}: {error!r}\n")
        outcomes[f"{'encrypted, ' if is_sealed else ''}{kind}: {outcome}"] += 1
        if outcome not in ("right", "refused"):
            wrong += 1
            sys.stdout.write(f"{outcome}: {what}\n")
        growth = peak_nbytes() - before
        largest = max(largest, growth)
        if growth > 2 * needed + SLACK_NBYTES:
            wrong += 1
            sys.stdout.write(f"MEMORY: {what}: {growth / 2**20:.0f} MiB, where {needed / 2**20:.0f} are needed\n")
        # What an error held, threads and their stacks among it, must not count against the next.
        gc.collect()
        shutil.rmtree(copy)
        for left in folder.glob("outside*"):
            shutil.rmtree(left) if left.is_dir() else os.unlink(left)
    sys.stdout.write(f"{json.dumps(dict(sorted(outcomes.items())))}\nlargest growth: {largest / 2**20:.0f} MiB, ")
    sys.stdout.write(f"of the whole stores {[round(needed / 2**20) for needed in needs]} MiB\n")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])), 100))
