"""Stores of every format version that was ever released are read bit for bit; newer ones are refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import FormatVersionError, StoreKeyError
from mistique.schema import FORMAT_VERSION
from mistique.storage.layout import open_layout
from mistique.storage.options import StorageOptions
from tests.capturing import put
from tests.storage.golden_stores import FOLDER, KEY, SEALED_COLUMNS, layers, main, table

EXACT = {"raw", "half"}
# What format 1 gave back on the day that it was fixed, added up.
SUMS = {
    "raw": 16971.27000629902,
    "half": 16971.2822265625,
    "power": 18968.721757650375,
    "kbit": 16978.27775784582,
    "low precision": 16971.1435546875,
    "within": 16971.279357910156,
    "threshold": 0.0,
    "pool": 34967.69444656372,
}
SEALED_SUM = 10436.407870213501


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "golden.mistique"


@pytest.fixture(params=range(1, FORMAT_VERSION + 1))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpacked(f"format-{request.param}", tmp_path)


@pytest.fixture(params=range(1, FORMAT_VERSION + 1))
def sealed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpacked(f"format-{request.param}-encrypted", tmp_path)


def test_a_golden_store_is_read_bit_for_bit(golden: Path) -> None:
    with mistique.open(golden, mode="r") as store:
        for epoch in (1, 2):
            for name, (values, _) in layers().items():
                found = mistique.get(store, f"golden/net@1.{epoch}/train/{name}")
                sent = values + values.dtype.type(epoch)
                if name in EXACT:
                    assert found.values.tobytes() == sent.tobytes(), name
                elif name != "threshold":
                    error = np.abs(found.values.astype(float) - sent.astype(float)).max()
                    assert error <= found.max_abs_error, name
            found_table = mistique.get(store, f"golden/net@1.{epoch}/train/table")
            assert found_table.rows.tolist() == [f"row-{i}" for i in range(60)]
            pd.testing.assert_frame_equal(found_table.to_frame().reset_index(drop=True), table())
        later = mistique.get(store, "golden/later@1/train/table").to_frame()
        pd.testing.assert_frame_equal(later.reset_index(drop=True), table().iloc[::-1].reset_index(drop=True))
        assert store.catalog.find("golden/later@1/train/dropped")[0].stored == {"table"}


def test_versions_of_a_golden_store_keep_their_numbers_beside_new_ones(golden: Path) -> None:
    with mistique.open(golden) as store:
        before = {c.id: c.number for c in store.catalog.captures()}
        for number in ("2", "3"):
            told = put(store, np.arange(3.0), model="golden/later")
            assert told == f"golden/later@{number}/train/stage"
            for opened in (store, mistique.open(golden, mode="r")):
                now = {c.id: c.number for c in opened.catalog.captures()}
                assert before.items() <= now.items()


def test_what_lossy_codecs_said_of_a_golden_store_they_say_still(golden: Path) -> None:
    with mistique.open(golden, mode="r") as store:
        digests = {
            name: float(mistique.get(store, f"golden/net@1.2/train/{name}").values.astype(np.float64).sum())
            for name in layers()
        }
    assert digests == pytest.approx(SUMS, abs=0, rel=1e-12)


def test_a_golden_store_is_whole_and_can_be_written(golden: Path) -> None:
    with mistique.open(golden) as store:
        assert store.check().is_whole, store.check()
        store.compact(grace_seconds=0)
        assert store.check().is_whole


def test_an_encrypted_golden_store_is_read_bit_for_bit_and_written(sealed: Path) -> None:
    with mistique.open(sealed, key=lambda: KEY) as store:
        assert mistique.get(store, "golden/net@1/train/raw").values.tobytes() == layers()["raw"][0].tobytes()
        power = mistique.get(store, "golden/net@1/train/power")
        assert float(power.values.astype(np.float64).sum()) == pytest.approx(SEALED_SUM, abs=0, rel=1e-12)
        assert np.abs(power.values - np.maximum(layers()["raw"][0], 0)).max() <= power.max_abs_error
        found = mistique.get(store, "golden/net@1/train/table")
        assert found.rows.tolist() == [f"row-{i}" for i in range(60)]
        pd.testing.assert_frame_equal(found.to_frame().reset_index(drop=True), table()[SEALED_COLUMNS])
        store.compact(grace_seconds=0)
        assert store.check().is_whole


def test_an_encrypted_golden_store_is_refused_without_its_key(sealed: Path) -> None:
    with pytest.raises(StoreKeyError, match="expected its key, got another"):
        mistique.open(sealed, mode="r", key=lambda: f"not {KEY}")
    with pytest.raises(StoreKeyError, match="it is encrypted, got none"):
        mistique.open(sealed, mode="r")


def test_golden_stores_are_never_made_again() -> None:
    before = {file: file.read_bytes() for file in FOLDER.iterdir()}
    assert main() == 1
    assert {file: file.read_bytes() for file in FOLDER.iterdir()} == before
    assert max(map(len, before.values())) < 60_000


def test_a_newer_format_names_the_version_that_reads_it(golden: Path) -> None:
    import tiledb

    with tiledb.Group(str(golden), "w") as group:
        group.meta["mistique_format_version"] = FORMAT_VERSION + 1
        group.meta["mistique_read_by"] = "9.7"
    with pytest.raises(FormatVersionError, match=rf"format {FORMAT_VERSION + 1}.*mistique 9\.7"):
        open_layout(str(golden), ctx=StorageOptions().context(), create=False)
