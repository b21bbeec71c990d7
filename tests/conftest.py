"""Fixtures for every test: a fresh store, slices of the shipped data, and a user's home that is nobody's."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from mistique.store import Store

# Read by these libraries when they are imported, so set before any test module is. Keras writes keras.json
# into its home at import.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp(prefix="mistique-keras-home-"))
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Stores lie in memory where there is room: TileDB has each file that it writes put on the disk, and of a test that
# compacts and repairs a store two thirds were spent waiting for that. Processes that tests start follow.
_MEMORY = Path("/dev/shm")
if (
    "PYTEST_DEBUG_TEMPROOT" not in os.environ
    and os.access(_MEMORY, os.W_OK)
    and shutil.disk_usage(_MEMORY).free > 4 * 2**30
):
    os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(prefix="mistique-tests-", dir=_MEMORY)

    @atexit.register
    def _memory_is_free_again() -> None:
        if _ENDED == [pytest.ExitCode.OK]:
            shutil.rmtree(os.environ["PYTEST_DEBUG_TEMPROOT"], ignore_errors=True)


_ENDED: list[int] = []


def pytest_sessionfinish(exitstatus: int) -> None:
    """What failing tests left stays there to be looked at."""
    _ENDED.append(exitstatus)


# No test asserts a time: a kernel that is compiled, or a busy machine, is no failure.
settings.register_profile("mistique", deadline=None)
# `tox` draws the same examples each time, so a change is judged by what it changed; `pytest` alone draws new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("mistique")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in tests/keras carries the marker `keras`."""
    keras_folder = Path(__file__).parent / "keras"
    for item in items:
        if keras_folder in item.path.parents:
            item.add_marker(pytest.mark.keras)


def pytest_collection_finish() -> None:
    """What is imported by now stays: with TensorFlow there, each look for garbage in it took a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def config_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's config folder for this session: keys are made here, and a team's key is not seen."""
    folder = tmp_path_factory.mktemp("config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MISTIQUE_CONFIG_DIR", str(folder))
        patch.delenv("MISTIQUE_SIGNING_KEY", raising=False)
        yield folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh, empty store."""
    import mistique

    return mistique.open(str(tmp_path / "s.mistique"))


@pytest.fixture(scope="session")
def all_homes() -> pd.DataFrame:
    """Every home sale; read once, so copy before changing it."""
    from mistique.data import load_homes

    return load_homes()


@pytest.fixture
def homes(all_homes: pd.DataFrame) -> pd.DataFrame:
    """The first 1,500 home sales: more than one row block, and the last one not full."""
    return all_homes.iloc[:1_500].copy()


@pytest.fixture(scope="session")
def all_fashion() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Every picture and label; read once, so copy before changing them."""
    from mistique.data import load_fashion_mnist

    return load_fashion_mnist()


@pytest.fixture
def fashion(
    all_fashion: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first 300 pictures and their labels."""
    images, labels = all_fashion
    return images[:300].copy(), labels[:300].copy()
