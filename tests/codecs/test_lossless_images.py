"""Columns as what an earlier column says of them: every bit comes back, whatever the form, and damage is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistique.codecs import Raw
from mistique.codecs.lossless_images import SAME, SCALED, SHIFTED, Image, differences, find_image, restore
from mistique.errors import ChunkCorruptError
from mistique.schema import ColumnType

FLOAT = ColumnType("float64", "<f8")
RNG = np.random.default_rng(0)
X = RNG.normal(47, 0.2, 5000)
UNALIKE = RNG.normal(size=5000)
ANY = hnp.arrays(np.uint64, 50, elements=st.integers(0, 2**64 - 1))
PARAMETER = st.floats(allow_nan=False, allow_infinity=False).filter(bool)


def _images() -> dict[str, np.ndarray]:
    return {
        "standard": (X - X.mean()) / X.std(),
        "min-max": X * (1 / np.ptp(X)) + -X.min() / np.ptp(X),
        "robust": (X - np.median(X)) / np.subtract(*np.quantile(X, [0.75, 0.25])),
        "clipped": np.clip(X, 46.6, 47.4),
        "imputed": np.where(np.arange(5000) % 9, X, 47.0),
        "with nulls": np.where(np.arange(5000) % 9, (X - 3.0) / 7.0, np.nan),
        "negative": -X,
    }


@pytest.mark.parametrize("made", _images())
def test_what_follows_from_a_column_takes_a_fraction_of_it(made: str) -> None:
    values = np.stack([UNALIKE, X, _images()[made]])
    payload = Raw().encode(values, FLOAT)
    assert Raw().decode(payload, values.shape, FLOAT).tobytes() == values.tobytes()
    assert payload.size - Raw().encode(values[:2], FLOAT).size < 0.25 * X.nbytes


@pytest.mark.parametrize("made", ["standard", "min-max", "robust"])
def test_the_parameters_of_scalers_are_found_to_the_last_bit(made: str) -> None:
    column = _images()[made]
    image = find_image(column, [UNALIKE, X], n_bytes=8)
    assert image is not None
    assert image.base == 1
    assert (differences(column, X, image) == 0).mean() > 0.9


def test_noise_is_no_image_of_noise() -> None:
    assert find_image(UNALIKE, [X, RNG.normal(size=5000)], n_bytes=8) is None


@given(column=ANY, base=ANY, form=st.sampled_from([SAME, SHIFTED, SCALED]), p=PARAMETER, q=PARAMETER)
def test_every_bit_comes_back_however_bad_the_prediction(
    column: np.ndarray, base: np.ndarray, form: int, p: float, q: float
) -> None:
    column, base, image = column.view(np.float64), base.view(np.float64), Image(form, 0, p, q)
    assert restore(differences(column, base, image), base, image).tobytes() == column.tobytes()


@pytest.mark.parametrize("cell", ["<i4", "<i8", "<u8", "<M8[s]", "<f4", "<f8"])
def test_nearly_equal_columns_of_every_type_come_back(cell: str) -> None:
    whole = RNG.integers(0, 2**31, 3000).astype(f"<i{cell[2]}" if cell[1] == "M" else cell).view(cell)
    values = np.stack([whole, np.where(np.arange(3000) % 50, whole, whole[0])])
    kind = ColumnType("any", cell)
    payload = Raw().encode(values, kind)
    assert Raw().decode(payload, values.shape, kind).tobytes() == values.tobytes()
    assert payload.size < 0.75 * values.nbytes


def test_damaged_images_are_errors_of_ours_or_other_values() -> None:
    values = np.stack([X, *_images().values()])[:, :300]
    payload, rng = Raw().encode(values, FLOAT), np.random.default_rng(0)
    n_errors = 0
    for _ in range(400):
        broken = payload.copy()
        broken[rng.integers(0, 2 + 18 * len(values))] = rng.integers(0, 256)
        try:
            back = Raw().decode(broken, values.shape, FLOAT)
        except ChunkCorruptError:
            n_errors += 1
            continue
        assert back.shape == values.shape
    assert n_errors >= 20


@pytest.mark.parametrize("method", [16, 17, 18, 33, 16 * 4, 255])
def test_an_image_of_itself_of_a_later_column_or_of_no_form_is_refused(method: int) -> None:
    payload = Raw().encode(np.stack([X, UNALIKE]), FLOAT).copy()
    payload[2 + 18] = method  # of the second column, which may be an image of the first alone
    if method % 16 == 0 and method < 64:
        payload[2 + 18 + 1] = 9  # and of no more bytes than a cell has
    with pytest.raises(ChunkCorruptError):
        Raw().decode(payload, (2, 5000), FLOAT)


@pytest.mark.parametrize("cell", ["<f4", "<i8"])
def test_affine_images_are_of_float64_alone(cell: str) -> None:
    values = RNG.integers(0, 2**31, (2, 3000)).astype(cell)
    kind = ColumnType("any", cell)
    payload = Raw().encode(values, kind).copy()
    payload[2 + 18] = 32
    with pytest.raises(ChunkCorruptError):
        Raw().decode(payload, values.shape, kind)
