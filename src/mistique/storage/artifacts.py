"""Artifacts: the kept models, content-addressed, and signed with the user's key."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import tiledb

from mistique.errors import ChunkCorruptError, StoreError
from mistique.storage.fragments import ALL_TIME
from mistique.storage.layout import Layout
from mistique.storage.making import make_array
from mistique.storage.options import damage_as_error, translated
from mistique.storage.signing import sign, signature_name
from mistique.storage.soundness import refuse_unsound

_TILE_NBYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Artifact:
    """A kept model.

    Parameters
    ----------
    kind : str
        How it was serialised: ``skops``, ``cloudpickle``, ``keras``.
    payload : bytes
    is_signed : bool
        By this user's key: it may be loaded without asking.
    salt : str
        Makes another address of the same content, where that of before was taken away for good.
    """

    kind: str
    payload: bytes
    is_signed: bool = False
    salt: str = ""

    @property
    def digest(self) -> str:
        """Its address: SHA-256 of kind, salt and payload, in hex."""
        head = f"{self.kind};{self.salt}" if self.salt else self.kind
        return sha256(head.encode() + b"\0" + self.payload).hexdigest()

    def outside(self, gone: Collection[str]) -> Artifact:
        """It, at an address that is not one of those: who removes what a compaction took out of use may not be done."""
        found, n = self, 0
        while found.digest in gone:
            n += 1
            found = replace(self, salt=str(n))
        return found


class Artifacts:
    """Puts and gets the kept models of one store."""

    def __init__(self, layout: Layout, ctx: tiledb.Ctx) -> None:
        self._layout, self._ctx = layout, ctx

    def use(self, ctx: tiledb.Ctx) -> None:
        """Read and write in another context from now on."""
        self._ctx = ctx

    def put(self, artifact: Artifact) -> str:
        """Store an artifact once, signed; returns its digest."""
        digest = artifact.digest
        uri = self._layout.artifact(digest)
        with translated(uri, "write artifact"):
            self._make(uri, max(len(artifact.payload), 1))
            refuse_unsound(uri)
            with tiledb.open(uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array:
                is_whole = "kind" in array.meta
                is_signed_already = signature_name() in array.meta
            if not is_whole:
                if artifact.payload:
                    with tiledb.open(uri, "w", ctx=self._ctx) as array:
                        array[: len(artifact.payload)] = np.frombuffer(artifact.payload, np.uint8)
                with tiledb.open(uri, "w", ctx=self._ctx) as array:
                    array.meta["n_bytes"] = len(artifact.payload)
                    if artifact.salt:
                        array.meta["salt"] = artifact.salt
                    array.meta["kind"] = artifact.kind
            if not is_signed_already and (signature := sign(digest)) is not None:
                with tiledb.open(uri, "w", ctx=self._ctx) as array:
                    array.meta[signature_name()] = signature
        return digest

    def get(self, digest: str) -> Artifact:
        """The artifact with that digest; verified before anything parses it.

        Raises
        ------
        StoreError
            It is not there.
        ChunkCorruptError
            It is not what its digest says.
        """
        uri = self._layout.artifact(digest)
        refuse_unsound(uri)
        with translated(uri, "look for"):
            if tiledb.object_type(uri, ctx=self._ctx) != "array":
                raise StoreError(
                    f"the kept model {digest} is not in the store: a repair dropped it, as it was damaged, or somebody "
                    "took it away. Capture the model again; what is stored of it can still be read"
                )
        with (
            damage_as_error(uri, "a readable artifact"),
            tiledb.open(uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array,
        ):
            n_bytes, kind, salt = (array.meta.get(name) for name in ("n_bytes", "kind", "salt"))
            stored_signature = array.meta.get(signature_name())
            if (
                not isinstance(n_bytes, (int, np.integer))
                or not isinstance(kind, str)
                or not 0 <= n_bytes <= array.shape[0]
            ):
                raise ChunkCorruptError(where=f"artifact {digest}", expected="a whole artifact", got="a part of one")
            cells = array[:n_bytes] if n_bytes else np.empty(0, np.uint8)
        payload = (cells["bytes"] if isinstance(cells, dict) else cells).tobytes()
        found = Artifact(kind, payload, salt=salt if isinstance(salt, str) else "")
        if found.digest != digest:
            raise ChunkCorruptError(where="artifact", expected=f"digest {digest}", got=found.digest)
        signature = sign(digest)
        is_signed = (
            signature is not None
            and isinstance(stored_signature, str)
            and hmac.compare_digest(signature, stored_signature)
        )
        return replace(found, is_signed=is_signed)

    def nbytes(self, digest: str) -> int:
        """What an artifact takes in the store."""
        uri = self._layout.artifact(digest)
        with translated(uri, "measure artifact"):
            found: int = tiledb.VFS(ctx=self._ctx).dir_size(uri)
        return found

    def _make(self, uri: str, n_bytes: int) -> None:
        domain = tiledb.Domain(
            tiledb.Dim("position", domain=(0, n_bytes - 1), tile=min(n_bytes, _TILE_NBYTES), dtype=np.uint64)
        )
        attr = tiledb.Attr("bytes", dtype=np.uint8, filters=tiledb.FilterList([tiledb.ZstdFilter(level=9)]))
        make_array(uri, tiledb.ArraySchema(domain=domain, attrs=[attr]), self._ctx)
