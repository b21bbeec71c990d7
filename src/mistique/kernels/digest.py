"""A keyed 128-bit digest: NH of each block, two polynomials over the blocks, SipHash over what is left.

Without the key nobody can construct two chunks with one digest, nor learn the key from digests (ADR 7). Sources: NH is
Black, Halevi, Krawczyk, Krovetz, Rogaway, doi:10.1007/3-540-48405-1_14; SipHash is Aumasson, Bernstein,
doi:10.1007/978-3-642-34931-7_28.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from mistique.kernels.compile import kernel
from mistique.kernels.wide import multiply_add

# Words of a block. Its key (4 KiB) stays in the first-level cache, and what comes once a block is a tenth of the time.
BLOCK_WORDS = 512
N_SUMS = 2
_POINTS, _NH = 2, 2 + N_SUMS
KEY_WORDS = _NH + BLOCK_WORDS

_PRIME = np.uint64(2**61 - 1)
_M22, _M43 = np.uint64(2**22 - 1), np.uint64(2**43 - 1)
_S3, _S21, _S22, _S32, _S43, _S61 = (np.uint64(n) for n in (3, 21, 22, 32, 43, 61))
_ZERO, _ONE = np.uint64(0), np.uint64(1)


def expand_key(key: bytes) -> np.ndarray:
    """The words that the kernels need, from a secret of 16 to 64 bytes.

    Returns
    -------
    ndarray of shape (KEY_WORDS,), uint64
        Two words for SipHash, the points of the two polynomials, the words of NH.
    """
    stream = b"".join(
        blake2b(number.to_bytes(8, "little"), key=key, person=b"mistique digest").digest()
        for number in range(-(-KEY_WORDS // 8))
    )
    words = np.frombuffer(stream, "<u8")[:KEY_WORDS].astype(np.uint64)
    words[_POINTS:_NH] &= _PRIME
    return words


@kernel("uint64(uint64, uint64)")
def multiply_mod(a: np.uint64, b: np.uint64) -> np.uint64:
    """``a * b`` modulo 2**61 - 1, at most 2**61 + 3, for factors below 2**62."""
    low, high = multiply_add(_ZERO, _ZERO, a, b)
    total = (low & _PRIME) + ((low >> _S61) | (high << _S3))
    reduced: np.uint64 = (total & _PRIME) + (total >> _S61)
    return reduced


@kernel(
    "UniTuple(uint64, 2)(Array(uint64, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True))",
)
def hash_block(block: np.ndarray, key: np.ndarray) -> tuple[np.uint64, np.uint64]:
    """NH of at most `BLOCK_WORDS` words, 128 bits as (low, high); a missing last word counts as zero."""
    # A slice for each place of four: with `key[i + 1]` LLVM sees a test of the sign in each index.
    key1, key2, key3 = key[1:], key[2:], key[3:]
    word1, word2, word3 = block[1:], block[2:], block[3:]
    low = high = low_odd = high_odd = _ZERO
    whole = block.size // 4 * 4
    for i in range(0, whole, 4):
        low, high = multiply_add(low, high, block[i] + key[i], word1[i] + key1[i])
        low_odd, high_odd = multiply_add(low_odd, high_odd, word2[i] + key2[i], word3[i] + key3[i])
    for i in range(whole, block.size, 2):
        second = block[i + 1] if i + 1 < block.size else _ZERO
        low, high = multiply_add(low, high, block[i] + key[i], second + key[i + 1])
    low, high = multiply_add(low, high, low_odd, _ONE)
    return low, high + high_odd


@kernel(
    "UniTuple(uint64, 2)(Array(uint64, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True), uint64, uint64)"
)
def hash_more(words: np.ndarray, key: np.ndarray, first: np.uint64, second: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Both polynomials of `hash_blocks` after more words; all but the last of them are whole blocks."""
    for start in range(0, words.size, BLOCK_WORDS):
        low, high = hash_block(words[start : start + BLOCK_WORDS], key[_NH:])
        # 128 bits as three numbers below the prime, each a coefficient of both polynomials.
        for coefficient in (low & _M43, (low >> _S43) | ((high & _M22) << _S21), high >> _S22):
            first = multiply_mod(first + coefficient, key[_POINTS])
            second = multiply_mod(second + coefficient, key[_POINTS + 1])
    return first, second


@kernel("void(Array(uint64, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True), uint64[::1])")
def hash_blocks(words: np.ndarray, key: np.ndarray, sums: np.ndarray) -> None:
    """Two universal hashes below 2**61 - 1 of some words."""
    first, second = hash_more(words, key, _ZERO, _ZERO)
    sums[0] = first if first < _PRIME else first - _PRIME
    sums[1] = second if second < _PRIME else second - _PRIME


@kernel("UniTuple(uint64, 4)(uint64, uint64, uint64, uint64)")
def sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """One round of SipHash over its four words of state."""
    v0, v2 = v0 + v1, v2 + v3
    v1 = (v1 << np.uint64(13) | v1 >> np.uint64(51)) ^ v0
    v3 = (v3 << np.uint64(16) | v3 >> np.uint64(48)) ^ v2
    v0 = v0 << _S32 | v0 >> _S32
    v2, v0 = v2 + v1, v0 + v3
    v1 = (v1 << np.uint64(17) | v1 >> np.uint64(47)) ^ v2
    v3 = (v3 << np.uint64(21) | v3 >> np.uint64(43)) ^ v0
    return v0, v1, v2 << _S32 | v2 >> _S32, v3


