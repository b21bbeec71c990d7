"""MinHash: of the items of a set, the least under each of many hash functions.

Broder, "On the resemblance and containment of documents", doi:10.1109/SEQUEN.1997.666900.
"""

from __future__ import annotations

import numpy as np

from mistique.kernels.compile import kernel

# The finalizer's constants of MurmurHash3, which spread every bit of 32 over all.
_M1, _M2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_S13, _S16 = np.uint32(13), np.uint32(16)


@kernel("void(Array(uint32, 2, 'C', readonly=True), Array(uint32, 1, 'C', readonly=True), uint32[:, ::1])")
def minhash(items: np.ndarray, seeds: np.ndarray, signatures: np.ndarray) -> None:
    """The least hash of the items of each set, for each seed.

    Parameters
    ----------
    items : ndarray of shape (n_sets, n_items), uint32
    seeds : ndarray of shape (n_hashes,), uint32
    signatures : ndarray of shape (n_sets, n_hashes), uint32
        Receives them. Two sets agree in one of them with the probability of their Jaccard similarity.
    """
    for i in range(items.shape[0]):
        signature = signatures[i]
        signature[:] = np.uint32(0xFFFFFFFF)
        for j in range(items.shape[1]):
            for k in range(seeds.size):
                word = np.uint32(items[i, j] ^ seeds[k])
                word = np.uint32(np.uint32(word ^ np.uint32(word >> _S16)) * _M1)
                word = np.uint32(np.uint32(word ^ np.uint32(word >> _S13)) * _M2)
                word = np.uint32(word ^ np.uint32(word >> _S16))
                signature[k] = min(signature[k], word)
