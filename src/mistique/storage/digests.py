"""Digests: of what is stored, against damage, and of what was captured, to find it again."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

from mistique.kernels.digest import digest_content, digest_pieces, digest_rows, digest_words, expand_key
from mistique.storage.signing import signing_key

Digest = tuple[int, int]


def digest_bytes(
    content: bytes | memoryview | np.ndarray, key: bytes = bytes(16), context: bytes = bytes(16)
) -> Digest:
    """The 128-bit digest of some bytes, under a key of up to 64 bytes, as two integers.

    Parameters
    ----------
    content : bytes, memoryview or ndarray of uint8
    key : bytes
        Zeros, as by default, guard against damage; a secret guards against people (docs/adr/0007).
    context : bytes of length 16
        What the bytes are: equal bytes in two contexts have two digests.
    """
    out = np.empty(2, np.uint64)
    flat = np.frombuffer(content, np.uint8)
    of_what, expanded = np.frombuffer(context, np.uint64), _expanded(key)
    if flat.size % 8 or flat.ctypes.data % 8:
        digest_content(flat, of_what, expanded, out)
    else:
        digest_words(flat.view(np.uint64), np.uint64(flat.size), of_what, expanded, out)
    return int(out[0]), int(out[1])


def digests_of_pieces(content: np.ndarray, begins: np.ndarray, n_bytes: np.ndarray) -> np.ndarray:
    """The digests of some pieces of bytes as `digest_bytes` gives them, shape (n_pieces, 2), uint64.

    Parameters
    ----------
    content : ndarray of uint8
    begins, n_bytes : ndarray of shape (n_pieces,), int64
    """
    out = np.empty((len(begins), 2), np.uint64)
    is_laid_out = content.ctypes.data % 8 == 0 and content.size % 8 == 0 and not (begins % 8).any()
    if is_laid_out and ((begins >= 0) & (n_bytes >= 0) & (n_bytes <= content.size - begins)).all():
        of_what = np.zeros(2, np.uint64)
        digest_pieces(content.view(np.uint64), begins, n_bytes, of_what, _expanded(bytes(16)), out)
    else:
        for i, (begin, size) in enumerate(zip(begins.tolist(), n_bytes.tolist(), strict=True)):
            out[i] = digest_bytes(content[begin : begin + size])
    return out


def digest_text(digest: Digest) -> str:
    """A digest in hex."""
    return f"{digest[0]:016x}{digest[1]:016x}"


def content_key() -> bytes:
    """The key of the digests by which this user's chunks are found again.

    Only what this user (or team, with ``MISTIQUE_SIGNING_KEY``) wrote is ever referred to: nobody else can make a
    chunk that answers for another. Where no key can be kept, one is drawn for this process.
    """
    return blake2b(signing_key() or _PROCESS_KEY, digest_size=32, person=b"mistique content").digest()


def seal(purpose: str, *parts: bytes) -> str:
    """What this user's key says of something written: nobody without the key can write it, or move it to other parts.

    Parameters
    ----------
    purpose : str
        What the parts are, up to 7 characters: a seal of one kind is none of another.
    *parts : bytes
    """
    person = b"mistique " + purpose.encode()
    mac = blake2b(key=content_key(), digest_size=16, person=person)
    for part in parts:
        mac.update(len(part).to_bytes(8, "little") + part)
    return mac.hexdigest()


def is_sealed(found: object, purpose: str, *parts: bytes) -> bool:
    """Whether `found` is the seal that this user's key puts on these parts."""
    return isinstance(found, str) and hmac.compare_digest(found.encode(), seal(purpose, *parts).encode())


_PROCESS_KEY = secrets.token_bytes(32)


def codec_text(codec: Mapping[str, Any]) -> str:
    """A codec's name and parameters as they enter a digest."""
    return json.dumps(dict(codec), sort_keys=True)


Context = Callable[[int, int], bytes]  # what chunks of so many columns and rows are


def column_contents(cells: np.ndarray, block_rows: int, context: Context, key: bytes) -> np.ndarray:
    """The digests of the chunks of one column of a table, shape (n_blocks, 2), uint64.

    Parameters
    ----------
    cells : ndarray of shape (n_rows,)
        C-contiguous; text as objects.
    block_rows : int
    context : callable
    key : bytes
    """
    n_rows = len(cells)
    out = np.empty((-(-n_rows // block_rows), 2), np.uint64)
    if cells.dtype.kind == "O":
        for block in range(len(out)):
            texts = cells[block * block_rows : (block + 1) * block_rows].tolist()
            lengths = np.fromiter(map(len, texts), np.uint32, len(texts))  # in characters
            out[block] = digest_bytes(lengths.tobytes() + "".join(texts).encode(), key, context(1, len(texts)))
        return out
    n_bytes = block_rows * cells.itemsize
    # Blocks of whole words in one call; the last, shorter one by itself.
    n_whole = n_rows // block_rows if n_bytes % 8 == 0 else 0
    if n_whole:
        rows = cells[: n_whole * block_rows].view(np.uint64).reshape(n_whole, -1)
        of_what = np.frombuffer(context(1, block_rows), np.uint64)
        digest_rows(rows, np.uint64(n_bytes), of_what, _expanded(key), out[:n_whole])
    for block in range(n_whole, len(out)):
        rest = cells[block * block_rows : (block + 1) * block_rows]
        out[block] = digest_bytes(rest.view(np.uint8), key, context(1, len(rest)))
    return out


_expanded = lru_cache(maxsize=16)(expand_key)
