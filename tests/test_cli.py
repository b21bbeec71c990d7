"""The `mistique` command, run as a person runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import mistique
from mistique.cli import app
from mistique.codecs import Power
from mistique.store import Store
from tests.capturing import capturing, put, put_layer


def run_process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a process."""
    command = [sys.executable, "-m", "mistique", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def run(*arguments: str) -> Result:
    """Run the command in a terminal of 80 columns, in this process: starting one takes longer than the command."""
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, list(arguments))


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with one capture of two intermediates."""
    with capturing(store, model="homes/a model with quite a long name") as capture:
        capture.add("input", np.arange(40.0).reshape(20, 2), role="input", columns=["sqft_living", "grade"])
        capture.add("scale", np.arange(40.0).reshape(20, 2) / 40, parents=("input",), detail="Scaler")
    return store


def test_version_is_that_of_the_package() -> None:
    assert run_process("--version").stdout == f"mistique {mistique.__version__}\n"


def test_ls_names_every_capture_with_rows_and_bytes_within_80_columns(filled: Store) -> None:
    done = run("ls", filled.uri)
    assert done.exit_code == 0, done.stderr
    assert "train" in done.stdout
    assert "20" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_index_makes_one_and_du_shows_its_bytes_apart(store: Store) -> None:
    values = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    key = put_layer(store, values, codec=Power())
    made = run("index", store.uri, key, "--max-share", "0.5")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.startswith(f"index of {key}: the codes of every unit")
    done = run("du", store.uri)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["intermediate", "raw", "stored", "index", "sums"]
    assert "; index: " in done.stdout
    assert "codes, " in run("show", store.uri, key).stdout


def test_show_tells_facts_plan_and_first_rows_within_80_columns(filled: Store) -> None:
    done = run("show", filled.uri, "homes/a model with quite a long name@1/train/scale")
    assert done.exit_code == 0, done.stderr
    for said in ("Scaler", "float64", "computed from", "read", "0.025"):
        assert said in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "nowhere"], "expected a mistique store"),
        (["show", "STORE", "homes/x"], "expected a key project/model@version/dataset/intermediate"),
        (["show", "STORE", "lab/model@1/train/stag"], "nearest: stage"),
    ],
)
def test_bad_input_gives_one_line_on_stderr_and_exit_1(store: Store, arguments: list[str], said: str) -> None:
    put(store, np.arange(4.0))
    done = run_process(*(store.uri if word == "STORE" else word for word in arguments))
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "STORE", "in.npy", "a/b@new/valid/c"], "the key before the file: mistique import STORE a/b@new/v"),
        (["import", "STORE", "a/b/valid/c", "in.npy"], "expected a key such as torch/net@new/valid/conv1"),
        (["import", "STORE", "a/b@new/valid/c", "ab.npz"], "ab.npz has no array 'c'; it has a, b"),
        (
            ["export", "STORE", "out.npy", "lab/model@1/train/stage"],
            "before the file: mistique export STORE lab/model@1",
        ),
        (["export", "STORE", "lab/model@1/train/stage", "no/o.npy"], "expected a folder for o.npy, found none at no"),
        (["link", "STORE", "lab/model@1", "mlflow=0af3"], "mistique link STORE lab/model@1 mlflow 0af3"),
        (["link", "STORE", "lab/model@1", "mlflow", ""], "expected the id of a run as text, such as run.id"),
        (["log", "STORE", "lab/modle"], "no model 'lab/modle'; nearest: lab/model"),
        (["tag", "STORE", "lab/model@1", "best", "--remove"], "lab/model@1 has no tag 'best'; it has none"),
    ],
)
def test_what_is_in_the_wrong_order_or_not_there_is_told_with_what_to_do(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    put(store, np.arange(4.0))
    monkeypatch.chdir(tmp_path)
    np.savez("ab.npz", a=np.ones(2), b=np.ones(2))
    done = CliRunner().invoke(app, [store.uri if word == "STORE" else word for word in arguments])
    assert done.exit_code == 1
    assert said.replace("STORE", store.uri) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_compact_says_in_one_line_what_it_did(store: Store) -> None:
    for i in range(3):
        put(store, np.arange(4000.0) + i, model=f"lab/{i}")
    done = run("compact", store.uri, "--grace-seconds", "0")
    assert done.exit_code == 0, done.stderr
    assert "3 rewritten into 1, 3 removed" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert mistique.get(store, "lab/2@1/train/stage").values[0] == 2


def test_report_writes_one_file_and_says_where(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("report", filled.uri, "homes/a model with quite a long name", "-o", "r.html")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("r.html: ")
    assert "sqft_living" not in done.stderr
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    missing = run("report", filled.uri, "homes/nothing")
    assert (missing.exit_code, "no model 'homes/nothing'" in missing.stderr) == (1, True)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("command", ["ls", "compact"])
def test_a_command_on_a_missing_store_makes_nothing(tmp_path: Path, command: str) -> None:
    assert run(command, str(tmp_path / "nothing")).exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.keras
def test_demo_answers_six_questions_and_saves_pictures_that_are_not_blank(tmp_path: Path) -> None:
    from PIL import Image

    done = run_process("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for number in range(1, 7):
        assert f"\n{number}. " in done.stdout
    assert "recompute took" in done.stdout
    assert "read took" in done.stdout
    pictures = sorted((tmp_path / "mistique-demo").glob("*.png"))
    assert len(pictures) == 5
    for picture in pictures:
        assert picture.name in done.stdout
        assert np.asarray(Image.open(picture).convert("L")).std() > 10


def test_export_import_and_the_history_go_through_the_command_line(store: Store, tmp_path: Path) -> None:
    values = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "in.npy", values)
    for command in (
        ["import", store.uri, "torch/net@new/valid/head", str(tmp_path / "in.npy")],
        ["note", store.uri, "torch/net@1", "by hand"],
        ["export", store.uri, "torch/net@1/valid/head", str(tmp_path / "out.npy")],
    ):
        done = run(*command)
        assert done.exit_code == 0, done.stderr
    assert np.load(tmp_path / "out.npy").shape == values.shape
    told = run("log", store.uri).stdout
    assert "torch/net@1" in told
    assert "note: by hand" in told


def test_check_says_what_is_damaged_and_repair_drops_it(filled: Store) -> None:
    whole = run("check", filled.uri)
    assert (whole.exit_code, whole.stdout.splitlines()[0][:7]) == (0, "whole: ")
    (segment,) = (path for path in (Path(filled.uri) / "segments").iterdir() if len(path.name) == 32)
    shutil.rmtree(segment)
    damaged = run("check", filled.uri)
    assert (damaged.exit_code, "lost: homes/a%20model%20with" in damaged.stdout) == (1, True)
    assert run("check", filled.uri, "--repair").exit_code == 1
    assert run("check", filled.uri).exit_code == 0
    assert run("gc", filled.uri).stdout.endswith("models removed: 0\n")
    assert run("check", "nowhere").exit_code == 1
