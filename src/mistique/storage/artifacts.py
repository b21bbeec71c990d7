"""Artifacts: the kept models, content-addressed, and signed with the user's key."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import tiledb
from platformdirs import user_config_path

from mistique.errors import ChunkCorruptError
from mistique.storage.fragments import ALL_TIME
from mistique.storage.layout import Layout, make_array
from mistique.storage.options import damage_as_error, translated
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


def signing_key() -> bytes | None:
    """The key that this user signs with: ``MISTIQUE_SIGNING_KEY``, or a file in the user's config folder.

    The file is made at the first signature, readable by the user alone. None when it can be neither read nor made:
    artifacts are then kept unsigned, and recomputing asks for trust.
    """
    team = os.environ.get("MISTIQUE_SIGNING_KEY")
    if team:
        return team.encode()
    folder = Path(os.environ.get("MISTIQUE_CONFIG_DIR") or _config_folder(*map(os.environ.get, _CONFIG_VARIABLES)))
    path = folder / "signing.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Made whole under another name and linked: of two processes that start at once, one wins and both read its key.
        draft = folder / f"signing.{secrets.token_hex(8)}"
        if not path.exists():
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_hex(32))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_bytes().strip()
    except OSError:
        return None


_CONFIG_VARIABLES = ("XDG_CONFIG_HOME", "HOME", "APPDATA", "USERPROFILE")


@lru_cache(maxsize=8)
def _config_folder(*variables: str | None) -> Path:
    """The user's config folder under these variables: found anew each time, it was 60 ms of a fit with capture."""
    return user_config_path("mistique")


class Artifacts:
    """Puts and gets the kept models of one store."""

    def __init__(self, layout: Layout, ctx: tiledb.Ctx) -> None:
        self._layout, self._ctx = layout, ctx

    def put(self, artifact: Artifact) -> str:
        """Store an artifact once, signed; returns its digest."""
        digest = artifact.digest
        uri = self._layout.artifact(digest)
        with translated(uri, "write artifact"):
            self._make(uri, max(len(artifact.payload), 1))
            refuse_unsound(uri)
            with tiledb.open(uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array:
                is_whole = "kind" in array.meta
                is_signed_already = _signature_name() in array.meta
            if not is_whole:
                if artifact.payload:
                    with tiledb.open(uri, "w", ctx=self._ctx) as array:
                        array[: len(artifact.payload)] = np.frombuffer(artifact.payload, np.uint8)
                with tiledb.open(uri, "w", ctx=self._ctx) as array:
                    array.meta["n_bytes"] = len(artifact.payload)
                    if artifact.salt:
                        array.meta["salt"] = artifact.salt
                    array.meta["kind"] = artifact.kind
            if not is_signed_already and (signature := _sign(digest)) is not None:
                with tiledb.open(uri, "w", ctx=self._ctx) as array:
                    array.meta[_signature_name()] = signature
        return digest

    def get(self, digest: str) -> Artifact:
        """The artifact with that digest; verified before anything parses it.

        Raises
        ------
        ChunkCorruptError
            It is not what its digest says.
        """
        uri = self._layout.artifact(digest)
        refuse_unsound(uri)
        with (
            damage_as_error(uri, "a readable artifact"),
            tiledb.open(uri, "r", ctx=self._ctx, timestamp=ALL_TIME) as array,
        ):
            n_bytes, kind, salt = (array.meta.get(name) for name in ("n_bytes", "kind", "salt"))
            stored_signature = array.meta.get(_signature_name())
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
        signature = _sign(digest)
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


def _sign(digest: str) -> str | None:
    key = signing_key()
    return None if key is None else hmac.new(key, b"mistique artifact " + digest.encode(), sha256).hexdigest()


def _signature_name() -> str:
    """Where this user's signature stands: several people may sign one artifact."""
    key = signing_key() or b""
    return f"signature_{sha256(b'mistique key id ' + key).hexdigest()[:16]}"
