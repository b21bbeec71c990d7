"""The key that a user signs with, and signatures of artifacts."""

from __future__ import annotations

import hmac
import os
import secrets
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from platformdirs import user_config_path


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


def sign(digest: str) -> str | None:
    """The signature of this user for an artifact; None: there is no key."""
    key = signing_key()
    return None if key is None else hmac.new(key, b"mistique artifact " + digest.encode(), sha256).hexdigest()


def signature_name() -> str:
    """Where this user's signature stands: several people may sign one artifact."""
    key = signing_key() or b""
    return f"signature_{sha256(b'mistique key id ' + key).hexdigest()[:16]}"
