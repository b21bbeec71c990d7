"""With a key nothing readable is left on disk; without it nothing is read; and the key is kept nowhere."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.errors import StoreKeyError
from mistique.storage.artifacts import Artifact
from mistique.storage.options import StorageOptions
from mistique.store import Store
from tests.capturing import capturing, put
from tests.storage.test_compaction import ask

KEY = "correct horse battery staple"
NAMES = [b"salary_of_person", b"lab/secret", b"patients", b"private_stage", b"readable", b"a kept model", b"row-label"]

ZSTD = bytes.fromhex("28b52ffd")  # how every frame begins: whatever is compressed could be read


def fill(store: Store) -> None:
    """Names in every place that has some."""
    table = pd.DataFrame({"salary_of_person": np.arange(50.0), "t": ["readable text"] * 50})
    for i in range(2):
        with capturing(store, model="lab/secret", dataset="patients") as capture:
            capture.set_labels([f"row-label-{j}" for j in range(50)])
            capture.add("private_stage", table.assign(salary_of_person=np.arange(50.0) + i))
            capture.append("layer", np.random.default_rng(i).normal(size=(50, 70)).astype(np.float32))
            capture.keep_model(Artifact("pickle", b"a kept model" * 9))
    ask(store)


def contents_of(path: Path) -> bytes:
    """Every byte of a store, and the names of its files."""
    files = sorted(path.rglob("*"))
    return b"\n".join(
        [*(str(file.relative_to(path)).encode() for file in files), *(f.read_bytes() for f in files if f.is_file())]
    )


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STORE_KEY", KEY)
    with mistique.open(tmp_path / "s.mistique", key="env:STORE_KEY") as store:
        fill(store)
    return tmp_path / "s.mistique"


def test_nothing_readable_is_left_on_disk_and_everything_can_be_asked(sealed: Path, tmp_path: Path) -> None:
    with mistique.open(tmp_path / "plain.mistique") as plain:
        fill(plain)
        right = ask(plain)
    assert ZSTD in contents_of(tmp_path / "plain.mistique")
    with mistique.open(sealed, key=lambda: KEY) as store:
        assert ask(store) == right
        assert store.check().is_whole
        assert store.compact(grace_seconds=0).n_segments_made == 1
        assert ask(store) == right
        assert store.gc(grace_seconds=0).n_segments_removed == 0
        assert store.check().is_whole
    content = contents_of(sealed)
    assert [name for name in [*NAMES, KEY.encode(), ZSTD] if name in content] == []


@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_wrong_key_is_one_clear_error(sealed: Path, tmp_path: Path, mode: str) -> None:
    before = sorted(sealed.rglob("*"))
    with pytest.raises(StoreKeyError, match="expected its key, got another"):
        mistique.open(sealed, mode=mode, key=lambda: KEY + "r")
    with pytest.raises(StoreKeyError, match="it is encrypted, got none"):
        mistique.open(sealed, mode=mode)
    assert sorted(sealed.rglob("*")) == before
    mistique.open(tmp_path / "plain").close()
    with pytest.raises(StoreKeyError, match="it is not encrypted, got one"):
        mistique.open(tmp_path / "plain", mode=mode, key="env:STORE_KEY")


def test_keys_come_from_the_environment_a_file_or_a_function(sealed: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    for source in ("env:STORE_KEY", f"file:{file}", file, lambda: KEY, lambda: KEY.encode()):
        assert len(mistique.open(sealed, mode="r", key=source).catalog.captures()) == 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (KEY, r'a key as "env:NAME".*got text'),
        ("env:NO_SUCH_VARIABLE", "in environment variable NO_SUCH_VARIABLE, got 0 bytes"),
        ("file:/no/such/file", "a key in file /no/such/file, got No such file"),
        (lambda: "short", "at least 16 bytes.*got 5 bytes"),
        (lambda: 7, "got int"),
    ],
)
def test_what_gives_no_key_is_refused_and_nothing_is_made(tmp_path: Path, source: object, said: str) -> None:
    with pytest.raises(StoreKeyError, match=said) as caught:
        mistique.open(tmp_path / "s", key=source)  # type: ignore[arg-type]
    assert KEY not in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_the_key_is_in_no_pickle_repr_or_error(sealed: Path) -> None:
    store = mistique.open(sealed, key="env:STORE_KEY")
    put(store, np.arange(3.0))
    assert len(pickle.loads(pickle.dumps(store)).catalog.captures()) == 3
    try:
        mistique.open(sealed, key=lambda: KEY + "r")
    except StoreKeyError:
        said = traceback.format_exc()
    derived = StorageOptions(key=lambda: KEY).context().config()["sm.encryption_key"]
    options = StorageOptions({"vfs.s3.aws_secret_access_key": "hush"}, key=lambda: KEY)
    for text in (pickle.dumps(store), repr(store), repr(options), said, repr(vars(store))):
        content = text if isinstance(text, bytes) else text.encode()
        assert not re.search(b"hush|" + KEY.encode() + b"|" + re.escape(derived.encode()), content)


def test_the_command_takes_a_key(sealed: Path) -> None:
    command = [sys.executable, "-c", "from mistique.cli import app; app()"]
    done = subprocess.run(
        [*command, "--key", "env:STORE_KEY", "check", str(sealed)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout[:6]) == (0, "whole:"), done.stderr
    done = subprocess.run([*command, "ls", str(sealed)], capture_output=True, text=True, check=False)
    assert (done.returncode, "it is encrypted" in done.stderr) == (1, True)
