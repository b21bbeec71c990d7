"""The commands that ask a question: what they print is what the function of that name answers."""

from __future__ import annotations

from inspect import signature
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.models import CommandInfo
from typer.testing import CliRunner, Result

import mistique
from mistique.cli import app, comparisons, questions
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


@pytest.mark.parametrize(
    "command", [*questions.commands.registered_commands, *comparisons.commands.registered_commands]
)
def test_what_a_question_can_be_asked_a_command_can(command: CommandInfo) -> None:
    assert command.callback is not None
    question = getattr(mistique, command.callback.__name__)
    spelled = {"column": "columns", "largest": "smallest"} if question is mistique.topk else {}
    # An example that was never captured is no text.
    asked = set(signature(question).parameters) - {"store", "example"}
    taken = set(signature(command.callback).parameters) - {"uri", "csv", "plot", "trust"}
    assert {spelled.get(name, name) for name in asked} == taken


@pytest.mark.parametrize(
    ("words", "question", "asked"),
    [
        (["--threshold", "1.5"], "dead_units", {"threshold": 1.5}),
        (["--positions", "3,-1", "--reduce", "none"], "row_diff", {"positions": (3, -1)}),
        (["--other", OTHER, "--variance", "0.5", "--columns", "0,1"], "svcca", {"variance": 0.5, "columns": [0, 1]}),
        (["--other", OTHER, "--threshold", "0.3", "--bins", "5"], "drift", {"threshold": 0.3, "bins": 5}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_reach_the_question(filled: Store, words: list[str], question: str, asked: dict[str, object]) -> None:
    done = ask(question.replace("_", "-"), filled.uri, KEY, *words, "--csv")
    assert done.exit_code == 0, done.output
    if "--other" in words:
        asked = {"other": OTHER, **asked}
    assert done.output == getattr(mistique, question)(filled, KEY, **asked).to_frame().to_csv()


def test_slices_by_some_columns_of_some_bins(filled: Store) -> None:
    with capturing(filled, model="homes/b") as capture:
        values = np.random.default_rng(1).normal(size=(300, 2))
        capture.add("input", values, role="input", columns=["rooms", "sqft"])
        capture.add("target", values[:, 0], role="target")
        capture.add("prediction", values[:, 0] + 3 * (values[:, 1] > 1), role="prediction")
    done = ask("slices", filled.uri, "homes/b@1/train", "--by", "sqft", "--bins", "3", "--loss", "squared", "--csv")
    assert done.exit_code == 0, done.output
    expected = mistique.slices(filled, "homes/b@1/train", by=["sqft"], bins=3, loss="squared")
    assert done.output == expected.to_frame().to_csv()


def test_a_picture_goes_into_a_file_and_a_wrong_ending_is_one_line(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "dist.png"
    assert ask("col-dist", filled.uri, KEY, "--column", "lat", "--plot", str(path)).exit_code == 0
    assert path.read_bytes()[:4] == b"\x89PNG"
    done = ask("col-dist", filled.uri, KEY, "--column", "lat", "--plot", str(tmp_path / "dist.nothing"))
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
