"""A file system that is really full: a small one in memory, for which one has to be root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mistique
from mistique.errors import CaptureWarning, StoreError
from tests.capturing import capturing, put


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_training_goes_on_with_one_warning_and_earlier_captures_stay(small_disk: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 8))
    with mistique.open(small_disk / "s.mistique", max_buffer_nbytes=200_000) as store:
        kept = put(store, values)
        with pytest.warns(CaptureWarning) as caught, capturing(store, model="lab/large", on_error="warn") as capture:
            for _ in range(8):
                capture.append("layer", rng.normal(size=(1024, 200)))
        assert (len(caught), capture.committed) == (1, None)
        with pytest.raises(StoreError), capturing(store, model="lab/large") as capture:
            for _ in range(8):
                capture.append("layer", rng.normal(size=(1024, 200)))
        assert mistique.get(store, kept).values.tobytes() == values.tobytes()
    with mistique.open(small_disk / "s.mistique") as again:
        assert [c.version.model for c in again.catalog.captures()] == ["lab/model"]
        assert again.check().is_whole
        # What the failed captures left, too.
        again.gc(grace_seconds=0)
        again.gc(grace_seconds=0)
        assert mistique.get(again, put(again, values + 1)).values.tobytes() == (values + 1).tobytes()


def test_a_file_system_that_is_read_only_costs_the_capture_and_answers_questions(small_disk: Path) -> None:
    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    values = np.arange(3000.0)
    with mistique.open(small_disk / "s.mistique") as store:
        kept = put(store, values)
    remount("ro")
    try:
        with mistique.open(small_disk / "s.mistique") as store:
            assert mistique.get(store, kept).values.tobytes() == values.tobytes()
            with pytest.warns(CaptureWarning) as caught, capturing(store, on_error="warn") as capture:
                capture.add("x", values + 1)
            assert (len(caught), capture.committed) == (1, None)
            with pytest.raises(StoreError), capturing(store) as capture:
                capture.add("x", values + 1)
    finally:
        remount("rw")
    with mistique.open(small_disk / "s.mistique") as store:
        assert [c.version.model for c in store.catalog.captures()] == ["lab/model"]
        assert mistique.get(store, put(store, values + 2)).values[0] == 2
