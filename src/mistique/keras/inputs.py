"""Whether x is what a network takes, said before it runs."""

from __future__ import annotations

import itertools
import re
from typing import Any

import keras

from mistique.errors import ModelMismatchError

_HINT = "Give x as the model was trained on it"


def check_inputs(net: keras.Model, inputs: Any, *, model: str) -> None:
    """Compare the shapes of a batch with those of a model that says what it takes.

    A subclassed model does not; its layers then say it when they run.

    Raises
    ------
    ModelMismatchError
        Naming the expected and the given shapes.
    """
    expected = _expected(net)
    if expected is None:
        return
    leaves = keras.tree.flatten(inputs)
    if isinstance(inputs, dict) and not isinstance(net.input, dict):
        names = [tensor.name for tensor in expected]
        missing = [name for name in names if name not in inputs]
        if missing:
            wanted, got = f"inputs named {', '.join(names)}", f"{', '.join(map(str, inputs))}"
            raise ModelMismatchError(model=model, expected=wanted, got=got, hint=_HINT)
        leaves = [inputs[name] for name in names]
    if len(leaves) != len(expected):
        wanted, got = f"{len(expected)} inputs", f"{len(leaves)}"
        raise ModelMismatchError(model=model, expected=wanted, got=got, hint=_HINT)
    for leaf, tensor in zip(leaves, expected, strict=True):
        if not _fits(tuple(leaf.shape), tuple(tensor.shape)):
            wanted = f"rows of shape {_row(tensor.shape)} for input {tensor.name!r}"
            got = f"rows of shape {_row(leaf.shape)}"
            raise ModelMismatchError(model=model, expected=wanted, got=got, hint=_HINT)


def described(inputs: Any) -> str:
    """The shapes of a batch's rows, for a message."""
    shapes = [f"{_row(leaf.shape)}" for leaf in keras.tree.flatten(inputs)]
    return f"rows of shape {', '.join(shapes)}"


def said(error: Exception) -> str:
    """What an error of Keras says is wrong: its first sentence, without colours and the list of arguments."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception encountered when calling")]
    sentence = " ".join(itertools.takewhile(lambda line: not line.startswith("Arguments received by"), lines))
    if not sentence:
        return type(error).__name__
    return sentence if len(sentence) <= 300 else f"{sentence[:300]}..."


def _expected(net: keras.Model) -> list[Any] | None:
    try:
        return list(net.inputs)
    except AttributeError:
        return None


def _fits(given: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    # Keras adds or drops a last axis of length 1 by itself.
    if len(given) == len(expected) - 1 and expected[-1] == 1:
        given = (*given, 1)
    elif len(given) == len(expected) + 1 and given[-1] == 1:
        given = given[:-1]
    lengths = zip(given[1:], expected[1:], strict=False)
    return len(given) == len(expected) and all(wanted in (None, n) for n, wanted in lengths)


def _row(shape: Any) -> str:
    lengths = ["any" if n is None else str(n) for n in tuple(shape)[1:]]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"
