"""The digest kernel against its oracle, and what a digest must tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mistique.kernels import digest as kernel
from mistique.storage.digests import chunk_digest, codec_text, digest_bytes
from tests.reference import digest as oracle

KEY = bytes(range(16))
RAW = codec_text({"name": "raw"})
NO_PARAMS = np.empty(0)


def test_the_constants_are_the_fractions_of_four_square_roots() -> None:
    assert (int(kernel._P1), int(kernel._P2), int(kernel._P3), int(kernel._P4)) == oracle.PRIMES


@given(content=st.binary(max_size=300), key=st.binary(min_size=16, max_size=16))
def test_kernel_equals_the_oracle(content: bytes, key: bytes) -> None:
    assert digest_bytes(content, key) == oracle.digest(content, key)


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8, 31, 32, 33, 63, 64, 65, 4096, 4097])
def test_kernel_equals_the_oracle_at_every_kind_of_length(n_bytes: int) -> None:
    content = bytes(i * 37 % 251 for i in range(n_bytes))
    assert digest_bytes(content, KEY) == oracle.digest(content, KEY)


@pytest.mark.parametrize("offset", range(1, 8))
def test_bytes_that_lie_unaligned_in_memory_have_the_same_digest(offset: int) -> None:
    content = bytes(range(96))
    buffer = np.frombuffer(bytes(offset) + content, np.uint8)[offset:]
    cells = buffer.reshape(1, -1)
    assert chunk_digest(cells, NO_PARAMS, RAW) == chunk_digest(cells.copy(), NO_PARAMS, RAW)


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


@given(cells=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_chunks_have_equal_digests_iff_their_bytes_are_equal(cells: np.ndarray) -> None:
    negated = -cells
    is_equal = negated.tobytes() == cells.tobytes()
    assert chunk_digest(cells.copy(), NO_PARAMS, RAW) == chunk_digest(cells, NO_PARAMS, RAW)
    assert (chunk_digest(negated, NO_PARAMS, RAW) == chunk_digest(cells, NO_PARAMS, RAW)) == is_equal


def test_shape_dtype_params_and_codec_are_part_of_a_chunk() -> None:
    cells = np.zeros((2, 8), np.float32)
    digests = [
        chunk_digest(cells, NO_PARAMS, RAW),
        chunk_digest(cells.reshape(1, 16), NO_PARAMS, RAW),
        chunk_digest(cells.view(np.int32), NO_PARAMS, RAW),
        chunk_digest(cells, np.ones(1), RAW),
        chunk_digest(cells, NO_PARAMS, codec_text({"name": "power", "bits": 5})),
    ]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("left", "right"),
    [(["ab", "c"], ["a", "bc"]), (["", "a"], ["a", ""]), (["é"], ["é".encode().decode("latin-1")])],
)
def test_texts_cut_elsewhere_have_other_digests(left: list[str], right: list[str]) -> None:
    left_cells, right_cells = (np.array([texts], object) for texts in (left, right))
    assert chunk_digest(left_cells, NO_PARAMS, RAW) != chunk_digest(right_cells, NO_PARAMS, RAW)


def test_a_strided_chunk_has_the_digest_of_its_copy() -> None:
    cells = np.arange(64.0).reshape(8, 8)[::2, 1::3]
    assert chunk_digest(cells, NO_PARAMS, RAW) == chunk_digest(cells.copy(), NO_PARAMS, RAW)
