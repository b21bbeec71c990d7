"""A quick digest of the values of an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from mistique.storage.digests import digest_bytes


def content_digest(values: np.ndarray) -> str:
    """Digest of values, their type and shape; empty: of Python objects there is none."""
    if values.dtype.kind == "O":
        return ""
    content: Any = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    high, low = digest_bytes(content)
    return f"{values.dtype.name} {values.shape} {high:x}.{low:x}"
