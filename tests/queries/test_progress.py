"""Progress is shown on a terminal and late, and an interrupt harms nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mistique
from mistique.queries import progress
from mistique.storage.segments import SegmentReader
from mistique.store import Store
from tests.capturing import capturing, put_layer


class Bar:
    """What a bar was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def start(self) -> None:
        self.told.append("start")

    def add_task(self, what: str, **facts: object) -> int:
        self.told.append((what, facts["total"]))
        return 0

    def update(self, task: int, *, completed: int) -> None:
        self.told.append(completed)

    def stop(self) -> None:
        self.told.append("stop")


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    """The bars that were shown, on what looks like a terminal, without waiting."""
    shown: list[Bar] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "_SILENT_SECONDS", -1.0)
    monkeypatch.setattr(progress, "_bar", lambda: shown.append(Bar()) or shown[-1])
    return shown


def test_long_work_on_a_terminal_shows_one_bar_that_goes_away(store: Store, bars: list[Bar]) -> None:
    key = put_layer(store, np.ones((5, 2), np.float32))
    mistique.dead_units(store, key)  # within it, its portions are tracked too
    assert [bar.told for bar in bars] == [["start", ("looking for dead units", 1), 1, "stop"]]
    mistique.dead_units(store, key)
    assert len(bars) == 2


def test_nothing_is_shown_in_the_first_second_or_where_nobody_looks(
    bars: list[Bar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 1.0)
    assert list(progress.tracked(range(3), "x", total=3)) == [0, 1, 2]
    monkeypatch.setattr(progress, "_SILENT_SECONDS", -1.0)
    with progress.quiet():
        assert list(progress.tracked(range(3), "x", total=3)) == [0, 1, 2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert list(progress.tracked(range(3), "x", total=3)) == [0, 1, 2]
    assert bars == []


def test_the_bar_goes_away_when_its_work_is_interrupted(bars: list[Bar]) -> None:
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            for i in progress.tracked(range(3), "x", total=3):
                if i == 1:
                    raise error
    assert [bar.told[-1] for bar in bars] == ["stop", "stop"]


def test_the_real_bar_takes_names_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "_SILENT_SECONDS", -1.0)
    assert len(list(progress.tracked(range(2), "dense[/red][a]", total=2))) == 2
    capsys.readouterr()


def questions(store: Store) -> dict[str, Callable[[], object]]:
    """Each long question over a small store."""
    rng = np.random.default_rng(0)
    for epoch in (1, 2):
        for dataset in ("train", "valid"):
            with capturing(store, run_id="one", epoch=epoch, dataset=dataset) as capture:
                capture.add(
                    "input", pd.DataFrame({"a": rng.integers(0, 3, 90), "b": rng.normal(size=90)}), role="input"
                )
                capture.append("dense", rng.normal(size=(90, 4)).astype(np.float32))
                capture.add("prediction", rng.normal(size=90), role="prediction")
                capture.add("target", rng.normal(size=90), role="target")
    train, valid = "lab/model@1.2/train", "lab/model@1.2/valid"
    return {
        "slices": lambda: mistique.slices(store, train, min_rows=10),
        "drift": lambda: mistique.drift(store, train, other=valid),
        "trace": lambda: mistique.trace(store, train, row=3, other=valid),
        "dead_units": lambda: mistique.dead_units(store, "lab/model@1"),
        "epochs": lambda: mistique.epochs(store, "lab/model@1/train"),
    }


@pytest.mark.parametrize("name", ["slices", "drift", "trace", "dead_units", "epochs"])
def test_a_question_interrupted_at_any_read_is_answered_alike_when_asked_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ask = questions(store)[name]
    expected = ask().values  # type: ignore[attr-defined]
    read = SegmentReader.unheld_payloads
    n_calls = [0]

    def counted(*args: object, **more: object) -> object:
        n_calls[0] += 1
        if n_calls[0] == n_calls[1]:
            raise KeyboardInterrupt
        return read(*args, **more)  # type: ignore[arg-type]

    n_calls.append(-1)
    monkeypatch.setattr(SegmentReader, "unheld_payloads", counted)
    ask()
    n_reads = n_calls[0]
    assert n_reads > 1
    for at in sorted({1, n_reads // 2, n_reads}):
        n_calls[:] = [0, at]
        with pytest.raises(KeyboardInterrupt):
            ask()
        n_calls[:] = [0, -1]
        np.testing.assert_array_equal(ask().values, expected)  # type: ignore[attr-defined]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_in_the_middle_of_questions_leaves_the_store_as_it_was(store: Store, tmp_path: Path) -> None:
    questions(store)
    before = repr(store)
    script = """
        import sys, mistique
        store = mistique.open(sys.argv[1])
        try:
            print("ready", flush=True)
            while True:
                mistique.dead_units(store, "lab/model@1")
                mistique.drift(store, "lab/model@1.2/train", other="lab/model@1.2/valid")
        except KeyboardInterrupt:
            print(mistique.dead_units(store, "lab/model@1").values.tolist())
    """
    path = tmp_path / "asks.py"
    path.write_text(textwrap.dedent(script))
    with subprocess.Popen([sys.executable, str(path), store.uri], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        answer = child.stdout.readline()
        assert child.wait(60) == 0
    again = mistique.open(store.uri)
    assert repr(again) == before
    assert answer.strip() == str(mistique.dead_units(again, "lab/model@1").values.tolist())
