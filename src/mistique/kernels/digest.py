"""A 128-bit digest of bytes: four lanes of multiply and xor-shift."""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

# Odd 64-bit constants, the fractional parts of sqrt(2), sqrt(3), sqrt(5), sqrt(7): nothing up a sleeve.
_P1 = np.uint64(0x6A09E667F3BCC909)
_P2 = np.uint64(0xBB67AE8584CAA73B)
_P3 = np.uint64(0x3C6EF372FE94F82B)
_P4 = np.uint64(0xA54FF53A5F1D36F1)
_S29, _S32 = np.uint64(29), np.uint64(32)


@kernel("void(Array(uint64, 1, 'C', readonly=True), uint64, Array(uint64, 1, 'C', readonly=True), uint64[::1])")
def digest_words(words: np.ndarray, n_bytes: np.uint64, key: np.ndarray, out: np.ndarray) -> None:
    """Digest of 64-bit words, keyed, into two words.

    Parameters
    ----------
    words : ndarray of shape (4 * n,), uint64
        The bytes, padded with zeros to a multiple of 32.
    n_bytes : int
        How many there were before padding.
    key : ndarray of shape (2,), uint64
    out : ndarray of shape (2,), uint64
        Receives the digest.
    """
    a, b = key[0] ^ _P1, key[1] ^ _P2
    c, d = key[0] ^ _P3, key[1] ^ _P4
    for i in range(0, words.size, 4):
        a = (a ^ words[i]) * _P1
        b = (b ^ words[i + 1]) * _P2
        c = (c ^ words[i + 2]) * _P3
        d = (d ^ words[i + 3]) * _P4
        a ^= a >> _S29
        b ^= b >> _S29
        c ^= c >> _S29
        d ^= d >> _S29
    x, y = a ^ n_bytes, b ^ (n_bytes * _P3)
    for _ in range(4):
        x = (x ^ c) * _P1
        x ^= x >> _S32
        y = (y ^ d) * _P2
        y ^= y >> _S32
        c = (c + y) * _P3
        c ^= c >> _S29
        d = (d + x) * _P4
        d ^= d >> _S29
        x, y = y, x
    out[0] = x
    out[1] = y
