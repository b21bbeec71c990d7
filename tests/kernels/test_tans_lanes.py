"""Parts decoded eight at once, against the same parts one by one."""

from __future__ import annotations

import numpy as np
import pytest

from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.payload import PayloadReader
from mistique.errors import ChunkCorruptError


def decoded(coded: bytes, shape: tuple[int, int], rows: slice) -> np.ndarray | None:
    """None: the damage was noticed."""
    try:
        return decode_codes(PayloadReader(np.frombuffer(coded, np.uint8)), shape, rows=rows)
    except ChunkCorruptError:
        return None


def made(shape: tuple[int, int], n_symbols: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).exponential(n_symbols / 8, shape)
    return np.where(drawn < n_symbols / 12, 0, drawn).clip(0, n_symbols - 1).astype(np.uint8)


# In parts of 128 rows: 3 to 11 of them, the last shorter, a multiple of four or not; 64 rows of many columns.
@pytest.mark.parametrize("shape", [(64, 384), (64, 512), (64, 1000), (64, 1024), (64, 1027), (64, 1408), (512, 640)])
@pytest.mark.parametrize("n_symbols", [31, 90, 256])
def test_all_parts_are_what_each_is_alone(shape: tuple[int, int], n_symbols: int) -> None:
    codes = made(shape, n_symbols)
    coded = encode_codes(codes)
    assert np.array_equal(decoded(coded, shape, slice(0, shape[1])), codes)
    for first in range(0, shape[1], 128):
        rows = slice(first, min(first + 128, shape[1]))
        assert np.array_equal(decoded(coded, shape, rows), codes[:, rows])


def test_damaged_bits_decode_to_what_each_part_decodes_to_or_are_noticed() -> None:
    shape, rng = (64, 1024), np.random.default_rng(0)
    coded = np.frombuffer(encode_codes(made(shape, 256)), np.uint8)
    n_noticed = 0
    for _ in range(60):
        damaged = coded.copy()
        places = rng.integers(1, len(coded), rng.integers(1, 40))
        damaged[places] = rng.integers(0, 256, len(places))
        if rng.random() < 0.3:
            damaged[len(coded) // 2 :] = rng.integers(0, 256)
        whole = decoded(damaged.tobytes(), shape, slice(0, shape[1]))
        parts = [decoded(damaged.tobytes(), shape, slice(first, first + 128)) for first in range(0, shape[1], 128)]
        if whole is None:
            n_noticed += 1
            assert any(part is None for part in parts)
        else:
            assert np.array_equal(whole, np.concatenate(parts, axis=1))
    assert n_noticed
