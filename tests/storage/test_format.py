"""docs/format.md is true to the bytes: a reader that knows nothing but what it says reads what was captured."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiledb
import zstandard

import mistique
from mistique.storage.artifacts import Artifact
from mistique.store import Store
from tests.capturing import capturing, put
from tests.reference import payload_reader
from tests.reference.store_reader import Segment, StoreReader, sorted_records
from tests.reference.tans import codes_of

RNG = np.random.default_rng(0)
N = 4200  # two row blocks
BASE = RNG.normal(100, 30, N)
LARGE = RNG.integers(-(2**50), 2**50, N)
TABLES: dict[str, Any] = {
    "integers": RNG.integers(-(2**40), 2**40, (N, 3)),
    "small": RNG.integers(0, 7, (N, 2)).astype(np.int16),
    "counting": np.stack([np.arange(N) * 3 - 50, np.full(N, 9)], axis=1),
    "rising": np.cumsum(RNG.integers(1, 9, (N, 2)), axis=0),
    "whole": RNG.integers(0, 10_000, (N, 2)).astype(np.float64),
    "images": np.stack([BASE, (BASE - 90.5) / 7.25, BASE * 3.5 + 1.25], axis=1),
    "nearly": np.stack([LARGE, np.where(np.arange(N) % 50 == 0, 1, LARGE)], axis=1),
    "texts": np.array([[f"café {i}", ("low", "high", "")[i % 3]] for i in range(N)], "U9"),
    "floats": RNG.normal(size=(N, 2)).astype(np.float32),
}
MAPS = np.maximum(RNG.normal(size=(1100, 3, 3, 8)), 0).cumsum(axis=1).astype(np.float32)  # two blocks of one group
CODECS: dict[str, Any] = {
    "raw": "raw",
    "power": "power",
    "kbit": "kbit",
    "low_precision": "low_precision",
    "steps": mistique.codecs.Within(absolute=0.05),
    "cut": mistique.codecs.Within(relative=0.01),
    "threshold": mistique.codecs.Threshold(alpha=0.1),
}


@pytest.mark.parametrize("is_compacted", [False, True])
def test_another_program_reads_columns_of_numbers_and_texts(store: Store, is_compacted: bool) -> None:
    with capturing(store) as capture:
        for name, table in TABLES.items():
            capture.add(name, table)
    if is_compacted:
        store.drop("lab/model@1/train/integers")
        store.compact(grace_seconds=0)
        store._usage.compact()
        store._catalog.compact()
    reader = StoreReader(store.uri)
    for name, table in TABLES.items():
        if is_compacted and name == "integers":
            continue
        _, found = reader.intermediate(model="lab/model", dataset="train", name=name)
        assert found.dtype == (object if table.dtype.kind == "U" else table.dtype), name
        assert np.array_equal(found.T, table), name


def test_another_program_reads_layers_by_every_codec(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []  # that went through the entropy stage
    monkeypatch.setattr(payload_reader, "codes_of", lambda *a, **more: parts.append(a) or codes_of(*a, **more))
    with capturing(store) as capture:
        for name, codec in CODECS.items():
            capture.append(name, MAPS, codec=codec)
    reader = StoreReader(store.uri)
    for name in CODECS:
        node, found = reader.intermediate(model="lab/model", dataset="train", name=name)
        # Units outermost, then positions in row-major order.
        rows = np.moveaxis(found.reshape(8, 3, 3, -1), (3, 0), (0, 3))
        ours = mistique.get(store, f"lab/model@1/train/{name}").values.reshape(rows.shape)
        assert node["shape"] == [3, 3, 8]
        assert np.allclose(rows, ours, rtol=1e-6, atol=0), name
        assert name in ("kbit", "threshold") or np.abs(rows - MAPS).max() < 0.03 * MAPS.max(), name
        assert name != "raw" or rows.tobytes() == MAPS.tobytes()
        assert (name == "threshold") != bool(parts), name
        parts.clear()


def test_another_program_reads_nulls_categories_and_times(store: Store) -> None:
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3] * 100, "Int64"),
            "c": pd.Categorical(["a", "b", None] * 100),
            "t": pd.to_datetime(["2020-01-01", "2021-06-01", None] * 100),
            "s": pd.array(["x", None, ""] * 100, "str"),
        }
    )
    with capturing(store) as capture:
        capture.add("table", frame)
    node, found = StoreReader(store.uri).intermediate(model="lab/model", dataset="train", name="table")
    numbers, codes, times, texts, *masks = found
    kinds = node["types"]
    nullable = [number for number, kind in enumerate(kinds) if kind["is_nullable"]]
    valid = {number: mask.astype(bool) for number, mask in zip(nullable, masks, strict=True)}
    assert numbers[valid[0]].tolist() == [1, 3] * 100
    assert np.array_equal(valid[0], ~frame["n"].isna())
    labels = [None if code == -1 else kinds[1]["categories"][code] for code in codes]
    assert labels == ["a", "b", None] * 100
    assert np.array_equal(times.astype(np.int64), frame["t"].to_numpy().view(np.int64))
    assert np.array_equal(valid[3], ~frame["s"].isna())
    assert texts[valid[3]].tolist() == ["x", ""] * 100


@pytest.mark.parametrize(("sigma", "n_across", "width"), [(2, 2, 2), ("all", 1, 3)])
def test_another_program_reads_the_windows_of_pooled_layers(
    store: Store, sigma: int | str, n_across: int, width: int
) -> None:
    with capturing(store) as capture:
        capture.append("maps", MAPS, codec=mistique.codecs.Pool(sigma, inner="raw"))
    node, found = StoreReader(store.uri).intermediate(model="lab/model", dataset="train", name="maps")
    windows = found.reshape(8, n_across, n_across, -1)
    whole = windows.repeat(width, 1).repeat(width, 2)[:, :3, :3]
    assert node["shape"] == [3, 3, 8]
    ours = mistique.get(store, "lab/model@1/train/maps").values
    assert np.array_equal(np.moveaxis(whole, (3, 0), (0, 3)), ours.reshape(MAPS.shape))


def test_another_program_reads_kept_models_and_who_signed_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTIQUE_SIGNING_KEY", "a key of a team")
    with capturing(store) as capture:
        capture.add("table", TABLES["small"])
        capture.keep_model(Artifact("skops", b"a kept model"))
    (name,) = (
        body["version"]["artifact"] for *_, body, _ in sorted_records(f"{store.uri}/catalog") if "version" in body
    )
    assert name == sha256(b"skops\0a kept model").hexdigest()
    with tiledb.open(f"{store.uri}/artifacts/{name}") as array:
        assert array.meta["kind"] == "skops"
        assert array.query(attrs=["bytes"])[0 : array.meta["n_bytes"]]["bytes"].tobytes() == b"a kept model"
        key = b"a key of a team"
        signature = array.meta[f"signature_{sha256(b'mistique key id ' + key).hexdigest()[:16]}"]
    assert signature == hmac.new(key, b"mistique artifact " + name.encode(), sha256).hexdigest()


def test_another_program_finds_chunks_by_the_index_of_digests_and_reads_what_was_asked_for(store: Store) -> None:
    with capturing(store) as capture:
        for name in ("integers", "texts", "floats"):
            capture.add(name, TABLES[name])
    mistique.get(store, "lab/model@1/train/floats")
    store.close()
    with tiledb.open(f"{store.uri}/digests", timestamp=(0, 2**63 - 1)) as array:
        entries = array[:]
    ids = [f"{a:016x}{b:016x}" for a, b in zip(entries["segment_first"], entries["segment_second"], strict=True)]
    contents, segments, places = {}, {}, set()
    for name in set(ids):
        with tiledb.open(f"{store.uri}/segments/{name}") as array:
            facts = json.loads(array.meta["facts"])
        segments[name], part = Segment(store.uri, {"id": name, **facts}), facts["contents"]
        packed = segments[name].content[part["offset"] : part["offset"] + part["n_bytes"]]
        contents[name] = np.frombuffer(zstandard.decompress(packed), np.uint64).reshape(facts["n_chunks"], 2)
    for number, name in enumerate(ids):
        unit, place = entries["unit"][number], entries["place"][number]
        chunk = segments[name].shapes[:unit, 0].sum() + place
        digest = [entries["digest_first"][number], entries["digest_second"][number]]
        assert contents[name][chunk].tolist() == digest
        places.add((name, chunk))
    assert len(places) == len(ids) == sum(map(len, contents.values()))  # all chunks of tables
    usage = [body for *_, body, _ in sorted_records(f"{store.uri}/usage")]
    assert [kind for body in usage for kind, _, _, _, _ in body["seen"]] == ["captured"]
    (((model, _, epoch, dataset), name, n_questions, _),) = (one for body in usage for one in body["asked"])
    assert (model, epoch, dataset, name, n_questions) == ("lab/model", None, "train", "floats", 1)


def test_another_program_reads_an_encrypted_store(tmp_path: Path) -> None:
    with mistique.open(tmp_path / "s.mistique", key=lambda: b"a key of thirty-two random bytes") as store:
        put(store, TABLES["texts"])
    derived = blake2b(b"a key of thirty-two random bytes", digest_size=24, person=b"mistique store").digest()
    config = {"sm.encryption_type": "AES_256_GCM", "sm.encryption_key": b64encode(derived).decode()}
    with tiledb.scope_ctx(config):
        _, found = StoreReader(store.uri).intermediate(model="lab/model", dataset="train", name="stage")
    assert np.array_equal(found.T, TABLES["texts"])
