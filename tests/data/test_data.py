"""The shipped data are what their sources published."""

from __future__ import annotations

import builtins
import hashlib
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from mistique.data import FASHION_CLASSES, load_fashion_mnist, load_homes

Fashion = tuple[NDArray[np.uint8], NDArray[np.uint8]]

HOMES_COLUMNS = [
    "id",
    "date",
    "price",
    "bedrooms",
    "bathrooms",
    "sqft_living",
    "sqft_lot",
    "floors",
    "waterfront",
    "view",
    "condition",
    "grade",
    "sqft_above",
    "sqft_basement",
    "yr_built",
    "yr_renovated",
    "zipcode",
    "lat",
    "long",
    "sqft_living15",
    "sqft_lot15",
]

# Sums over the published table, taken from the Parquet file that homes.npz was made of.
HOMES_SUMS = {
    "id": 98_994_056_770_455,
    "price": 11_672_925_008,
    "bedrooms": 72_854,
    "bathrooms": 45_706.25,
    "sqft_living": 44_952_873,
    "sqft_lot": 326_506_890,
    "floors": 32_296.5,
    "waterfront": 163,
    "view": 5_064,
    "condition": 73_688,
    "grade": 165_488,
    "sqft_above": 38_652_488,
    "sqft_basement": 6_300_385,
    "yr_built": 42_599_334,
    "yr_renovated": 1_824_186,
    "zipcode": 2_119_758_513,
    "sqft_living15": 42_935_359,
    "sqft_lot15": 275_964_632,
}
# Floats whose sum depends on the order are summed as the integers that they are multiples of.
HOMES_SCALED_SUMS = {"lat": (10_000, 10_279_154_151), "long": (1_000, -2_641_408_943)}

# SHA-256 of the bytes behind the IDX headers of t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte.
IMAGES_SHA256 = "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a"
LABELS_SHA256 = "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"


def test_homes_have_the_published_columns_in_order(all_homes: pd.DataFrame) -> None:
    assert list(all_homes.columns) == HOMES_COLUMNS
    assert len(all_homes) == 21_613


def test_homes_have_the_published_dtypes(all_homes: pd.DataFrame) -> None:
    kinds = {"date": "M", "waterfront": "b"} | dict.fromkeys(("bathrooms", "floors", "lat", "long"), "f")
    assert {name: dtype.kind for name, dtype in all_homes.dtypes.items()} == {
        name: kinds.get(str(name), "i") for name in all_homes.columns
    }
    assert {dtype.itemsize for dtype in all_homes.dtypes} == {1, 8}


@pytest.mark.parametrize("column", HOMES_SUMS)
def test_homes_column_sum(column: str, all_homes: pd.DataFrame) -> None:
    assert all_homes[column].sum() == HOMES_SUMS[column]


@pytest.mark.parametrize("column", HOMES_SCALED_SUMS)
def test_homes_coordinate_sum(column: str, all_homes: pd.DataFrame) -> None:
    scale, expected = HOMES_SCALED_SUMS[column]
    scaled = np.rint(all_homes[column].to_numpy() * scale)
    assert (scaled / scale == all_homes[column].to_numpy()).all()
    assert int(scaled.astype(np.int64).sum()) == expected


def test_homes_were_sold_in_the_published_year(all_homes: pd.DataFrame) -> None:
    assert all_homes["date"].min() == pd.Timestamp("2014-05-02")
    assert all_homes["date"].max() == pd.Timestamp("2015-05-27")


def test_homes_have_no_nulls(all_homes: pd.DataFrame) -> None:
    assert not all_homes.isna().to_numpy().any()


def test_home_labels_are_unique_although_ids_repeat(all_homes: pd.DataFrame) -> None:
    assert all_homes["id"].nunique() == 21_436
    assert all_homes.index.is_unique
    assert all_homes.index.name == "sale"


def test_a_home_label_is_the_id_and_the_day(all_homes: pd.DataFrame) -> None:
    home = all_homes.loc["7129300520-2014-10-13"]
    assert home["id"] == 7_129_300_520
    assert home["date"] == pd.Timestamp("2014-10-13")
    assert home["price"] == 221_900


def test_every_load_of_homes_is_its_own_copy() -> None:
    changed = load_homes()
    changed.loc[changed.index[0], "price"] = -1
    assert load_homes()["price"].iloc[0] == 221_900


def test_homes_without_pandas_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_pandas(name: str, *args: object, **keywords: object) -> object:
        if name == "pandas":
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ImportError, match=r'pip install "mistique\[all\]"'):
        load_homes()


def test_fashion_images_are_the_published_bytes(all_fashion: Fashion) -> None:
    images, _ = all_fashion
    assert images.shape == (10_000, 28, 28, 1)
    assert images.dtype == np.uint8
    assert hashlib.sha256(images.tobytes()).hexdigest() == IMAGES_SHA256


def test_fashion_labels_are_the_published_bytes(all_fashion: Fashion) -> None:
    _, labels = all_fashion
    assert labels.shape == (10_000,)
    assert labels.dtype == np.uint8
    assert hashlib.sha256(labels.tobytes()).hexdigest() == LABELS_SHA256


def test_fashion_has_a_thousand_pictures_of_each_named_class(all_fashion: Fashion) -> None:
    _, labels = all_fashion
    assert np.bincount(labels).tolist() == [1_000] * len(FASHION_CLASSES)


def test_fashion_arrays_can_be_written_to() -> None:
    images, labels = load_fashion_mnist()
    assert images.flags.writeable
    assert labels.flags.writeable


def test_data_with_terms_ship_their_terms() -> None:
    terms = files("mistique.data").joinpath("README.md").read_text(encoding="utf-8")
    assert "CC0 1.0" in terms
    assert "Copyright (c) 2017 Zalando SE" in terms
