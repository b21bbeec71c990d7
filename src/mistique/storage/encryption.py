"""Encryption at rest: where the key of a store comes from, and what TileDB is told. The key itself is kept nowhere."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import tiledb

from mistique.errors import StoreKeyError

# "env:NAME", "file:PATH", a path, or something to call. Never the key itself, which would be in every pickle.
KeySource = str | os.PathLike[str] | Callable[[], str | bytes]
_MIN_NBYTES = 16


def encryption_config(source: KeySource | None, *, uri: str) -> dict[str, str]:
    """TileDB's parameters for a key.

    Parameters
    ----------
    source : str, path or callable, optional
        None: no encryption.
    uri : str
        Of the store, for errors.

    Raises
    ------
    StoreKeyError
        It gives no key of at least 16 bytes.

    Notes
    -----
    TileDB takes 32 characters: BLAKE2b-192 of the key in base64. It is no stretching of passwords: give random bytes.
    """
    if source is None:
        return {}
    derived = blake2b(_key(source, uri), digest_size=24, person=b"mistique store").digest()
    return {"sm.encryption_type": "AES_256_GCM", "sm.encryption_key": b64encode(derived).decode()}


@contextmanager
def key_errors(uri: str) -> Iterator[None]:
    """What TileDB says of keys, as a `StoreKeyError`."""
    try:
        yield
    except tiledb.TileDBError as error:
        said = str(error)
        if "given key is for NO_ENCRYPTION" in said:
            raise StoreKeyError(uri=uri, expected="its key: it is encrypted", got="none") from error
        if "encrypted with NO_ENCRYPTION" in said:
            raise StoreKeyError(uri=uri, expected="no key: it is not encrypted", got="one") from error
        if "decryption" in said:
            raise StoreKeyError(uri=uri, expected="its key", got="another (or what it decrypts is damaged)") from error
        raise


def _key(source: KeySource, uri: str) -> bytes:
    if callable(source):
        where, found = "the function that was given", source()
    else:
        text = os.fspath(source)
        kind, _, name = text.partition(":")
        if isinstance(source, str) and kind not in ("env", "file"):
            # What is not printed here may be the key itself.
            raise StoreKeyError(uri=uri, expected='a key as "env:NAME", "file:PATH", a path or a function', got="text")
        if isinstance(source, str) and kind == "env":
            where, found = f"environment variable {name}", os.environ.get(name, "")
        else:
            path = Path(name if isinstance(source, str) else text).expanduser()
            where = f"file {path}"
            try:
                found = path.read_bytes().strip()
            except OSError as error:
                raise StoreKeyError(uri=uri, expected=f"a key in {where}", got=error.strerror or "nothing") from error
    key = found.encode() if isinstance(found, str) else found
    if not isinstance(key, bytes) or len(key) < _MIN_NBYTES:
        n_bytes = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise StoreKeyError(uri=uri, expected=f"at least {_MIN_NBYTES} bytes in {where}", got=n_bytes)
    return key
