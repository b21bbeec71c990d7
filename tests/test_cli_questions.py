"""The commands that ask a question: what they print is what the function of that name answers."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import mistique
from mistique.cli import app
from mistique.store import Store
from tests.capturing import capturing

KEY, OTHER = "homes/a@1/train/scale", "homes/a@2/train/scale"


def ask(*words: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def filled(store: Store) -> Store:
    """Two versions of a model over rows with labels of text, and a target."""
    random = np.random.default_rng(0)
    labels = pd.Index([f"home {i}" if i else "home, first" for i in range(200)])
    for factor in (1.0, 3.0):
        values = random.normal(size=(200, 3)).cumsum(axis=1)
        with capturing(store, model="homes/a") as capture:
            capture.set_labels(labels)
            capture.add("input", values, role="input", columns=["rooms", "sqft", "lat"])
            capture.add("scale", values * factor, parents=("input",), columns=["rooms", "sqft", "lat"])
            capture.add("target", (values[:, 0] > 0).astype(int), role="target")
    return store


def test_a_question_prints_the_table_of_its_answer(filled: Store) -> None:
    done = ask("topk", filled.uri, KEY, "--columns", "sqft", "-k", "3")
    assert done.exit_code == 0, done.output
    expected = mistique.topk(filled, KEY, column="sqft", k=3)
    assert done.output.splitlines()[:5] == repr(expected).splitlines()[:5]


def test_csv_is_the_whole_answer_with_row_labels(filled: Store) -> None:
    done = ask("get", filled.uri, KEY, "--rows", "3:150", "--columns", "lat,rooms", "--csv")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(StringIO(done.output), index_col=0)
    expected = mistique.get(filled, KEY, rows=slice(3, 150), columns=["lat", "rooms"]).to_frame()
    pd.testing.assert_frame_equal(found, expected, check_names=False)


@pytest.mark.parametrize(
    "words",
    [
        ["knn", KEY, "--row", "home, first", "-k", "2"],
        ["col-dist", KEY, "--column", "lat", "--by", "target"],
        ["col-diff", KEY, "--other", OTHER, "--column", "0"],
        ["row-diff", KEY, "--rows", "home 3,home 4"],
        ["class-means", KEY],
        ["svcca", KEY, "--other", OTHER],
        ["corr", KEY, "--other", OTHER],
        ["topk", KEY, "--position", "3", "--n-units", "1"],
        ["cka", "homes/a@1/train", "--other", OTHER],
        ["drift", "homes/a@1/train", "--other", "homes/a@2/train"],
        ["trace", "homes/a@1/train", "--row", "home 3", "--other", "homes/a@2/train"],
        ["dead-units", KEY],
    ],
    ids=lambda words: words[0],
)
def test_every_question_is_a_command(filled: Store, words: list[str]) -> None:
    done = ask(words[0], filled.uri, *words[1:])
    assert done.exit_code == 0, done.output
    assert "homes/a@1/train" in done.output


def test_a_picture_goes_into_a_file_and_a_wrong_ending_is_one_line(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "dist.png"
    assert ask("col-dist", filled.uri, KEY, "--column", "lat", "--plot", str(path)).exit_code == 0
    assert path.read_bytes()[:4] == b"\x89PNG"
    done = ask("col-dist", filled.uri, KEY, "--column", "lat", "--plot", str(tmp_path / "dist.nothing"))
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
