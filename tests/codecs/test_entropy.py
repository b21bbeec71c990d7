"""The entropy stage."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mistique.codecs.entropy import decode_codes, encode_codes
from mistique.codecs.payload import PayloadReader
from mistique.errors import ChunkCorruptError
from mistique.kernels import neighbours, tans_tables
from tests.reference.tans import codes_of


def decoded(coded: bytes, shape: tuple[int, int]) -> np.ndarray:
    return decode_codes(PayloadReader(np.frombuffer(coded, np.uint8)), shape)


@given(
    shape=st.sampled_from([(1, 4096), (1, 5001), (3, 2001), (64, 64), (70, 67), (4096, 1), (2100, 2)]),
    n_symbols=st.sampled_from([2, 3, 31, 255, 256]),
    skew=st.sampled_from([1.0, 4.0, 40.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_codes_come_back(shape: tuple[int, int], n_symbols: int, skew: float, seed: int) -> None:
    codes = (np.random.default_rng(seed).random(shape) ** skew * n_symbols).astype(np.uint8)
    assert (decoded(encode_codes(codes), shape) == codes).all()


@pytest.mark.parametrize(
    ("shape", "n_symbols"), [((70, 67), 31), ((3, 2001), 60), ((1100, 4), 200), ((64, 300), 31), ((4, 4100), 60)]
)
def test_its_bits_are_what_the_format_says(shape: tuple[int, int], n_symbols: int) -> None:
    codes = (np.random.default_rng(4).random(shape) ** 3 * n_symbols).astype(np.uint8)
    coded = encode_codes(codes)
    lag, n_thresholds, word, n_table = np.frombuffer(coded, "<u2", 4, offset=1).tolist()
    table_bits, n_used = divmod(word, 4096)
    thresholds = np.frombuffer(coded, "<u2", n_thresholds, offset=9).tolist()
    start = 9 + 2 * n_thresholds
    part_rows = max(8192 // shape[0], 64)
    ends = np.frombuffer(coded, "<u4", -(-shape[1] // part_rows), offset=start).tolist()
    start += 4 * len(ends)
    planes = np.frombuffer(zstandard.ZstdDecompressor().decompress(coded[start : start + n_table]), np.uint8)
    frequencies = (planes.reshape(2, -1).astype(int).T @ [1, 256]).reshape(-1, n_used).tolist()
    assert {sum(of_context) for of_context in frequencies} == {2**table_bits}
    body = coded[start + n_table :]
    for part, (first_bit, n_bits) in enumerate(pairwise([0, *ends])):
        expected = codes[:, part * part_rows : (part + 1) * part_rows]
        where = {"lag": lag, "thresholds": thresholds, "frequencies": frequencies}
        assert (codes_of(body, first_bit, n_bits, expected.shape, **where) == expected).all()


def _symbols_word(coded: bytes) -> tuple[int, int]:
    table_bits, n_symbols = divmod(int.from_bytes(coded[5:7], "little"), 4096)
    return table_bits, n_symbols


def _small_codes(n_symbols: int, mean: float) -> np.ndarray:
    codes = np.random.default_rng(6).exponential(mean, (64, 1024)).clip(0, n_symbols - 1).astype(np.uint8)
    codes[0, 0] = n_symbols - 1
    return codes


@pytest.mark.parametrize(("n_symbols", "mean", "table_bits"), [(31, 9, 10), (90, 30, 11), (250, 90, 11), (250, 3, 12)])
def test_tables_are_fine_where_few_symbols_are_met(n_symbols: int, mean: float, table_bits: int) -> None:
    codes = _small_codes(n_symbols, mean)
    coded = encode_codes(codes)
    assert _symbols_word(coded) == (table_bits, n_symbols)
    assert (decoded(coded, codes.shape) == codes).all()


@pytest.mark.parametrize(("n_symbols", "mean"), [(31, 9), (90, 30), (250, 3)])
def test_heads_that_do_not_say_how_fine_tables_are_go_by_the_number_of_symbols(n_symbols: int, mean: float) -> None:
    codes = _small_codes(n_symbols, mean)
    coded = encode_codes(codes)
    assert (decoded(coded[:5] + n_symbols.to_bytes(2, "little") + coded[7:], codes.shape) == codes).all()


@pytest.mark.parametrize("table_bits", [1, 9, 13, 15])
def test_tables_of_another_size_are_refused(table_bits: int) -> None:
    codes = np.random.default_rng(5).integers(0, 9, (4, 1024)).astype(np.uint8)
    coded = encode_codes(codes)
    forged = coded[:5] + (9 + 4096 * table_bits).to_bytes(2, "little") + coded[7:]
    with pytest.raises(ChunkCorruptError, match=r"1,024 to 4,096 states"):
        decoded(forged, codes.shape)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (2, 3), (1, 70_000)])
def test_small_empty_long_and_constant_codes_come_back(shape: tuple[int, int]) -> None:
    codes = (np.arange(shape[0] * shape[1]) % 7).astype(np.uint8).reshape(shape)
    assert (decoded(encode_codes(codes), shape) == codes).all()
    assert len(encode_codes(codes * 0)) <= 16
    assert (decoded(encode_codes(codes * 0), shape) == 0).all()


def test_it_comes_near_the_entropy_of_independent_codes() -> None:
    codes = np.random.default_rng(1).binomial(20, 0.2, (64, 1024)).astype(np.uint8)
    shares = np.bincount(codes.reshape(-1)) / codes.size
    bits = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    n_bytes = len(encode_codes(codes))
    assert codes.size * bits / 8 <= n_bytes <= 1.02 * codes.size * bits / 8


def test_what_neighbours_foretell_takes_fewer_bytes() -> None:
    rows = np.random.default_rng(2).integers(0, 16, 1024)
    repeated = np.tile(rows, (64, 1)).astype(np.uint8)
    mixed = np.random.default_rng(2).permuted(repeated.reshape(-1)).reshape(repeated.shape)
    of_repeated, of_mixed = (encode_codes(codes) for codes in (repeated, mixed))
    assert len(of_repeated) < 0.65 * len(of_mixed)


def test_the_lag_is_the_width_of_a_map_that_repeats_along_it() -> None:
    lines = np.random.default_rng(3).integers(0, 16, (8, 1024)).astype(np.uint8)
    assert neighbours.best_lag(np.ascontiguousarray(np.tile(lines, (8, 1))), np.arange(2, 33), 16) == 8


@given(st.lists(st.one_of(st.just(0), st.integers(0, 10**6)), min_size=256, max_size=256))
def test_normalized_counts_add_up_and_forget_no_code(counts: list[int]) -> None:
    frequencies = np.array([counts], np.int64)
    tans_tables.normalize(frequencies, 11)
    assert frequencies.sum() == 2**11
    assert (frequencies[0][np.array(counts) > 0] > 0).all()
    assert (frequencies >= 0).all()


def test_every_way_to_cut_it_short_is_noticed() -> None:
    codes = np.random.default_rng(5).integers(0, 9, (4, 1024)).astype(np.uint8)
    coded = encode_codes(codes)
    for end in {*range(0, len(coded), 97), len(coded) - 1, len(coded) - 2}:
        with pytest.raises(ChunkCorruptError):
            decoded(coded[:end], codes.shape)


@pytest.mark.parametrize("shape", [(70, 67), (64, 1024), (64, 1000), (200, 130), (5, 9), (1, 20_000)])
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("n_symbols", [1, 31])
def test_some_columns_and_rows_are_decoded_alone(shape: tuple[int, int], share: float, n_symbols: int) -> None:
    rng = np.random.default_rng(7)
    codes = (rng.random(shape) ** 3 * n_symbols).astype(np.uint8)
    columns, rows = (np.flatnonzero(rng.random(n) < share) if n * share > 3 else np.array([n // 2]) for n in shape)
    coded = np.frombuffer(encode_codes(codes), np.uint8)
    for some in (rows, slice(int(rows[0]), int(rows[-1]) + 1)):
        found = decode_codes(PayloadReader(coded), shape, columns=columns, rows=some)
        assert (found == codes[columns][:, some]).all()


def test_parts_that_end_elsewhere_are_noticed() -> None:
    codes = np.random.default_rng(8).integers(0, 9, (64, 1024)).astype(np.uint8)
    coded = bytearray(encode_codes(codes))
    n_thresholds = int.from_bytes(coded[3:5], "little")
    second = 9 + 2 * n_thresholds + 4
    for end in (0, int.from_bytes(coded[second : second + 4], "little") + 1, 2**32 - 1):
        damaged = coded[:second] + end.to_bytes(4, "little") + coded[second + 4 :]
        with pytest.raises(ChunkCorruptError):
            decoded(bytes(damaged), codes.shape)
