"""Networks as people have them, tiny: what fits them, and the intermediates that they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

layers = keras.layers
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(20, 4)).astype("float32")
Y = _RNG.normal(size=(20, 1)).astype("float32")
IDS = _RNG.integers(1, 9, (20, 6)) * (np.arange(6) < _RNG.integers(2, 7, (20, 1)))


@dataclass(frozen=True)
class Case:
    """A network, its data, and the names of its layers' intermediates in order."""

    make: Callable[[], keras.Model]
    names: list[str]
    x: Any = field(default_factory=lambda: X)
    y: Any = field(default_factory=lambda: Y)
    compiled: dict[str, Any] = field(default_factory=dict)
    # Of a prediction from the network's own: rows that fill no batch run in another geometry.
    tolerance: float = 1e-5


class Inner(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = layers.Dense(3, "relu"), layers.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.narrow(self.wide(inputs))


class Middle(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = Inner(), Inner()

    def call(self, inputs: Any) -> Any:
        return self.left(inputs) + self.right(inputs)


class Outer(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.middle, self.score = Middle(), layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.score(self.middle(inputs))


class TwoHeads(keras.Model):
    """A tuple of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.left, self.right = layers.Dense(3), layers.Dense(1), layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        hidden = self.body(inputs)
        return self.left(hidden), self.right(hidden)


class Attending(keras.Model):
    """Attention with its scores."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.score = layers.MultiHeadAttention(2, 3), layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        attended, _ = self.attention(inputs, inputs, return_attention_scores=True)
        return self.score(keras.ops.mean(attended, axis=1))


class OwnStep(keras.Sequential):
    """A `train_step` of its own, which any backend runs."""

    def train_step(self, *arguments: Any) -> Any:
        self.n_steps = getattr(self, "n_steps", 0) + 1
        return super().train_step(*arguments)


class Block(layers.Layer):
    """A block of a Transformer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 4)
        self.first, self.second = layers.LayerNormalization(), layers.LayerNormalization()
        self.feed = keras.Sequential([layers.Dense(6, "relu", name="up"), layers.Dense(8, name="down")])

    def call(self, inputs: Any) -> Any:
        attended = self.first(inputs + self.attention(inputs, inputs))
        return self.second(attended + self.feed(attended))


def sequential(kind: type[keras.Sequential] = keras.Sequential) -> keras.Model:
    return kind(
        [
            keras.Input((4,)),
            layers.Dense(3, "relu", name="hidden"),
            layers.Dropout(0.4, name="drop"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(1),
        ]
    )


def nested() -> keras.Model:
    a = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="x"), layers.Dense(4, name="y")], name="a")
    b = keras.Sequential([keras.Input((4,)), a, layers.Dense(4, name="z")], name="b")
    given = keras.Input((4,))
    c = keras.Model(given, layers.Dense(2, name="q")(b(given)), name="c")
    return keras.Sequential([keras.Input((4,)), c, layers.Dense(1)])


def shared() -> keras.Model:
    given, dense = keras.Input((4,)), layers.Dense(4, name="d")
    return keras.Model(given, layers.Dense(1)(dense(dense(dense(given)))))


def named_ends() -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    both = layers.Concatenate(name="both")([a, b])
    ends = {"p": layers.Dense(1, name="to_p")(both), "q": layers.Dense(1, name="to_q")(both)}
    return keras.Model({"a": a, "b": b}, ends)


def states() -> keras.Model:
    given = keras.Input((4, 1))
    _, h, c = layers.LSTM(3, return_sequences=True, return_state=True, name="lstm")(given)
    return keras.Model(given, layers.Dense(1)(layers.Concatenate(name="both")([h, c])))


def masked() -> keras.Model:
    embed = layers.Embedding(9, 3, mask_zero=True, name="embed")
    return keras.Sequential([keras.Input((None,), dtype="int32"), embed, layers.LSTM(2, name="lstm"), layers.Dense(1)])


def transformer() -> keras.Model:
    given = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(9, 8, name="embed")(given)
    pooled = layers.GlobalAveragePooling1D(name="mean")(Block(name="block")(embedded))
    return keras.Model(given, layers.Dense(1)(pooled))


def of_policy(policy: str) -> Callable[[], keras.Model]:
    def make() -> keras.Model:
        parts = [layers.Dense(3, name="hidden", dtype=policy), layers.BatchNormalization(name="norm", dtype=policy)]
        return keras.Sequential([keras.Input((4,)), *parts, layers.Dense(1, dtype="float32")])

    return make


_INNER = ["wide", "narrow"]
_PLAIN = ["hidden", "drop", "norm", "prediction"]
CASES = {
    "sequential": Case(sequential, _PLAIN, compiled={"optimizer": "adam"}),
    "nested to three levels": Case(nested, ["c/b/a/x", "c/b/a/y", "c/b/z", "c/q", "prediction"]),
    "subclassed, nested to three levels": Case(
        Outer,
        [*(f"middle/{side}/{name}" for side in ("left", "right") for name in _INNER), "middle", "prediction"],
    ),
    "a layer shared by three calls": Case(shared, ["d", "d:1", "d:2", "prediction"]),
    "dicts of inputs and outputs": Case(
        named_ends, ["both", "prediction/p", "prediction/q"], {"a": X, "b": -X}, {"p": Y, "q": -Y}
    ),
    "a tuple of outputs": Case(
        TwoHeads, ["body", "prediction/0", "prediction/1"], X, (Y, np.tile(Y, 2)), {"loss": ["mse", "mse"]}
    ),
    "an LSTM with its states": Case(states, ["lstm/0", "lstm/1", "lstm/2", "both", "prediction"], X[..., None]),
    "attention with its scores": Case(Attending, ["attention/0", "attention/1", "prediction"], X[..., None]),
    "masked sequences of any length": Case(masked, ["embed", "lstm", "prediction"], IDS),
    "a Transformer": Case(
        transformer,
        [
            *("embed", "block/attention", "block/first", "block/feed/up", "block/feed/down", "block/second"),
            *("mean", "prediction"),
        ],
        IDS,
        compiled={"optimizer": "adam"},
    ),
    "mixed_bfloat16": Case(of_policy("mixed_bfloat16"), ["hidden", "norm", "prediction"], tolerance=0.05),
    "mixed_float16": Case(of_policy("mixed_float16"), ["hidden", "norm", "prediction"], tolerance=0.05),
    "a train_step of its own": Case(lambda: sequential(OwnStep), _PLAIN),
    "jit_compile": Case(sequential, _PLAIN, compiled={"jit_compile": True}),
    "steps_per_execution": Case(sequential, _PLAIN, compiled={"steps_per_execution": 3}),
    "run_eagerly": Case(sequential, _PLAIN, compiled={"run_eagerly": True}),
}
