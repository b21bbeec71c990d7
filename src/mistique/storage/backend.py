"""What a store lies on, as far as the time of its reads and writes goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

_ENDPOINTS = {
    "s3": "vfs.s3.endpoint_override",
    "gs": "vfs.gcs.endpoint",
    "azure": "vfs.azure.blob_endpoint",
}
_MOUNTS = Path("/proc/self/mounts")


def backend_of(uri: str, config: Mapping[str, str]) -> str:
    """The storage back end of a URI: costs of one say nothing of another, though both be used from one host.

    Parameters
    ----------
    uri : str
    config : mapping of str to str
        TileDB parameters.

    Returns
    -------
    str
        Scheme, and of object storage its endpoint if it is not the provider's, of a path the kind of file system, where
        the system tells: a store in memory (``tmpfs``), on a disk (``ext4``) and on the network (``nfs4``) are three.

    Examples
    --------
    >>> backend_of("s3://homes/store", {})
    's3'
    >>> backend_of("s3://homes/store", {"vfs.s3.endpoint_override": "127.0.0.1:5000"})
    's3 127.0.0.1:5000'
    """
    parts = urlsplit(uri)
    if "://" in uri and parts.scheme != "file":
        return f"{parts.scheme} {config.get(_ENDPOINTS.get(parts.scheme, ''), '')}".strip()
    return f"file {_file_system(os.path.realpath(parts.path if '://' in uri else uri))}".strip()


def _file_system(path: str) -> str:
    """The kind of the file system that a path lies in; empty: the system does not tell."""
    best, kind = "", ""
    for place, found in _mounted():
        is_above = place == "/" or path == place or path.startswith(place + "/")
        if is_above and len(place) >= len(best):  # of two at one place the later hides the other
            best, kind = place, found
    return kind


@lru_cache(maxsize=1)
def _mounted() -> tuple[tuple[str, str], ...]:
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ()
    fields = [line.split(" ") for line in lines]
    return tuple((of[1].replace("\\040", " "), of[2]) for of in fields if len(of) > 2)
