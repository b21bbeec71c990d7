"""The 128-bit digest, in Python integers: no array, no width but the written one."""

from __future__ import annotations

import struct
from math import isqrt

_MASK = 2**64 - 1


def _fraction_of_root(number: int) -> int:
    """The first 64 bits behind the point of the square root of a number, in exact integers."""
    return isqrt(number << 128) & _MASK


# As the kernel says: the fractional parts of the square roots of 2, 3, 5 and 7.
PRIMES = tuple(_fraction_of_root(number) | 1 for number in (2, 3, 5, 7))


def digest(content: bytes, key: bytes) -> tuple[int, int]:
    """The digest of some bytes under a key of 16 bytes, as two integers below 2**64."""
    key_words = struct.unpack("<2Q", key)
    lanes = [key_words[0] ^ PRIMES[0], key_words[1] ^ PRIMES[1], key_words[0] ^ PRIMES[2], key_words[1] ^ PRIMES[3]]
    padded = content + bytes(-len(content) % 32)
    for start in range(0, len(padded), 32):
        for lane, word in enumerate(struct.unpack("<4Q", padded[start : start + 32])):
            mixed = ((lanes[lane] ^ word) * PRIMES[lane]) & _MASK
            lanes[lane] = mixed ^ (mixed >> 29)
    a, b, c, d = lanes
    x, y = a ^ len(content), b ^ ((len(content) * PRIMES[2]) & _MASK)
    for _ in range(4):
        x = ((x ^ c) * PRIMES[0]) & _MASK
        x ^= x >> 32
        y = ((y ^ d) * PRIMES[1]) & _MASK
        y ^= y >> 32
        c = ((c + y) * PRIMES[2]) & _MASK
        c ^= c >> 29
        d = ((d + x) * PRIMES[3]) & _MASK
        d ^= d >> 29
        x, y = y, x
    return x, y
