"""The 128-bit digest, in Python integers: no array, no width but the written one."""

from __future__ import annotations

import struct
from hashlib import blake2b

M64, PRIME = 2**64 - 1, 2**61 - 1
BLOCK_WORDS, N_SUMS = 512, 2


def key_words(key: bytes) -> tuple[list[int], list[int], list[int]]:
    """Two words for SipHash, a point of each polynomial, the words of NH."""
    n_words = 2 + N_SUMS + BLOCK_WORDS
    stream = bytearray()
    number = 0
    while len(stream) < 8 * n_words:
        stream += blake2b(struct.pack("<Q", number), key=key, person=b"mistique digest").digest()
        number += 1
    words = list(struct.unpack(f"<{n_words}Q", stream[: 8 * n_words]))
    return words[:2], [word % 2**61 for word in words[2 : 2 + N_SUMS]], words[2 + N_SUMS :]


def universal(content: bytes, key: bytes) -> list[int]:
    """The sums that are left of the bytes: NH of each block, a polynomial over the blocks."""
    _, points, nh_key = key_words(key)
    padded = content + bytes(-len(content) % 8)
    words = struct.unpack(f"<{len(padded) // 8}Q", padded)
    sums = [0] * N_SUMS
    for start in range(0, len(words), BLOCK_WORDS):
        block = [*words[start : start + BLOCK_WORDS], 0]
        nh = 0
        for i in range(0, len(block) - 1, 2):
            nh += ((block[i] + nh_key[i]) & M64) * ((block[i + 1] + nh_key[i + 1]) & M64)
        for coefficient in (nh % 2**43, (nh >> 43) % 2**43, (nh >> 86) % 2**42):
            sums = [(total + coefficient) * point % PRIME for total, point in zip(sums, points, strict=True)]
    return sums


def digest(content: bytes, key: bytes, context: bytes = bytes(16)) -> tuple[int, int]:
    """The digest of some bytes, as two integers below 2**64."""
    left = [*universal(content, key), len(content), *struct.unpack("<2Q", context)]
    sip_key, _, _ = key_words(key)
    return siphash_128(struct.pack(f"<{len(left)}Q", *left), struct.pack("<2Q", *sip_key))


def siphash_128(content: bytes, key: bytes) -> tuple[int, int]:
    """SipHash-2-4 with 128 bits of output, as its paper and reference describe it."""
    k0, k1 = struct.unpack("<2Q", key)
    # The initial state spells "somepseudorandomlygeneratedbytes".
    spelled = struct.unpack(">4Q", b"somepseudorandomlygeneratedbytes")
    v = [word ^ k for word, k in zip(spelled, (k0, k1, k0, k1), strict=True)]
    v[1] ^= 0xEE
    padded = content + bytes(-(len(content) + 1) % 8) + bytes([len(content) % 256])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        _rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xEE
    _rounds(v, 4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    _rounds(v, 4)
    return first, v[0] ^ v[1] ^ v[2] ^ v[3]


def _rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        for a, b, c, d, left, right in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
            v[a] = (v[a] + v[b]) & M64
            v[b] = _rotated(v[b], left) ^ v[a]
            v[a] = _rotated(v[a], 32)
            v[c] = (v[c] + v[d]) & M64
            v[d] = _rotated(v[d], right) ^ v[c]


def _rotated(word: int, n_bits: int) -> int:
    return (word << n_bits | word >> (64 - n_bits)) & M64