@kernel("void(Array(uint64, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True), uint64[::1])")
def sip_words(words: np.ndarray, key: np.ndarray, out: np.ndarray) -> None:
    """SipHash-2-4 with 128 bits of output, over whole words."""
    v0, v1 = key[0] ^ np.uint64(0x736F6D6570736575), key[1] ^ np.uint64(0x646F72616E646F6D ^ 0xEE)
    v2, v3 = key[0] ^ np.uint64(0x6C7967656E657261), key[1] ^ np.uint64(0x7465646279746573)
    for i in range(words.size + 1):
        # The last word of SipHash holds the number of bytes, modulo 256, in its top byte.
        word = words[i] if i < words.size else np.uint64(words.size * 8 % 256) << np.uint64(56)
        v3 ^= word
        for _ in range(2):
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= np.uint64(0xEE)
    for half in range(2):
        for _ in range(4):
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        out[half] = v0 ^ v1 ^ v2 ^ v3
        v1 ^= np.uint64(0xDD)


@kernel(
    "void(Array(uint64, 1, 'C', readonly=True), uint64, Array(uint64, 1, 'C', readonly=True),"
    " Array(uint64, 1, 'C', readonly=True), uint64[::1])"
)
def digest_words(words: np.ndarray, n_bytes: np.uint64, context: np.ndarray, key: np.ndarray, out: np.ndarray) -> None:
    """Digest of 64-bit words into two words.

    Parameters
    ----------
    words : ndarray of shape (n_words,), uint64
        The bytes, padded with zeros to whole words.
    n_bytes : int
        How many there were before padding.
    context : ndarray of shape (2,), uint64
        What the bytes are, in a digest of its own: equal bytes in two contexts have two digests.
    key : ndarray of shape (KEY_WORDS,), uint64
        From `expand_key`.
    out : ndarray of shape (2,), uint64
        Receives the digest.
    """
    left = np.empty(N_SUMS + 3, np.uint64)
    hash_blocks(words, key, left[:N_SUMS])
    left[N_SUMS] = n_bytes
    left[N_SUMS + 1 :] = context
    sip_words(left, key, out)


@kernel(
    "void(Array(uint8, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True),"
    " Array(uint64, 1, 'C', readonly=True), uint64[::1])"
)
def digest_content(content: np.ndarray, context: np.ndarray, key: np.ndarray, out: np.ndarray) -> None:
    """`digest_words` of some bytes, that may begin and end anywhere."""
    words = np.zeros(-(-content.size // 8), np.uint64)
    words.view(np.uint8)[: content.size] = content
    digest_words(words, np.uint64(content.size), context, key, out)


@kernel(
    "void(Array(uint64, 2, 'C', readonly=True), uint64, Array(uint64, 1, 'C', readonly=True),"
    " Array(uint64, 1, 'C', readonly=True), uint64[:, ::1])"
)
def digest_rows(rows: np.ndarray, n_bytes: np.uint64, context: np.ndarray, key: np.ndarray, out: np.ndarray) -> None:
    """Digest of each row of a matrix (n_chunks, n_words) as `digest_words` gives it, into `out` (n_chunks, 2)."""
    for i in range(rows.shape[0]):
        digest_words(rows[i], n_bytes, context, key, out[i])


@kernel(
    "void(Array(uint64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True),"
    " Array(int64, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True), Array(uint64, 1, 'C', readonly=True),"
    " uint64[:, ::1])"
)
def digest_pieces(
    words: np.ndarray, begins: np.ndarray, n_bytes: np.ndarray, context: np.ndarray, key: np.ndarray, out: np.ndarray
) -> None:
    """Digest of each piece of some bytes as `digest_content` gives it, into `out` (n_pieces, 2), without a copy.

    Parameters
    ----------
    words : ndarray of uint64
        The bytes.
    begins, n_bytes : ndarray of shape (n_pieces,), int64
        Where a piece begins, a multiple of 8, and how many bytes it has. All lie within the words.
    context, key, out
        As of `digest_words`.
    """
    left, last = np.empty(N_SUMS + 3, np.uint64), np.empty(BLOCK_WORDS, np.uint64)
    for i in range(begins.size):
        first_word, n_words = begins[i] // 8, (n_bytes[i] + 7) // 8
        n_whole = n_bytes[i] // 8 // BLOCK_WORDS * BLOCK_WORDS
        piece = words[first_word : first_word + n_words]
        first, second = hash_more(piece[:n_whole], key, _ZERO, _ZERO)
        if n_whole < n_words:
            rest = last[: n_words - n_whole]
            rest[:] = piece[n_whole:]
            for at in range(n_bytes[i] - 8 * n_whole, 8 * rest.size):
                rest.view(np.uint8)[at] = np.uint8(0)
            first, second = hash_more(rest, key, first, second)
        left[0] = first if first < _PRIME else first - _PRIME
        left[1] = second if second < _PRIME else second - _PRIME
        left[N_SUMS] = np.uint64(n_bytes[i])
        left[N_SUMS + 1 :] = context
        sip_words(left, key, out[i])
