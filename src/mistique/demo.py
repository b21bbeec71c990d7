"""`mistique demo`: two real models, captured while they run, and six questions answered."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.rule import Rule

import mistique
from mistique.planner.plan import Plan, format_seconds
from mistique.store import Store

_YOUR_TURN = """\
import mistique
from mistique.sklearn import Pipeline
from mistique.keras import MistiqueCallback

store = mistique.open("mine.mistique")
pipe = Pipeline([("scale", scaler), ("model", model)]).set_capture(store, model="mine/pipe")
pipe.fit(X, y)                                            # every step's output is in the store
net.fit(x, y, callbacks=[MistiqueCallback(store, x_valid, y_valid, model="mine/net")])
print(mistique.topk(store, "mine/net@latest/valid/dense", unit=12, k=10))
print(mistique.get(store, "mine/pipe@latest/train/scale", rows=[0, 1]).to_frame())"""


@dataclass(frozen=True)
class _Question:
    words: str
    ask: Callable[[Store], Any]
    picture: str = ""


def run_demo(folder: Path) -> Path:
    """Run it; returns the folder with the store and the pictures."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    importlib.import_module("matplotlib").use("Agg")
    console = Console(highlight=False)
    folder = _free(folder)
    folder.mkdir(parents=True)
    store = mistique.open(folder / "demo.mistique")
    console.print(f"mistique {mistique.__version__}, store {folder / 'demo.mistique'}\n")
    _capture(store, console)
    pictures = [
        picture
        for number, question in enumerate(_questions(), 1)
        if (picture := _answer(console, store, folder, number, question))
    ]
    console.print(Rule("what is stored"))
    console.print(repr(store), markup=False, soft_wrap=True)
    console.print("\nPictures:")
    for picture in pictures:
        console.print(f"  {picture}", soft_wrap=True)
    console.print(Rule("the same in your own script"))
    console.print(_YOUR_TURN, markup=False, soft_wrap=True)
    store.close()
    return folder


def _free(folder: Path) -> Path:
    """The folder, or the next one of its name that does not exist: nothing is overwritten."""
    number, free = 2, folder
    while free.exists():
        free = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return free


def _capture(store: Store, console: Console) -> None:
    """Fit three pipelines on homes and train a network on images, captured as they run."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("importing scikit-learn", total=3)
        homes = importlib.import_module("mistique.sklearn.examples")
        X_train, X_valid, y_train, y_valid = homes.homes_split()
        for name, pipe in homes.homes_pipelines().items():
            progress.update(task, description=f"fit {name} on {len(X_train):,} homes")
            pipe.set_capture(store, model=f"homes/{name}").fit(X_train, y_train)
            capture = importlib.import_module("mistique.sklearn").capture
            capture(pipe, X_valid, y_valid, store=store, dataset="valid")
            progress.advance(task)
        progress.update(task, description="three pipelines fitted and captured")
        task = progress.add_task("importing Keras", total=3)
        with _silent_stderr():
            fashion = importlib.import_module("mistique.keras.examples")
            mistique_keras = importlib.import_module("mistique.keras")
        x_train, x_valid, classes_train, classes_valid = fashion.fashion_split()
        net = fashion.fashion_cnn()
        callback = mistique_keras.MistiqueCallback(store, x_valid, classes_valid, model="fashion/cnn", codec="power")
        progress.update(task, description=f"two epochs of a CNN on {len(x_train):,} images")
        net.fit(x_train, classes_train, epochs=2, batch_size=64, verbose=0, callbacks=[callback])
        progress.advance(task, 2)
        # Nothing of these layers is stored: questions of them run the network again.
        mistique_keras.capture(
            net, x_train[:2000], classes_train[:2000], store=store, model="fashion/cnn", dataset="train", keep="none"
        )
        progress.advance(task)
        progress.update(task, description="a CNN trained and captured")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Without what TensorFlow's C++ code writes about the machine, before its log level counts."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _questions() -> list[_Question]:
    return [
        _Question("Which homes does the forest miss most, and what did the scaler make of them?", _missed_homes),
        _Question(
            "Does the forest beat the ridge for every grade of house?",
            lambda store: mistique.col_diff(
                store,
                "homes/ridge@latest/valid/prediction",
                other="homes/forest@latest/valid/prediction",
                by="grade",
            ),
            "2-error-by-grade.png",
        ),
        _Question(
            "How large are the homes that each condition comes with?",
            lambda store: mistique.col_dist(
                store, "homes/ridge@latest/valid/input", column="sqft_living", by="condition", bins=16
            ),
            "3-size-by-condition.png",
        ),
        _Question(
            "Which images fire unit 12 of conv2 most?",
            lambda store: mistique.topk(store, "fashion/cnn@latest/valid/conv2", unit=12, k=10),
            "4-unit-12-of-conv2.png",
        ),
        _Question(
            "For which classes did the second epoch help?",
            lambda store: mistique.col_diff(
                store,
                "fashion/cnn@1.1/valid/prediction",
                other="fashion/cnn@1.2/valid/prediction",
                by=_class_names(store),
            ),
            "5-epoch-1-against-2.png",
        ),
        _Question(
            "How strongly does conv1 fire on training images, which were never stored?",
            lambda store: mistique.col_dist(store, "fashion/cnn@latest/train/conv1", unit=3),
            "6-conv1-on-train.png",
        ),
    ]


def _missed_homes(store: Store) -> Any:
    predicted = mistique.get(store, "homes/forest@latest/valid/prediction")
    price = mistique.get(store, "homes/forest@latest/valid/target")
    worst = np.argsort(-np.abs(predicted.values - price.values))[:5]
    missed = predicted.rows[worst]
    for label, guess, truth in zip(missed, predicted.values[worst], price.values[worst], strict=True):
        Console(highlight=False).print(f"  {label}: sold for ${truth:,.0f}, the forest said ${guess:,.0f}")
    columns = ["sqft_living", "grade", "lat", "waterfront"]
    return mistique.get(store, "homes/forest@latest/valid/scale", rows=list(missed), columns=columns)


def _class_names(store: Store) -> np.ndarray:
    from mistique.data import FASHION_CLASSES

    classes = mistique.get(store, "fashion/cnn@latest/valid/target").values.reshape(-1)
    names: np.ndarray = np.array(FASHION_CLASSES)[classes.astype(int)]
    return names


def _answer(console: Console, store: Store, folder: Path, number: int, question: _Question) -> Path | None:
    console.print(Rule(f"{number}. {question.words}", align="left"))
    started = time.perf_counter()
    answer = question.ask(store)
    seconds = time.perf_counter() - started
    console.print(repr(answer), markup=False, soft_wrap=True)
    console.print(f"[dim]{_roads(answer.plan)}; the whole answer took {format_seconds(seconds)}[/dim]", soft_wrap=True)
    if not question.picture:
        return None
    axes = answer.plot()
    path = folder / question.picture
    np.asarray(axes).reshape(-1)[0].figure.savefig(path, dpi=120)
    return path


def _roads(plan: Plan) -> str:
    """What each road took or would have taken."""
    roads = []
    for candidate in plan.candidates:
        if candidate == plan.chosen:
            roads.append(f"{candidate.road} took {format_seconds(plan.seconds or 0.0)}")
        elif candidate.is_possible:
            roads.append(f"{candidate.road} would have taken {format_seconds(candidate.predicted_seconds)}")
        else:
            roads.append(f"{candidate.road}: {candidate.reason}")
    return "roads: " + "; ".join(roads)
