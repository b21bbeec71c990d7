"""MinHash, in Python integers."""

from __future__ import annotations

from collections.abc import Sequence

M32 = 2**32 - 1


def mixed(word: int) -> int:
    """MurmurHash3's finalizer of 32 bits, as its author describes it."""
    word ^= word >> 16
    word = word * 0x85EBCA6B & M32
    word ^= word >> 13
    word = word * 0xC2B2AE35 & M32
    return word ^ word >> 16


def minhash(items: Sequence[int], seeds: Sequence[int]) -> list[int]:
    """The least hash of some items, for each seed."""
    return [min(mixed(item ^ seed) for item in items) for seed in seeds]


def jaccard(one: Sequence[int], other: Sequence[int]) -> float:
    """Items in both sets over items in either."""
    return len(set(one) & set(other)) / len(set(one) | set(other))
