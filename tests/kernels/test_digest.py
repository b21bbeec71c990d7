"""The digest kernel against its oracle, and what a digest must tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistique.kernels import digest as kernel
from mistique.storage.digests import column_contents, digest_bytes, digests_of_pieces
from mistique.storage.units import UnitKind
from tests.reference import digest as oracle

KEY = bytes(range(16))
RAW = UnitKind('{"name": "raw"}', "<f4", "<f4", is_table=True)


def contents(cells: np.ndarray, block_rows: int = 4096) -> list[list[int]]:
    """Digests of the chunks of a column."""
    return column_contents(cells, block_rows, RAW.context, KEY).tolist()


def test_siphash_of_the_oracle_has_the_published_vector() -> None:
    # vectors_sip128 of the reference implementation: key 00..0f, no bytes; and 00..3e.
    assert oracle.siphash_128(b"", KEY) == (0xE6A825BA047F81A3, 0x930255C71472F66D)


@given(content=st.binary(max_size=300), key=st.binary(min_size=1, max_size=64))
def test_kernel_equals_the_oracle(content: bytes, key: bytes) -> None:
    assert digest_bytes(content, key) == oracle.digest(content, key)


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8, 9, 63, 64, 65, 4088, 4089, 4096, 4097, 4104, 20_000])
def test_kernel_equals_the_oracle_at_every_kind_of_length(n_bytes: int) -> None:
    content = bytes(i * 37 % 251 for i in range(n_bytes))
    assert digest_bytes(content, KEY) == oracle.digest(content, KEY)


@pytest.mark.parametrize("offset", range(1, 8))
def test_bytes_that_lie_unaligned_in_memory_have_the_same_digest(offset: int) -> None:
    content = bytes(range(96))
    buffer = np.frombuffer(bytes(offset) + content, np.uint8)[offset:]
    assert digest_bytes(buffer, KEY) == digest_bytes(buffer.copy(), KEY) == digest_bytes(content, KEY)


@pytest.mark.parametrize("shift", [0, 8, 3])
def test_pieces_of_some_bytes_have_the_digests_that_they_have_by_themselves(shift: int) -> None:
    sizes = np.array([0, 1, 7, 8, 4088, 4095, 4096, 4097, 8192, 20_000])
    begins = np.concatenate([[0], np.cumsum(-(-sizes[:-1] // 8) * 8)]) + shift
    # Every byte that is in no piece is 255, as what fills a word must not count.
    content = np.full(-(-(begins[-1] + sizes[-1]) // 8) * 8, 255, np.uint8)
    pieces = [np.arange(size, dtype=np.uint8) * np.uint8(37) for size in sizes]
    for begin, piece in zip(begins.tolist(), pieces, strict=True):
        content[begin : begin + len(piece)] = piece
    found = digests_of_pieces(content, begins, sizes)
    assert found.tolist() == [list(oracle.digest(piece.tobytes(), bytes(16))) for piece in pieces]


def test_pieces_that_end_behind_the_last_byte_are_what_there_is_of_them() -> None:
    content = np.arange(64, dtype=np.uint8)
    found = digests_of_pieces(content, np.array([0, 56, 72, 8]), np.array([8, 9, 8, 2**63 - 1]))
    expected = [content[:8], content[56:], content[:0], content[8:]]
    assert found.tolist() == [list(digest_bytes(piece)) for piece in expected]


@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_any_flipped_bit_changes_the_digest(content: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    assert digest_bytes(bytes(flipped), KEY) != digest_bytes(content, KEY)


@given(content=st.binary(max_size=100), n_zeros=st.integers(1, 70))
def test_zeros_appended_change_the_digest(content: bytes, n_zeros: int) -> None:
    assert digest_bytes(content + bytes(n_zeros), KEY) != digest_bytes(content, KEY)


def test_two_words_swapped_change_the_digest() -> None:
    words = np.arange(16, dtype=np.uint64)
    swapped = words.copy()
    swapped[[4, 8]] = swapped[[8, 4]]
    assert digest_bytes(words.tobytes(), KEY) != digest_bytes(swapped.tobytes(), KEY)


@given(cells=hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=1, max_side=9)))
def test_chunks_have_equal_digests_iff_their_bytes_are_equal(cells: np.ndarray) -> None:
    negated = -cells
    is_equal = negated.tobytes() == cells.tobytes()
    assert contents(cells.copy()) == contents(cells)
    assert (contents(negated) == contents(cells)) == is_equal


def test_shape_type_and_codec_are_part_of_a_chunk() -> None:
    power = UnitKind('{"bits": 5, "name": "power"}', "<f4", "<f4", is_table=True)
    whole = UnitKind(RAW.codec, "<i4", "<i4", is_table=True)
    contexts = [RAW.context(2, 8), RAW.context(1, 16), RAW.context(16, 1), power.context(2, 8), whole.context(2, 8)]
    digests = [digest_bytes(bytes(64), KEY, context) for context in contexts]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("block_rows", [1, 3, 8, 100])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_chunks_of_a_column_have_the_digests_of_their_bytes(dtype: type, block_rows: int) -> None:
    cells = np.arange(20).astype(dtype)
    blocks = [cells[i : i + block_rows] for i in range(0, 20, block_rows)]
    expected = [list(digest_bytes(block.tobytes(), KEY, RAW.context(1, len(block)))) for block in blocks]
    assert contents(cells, block_rows) == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [(["ab", "c"], ["a", "bc"]), (["", "a"], ["a", ""]), (["é"], ["é".encode().decode("latin-1")])],
)
def test_texts_cut_elsewhere_have_other_digests(left: list[str], right: list[str]) -> None:
    left_cells, right_cells = (np.array(texts, object) for texts in (left, right))
    assert contents(left_cells) != contents(right_cells)


def test_the_bits_that_cancelled_in_every_lane_of_the_first_format_are_seen() -> None:
    # Version 1 of the digest did not tell these two apart under any key: bit 63, and bits 63 and 34 four words on.
    words = np.arange(1, 65, dtype=np.uint64)
    changed = words.copy()
    changed[8] ^= np.uint64(1 << 63)
    changed[12] ^= np.uint64(1 << 63 | 1 << 34)
    assert digest_bytes(words.tobytes(), KEY) != digest_bytes(changed.tobytes(), KEY)


@given(
    difference=st.lists(st.tuples(st.integers(0, 1499), st.integers(1, 2**64 - 1)), min_size=1, max_size=4),
    key=st.binary(min_size=16, max_size=32),
)
def test_no_sparse_difference_survives_either_sum(difference: list[tuple[int, int]], key: bytes) -> None:
    words = np.arange(1500, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    changed = words.copy()
    for place, bits in difference:
        changed[place] ^= np.uint64(bits)
    if (changed == words).all():
        return
    sums = np.empty((2, 2), np.uint64)
    for content, row in zip((words, changed), sums, strict=True):
        kernel.hash_blocks(content, kernel.expand_key(key), row)
    assert (sums[0] != sums[1]).all()


@given(content=st.binary(max_size=5000), key=st.binary(min_size=16, max_size=16))
def test_the_sums_equal_the_oracle(content: bytes, key: bytes) -> None:
    words = np.frombuffer(content + bytes(-len(content) % 8), np.uint64)
    sums = np.empty(2, np.uint64)
    kernel.hash_blocks(words, kernel.expand_key(key), sums)
    assert sums.tolist() == oracle.universal(content, key)


def test_blocks_swapped_change_the_digest() -> None:
    blocks = np.arange(4 * kernel.BLOCK_WORDS, dtype=np.uint64).reshape(4, -1)
    assert digest_bytes(blocks.tobytes(), KEY) != digest_bytes(blocks[[0, 2, 1, 3]].tobytes(), KEY)


@pytest.mark.parametrize("worst", [0, 2**32 - 1, 2**64 - 1])
def test_multiplication_modulo_the_prime_holds_at_the_ends_of_its_range(worst: int) -> None:
    prime = 2**61 - 1
    for a in (0, 1, prime - 1, prime, prime + 4, worst % prime):
        for b in (0, 1, prime - 1, prime, worst % prime):
            product = int(kernel.multiply_mod(np.uint64(a), np.uint64(b)))
            assert product % prime == a * b % prime
            assert product < prime + 5


@pytest.mark.parametrize(("n_rows", "n_words"), [(0, 3), (1, 0), (5, 1), (7, 256), (3, 1700)])
def test_rows_digested_together_have_the_digests_of_each_alone(n_rows: int, n_words: int) -> None:
    rows = np.random.default_rng(4).integers(0, 2**63, (n_rows, n_words)).astype(np.uint64)
    key, context = kernel.expand_key(KEY), np.array([5, 6], np.uint64)
    out = np.empty((n_rows, 2), np.uint64)
    kernel.digest_rows(rows, np.uint64(n_words * 8), context, key, out)
    expected = [oracle.digest(row.tobytes(), KEY, context.tobytes()) for row in rows]
    assert [tuple(row) for row in out.tolist()] == expected
