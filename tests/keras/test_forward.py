from __future__ import annotations

import keras
import numpy as np
import pytest

from mistique.errors import CaptureError
from mistique.keras.recorder import Output, record_batch
from mistique.keras.tensors import as_tensors


def outputs_of(net: keras.Model, x: object, **options: object) -> dict[str, Output]:
    return {output.names[0]: output for output in record_batch(net, as_tensors(x), **options).outputs}


class Counting(keras.layers.Layer):
    """Counts in Python, where nothing puts it back."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.n_rows_seen = 0

    def call(self, inputs: object) -> object:
        self.n_rows_seen += int(inputs.shape[0])
        return inputs * 2.0


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.d1 = keras.layers.Dense(3, "relu")
        self.blocks = [keras.layers.Dense(3), keras.layers.Dense(2, name="named")]

    def call(self, inputs: object) -> object:
        return self.blocks[1](self.blocks[0](self.d1(inputs)) * 2.0) + 1.0


class Raising(keras.layers.Layer):
    def call(self, inputs: object) -> object:
        raise ValueError("this layer never works")


def test_sequential_without_an_input_gives_each_layer(rows: np.ndarray) -> None:
    net = keras.Sequential([keras.layers.Dense(3, "relu", name="a"), keras.layers.Dense(2, name="b")])
    found = outputs_of(net, rows)
    a, b = net.layers
    hidden = np.maximum(rows @ np.asarray(a.kernel.value) + np.asarray(a.bias.value), 0)
    assert list(found) == ["input", "a", "prediction"]
    np.testing.assert_allclose(found["a"].values(), hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found["prediction"].values(),
        hidden @ np.asarray(b.kernel.value) + np.asarray(b.bias.value),
        rtol=1e-5,
        atol=1e-6,
    )
    assert found["prediction"].names == ["prediction", "b"]


def test_a_functional_graph_gives_nested_shared_and_plain_operations_with_their_parents(
    branched: keras.Model, rows: np.ndarray
) -> None:
    found = outputs_of(branched, rows)
    parents = {name: output.parents for name, output in found.items()}
    assert parents == {
        "input": frozenset(),
        "inner/one": {"input"},
        "inner/two": {"inner/one"},
        "shared": {"inner/two"},
        "shared:1": {"shared"},
        "add": {"shared", "shared:1"},
        "norm": {"add"},
        "drop": {"norm"},
        "prediction": {"drop"},
    }
    assert found["inner/two"].names == ["inner/two", "inner"]


def test_values_are_those_of_calling_the_layers_by_hand(branched: keras.Model, rows: np.ndarray) -> None:
    found = outputs_of(branched, rows)
    inner, shared = branched.get_layer("inner"), branched.get_layer("shared")
    by_hand = shared(shared(inner(rows)))
    assert np.array_equal(found["shared:1"].values(), np.asarray(by_hand))
    assert np.array_equal(found["prediction"].values(), np.asarray(branched(rows, training=False)))


def test_a_subclassed_models_layers_are_filed_under_their_attributes_and_answer_to_their_names(
    rows: np.ndarray,
) -> None:
    net = Subclassed()
    found = outputs_of(net, rows)
    assert list(found) == ["input", "d1", "blocks_0", "named", "prediction"]
    assert net.d1.name in found["d1"].names
    assert np.array_equal(found["d1"].values(), np.asarray(net.d1(rows)))


def test_the_origin_of_what_passed_a_raw_operation_is_not_known(rows: np.ndarray) -> None:
    found = outputs_of(Subclassed(), rows)
    assert found["blocks_0"].parents == {"d1"}
    assert found["named"].parents is None
    assert found["prediction"].parents is None


def test_a_layer_with_several_outputs_gives_an_intermediate_each() -> None:
    given = keras.Input((5, 2))
    sequence, h, c = keras.layers.LSTM(3, return_sequences=True, return_state=True, name="lstm")(given)
    net = keras.Model(given, keras.layers.Dense(1, name="score")(keras.ops.add(h, c)))
    x = np.random.default_rng(0).normal(size=(6, 5, 2)).astype("float32")
    found = outputs_of(net, x)
    assert [found[f"lstm/{i}"].tensor.shape for i in range(3)] == [(6, 5, 3), (6, 3), (6, 3)]
    assert found["add"].parents == {"lstm/1", "lstm/2"}
    assert sequence.shape == (None, 5, 3)


def test_dict_outputs_keep_their_keys(rows: np.ndarray) -> None:
    given = keras.Input((4,))
    heads = {"a": keras.layers.Dense(1, name="one")(given), "b": keras.layers.Dense(2, name="two")(given)}
    found = outputs_of(keras.Model(given, heads), rows)
    assert found["prediction/a"].names == ["prediction/a", "one"]
    assert found["prediction/b"].tensor.shape == (25, 2)


def test_several_inputs_are_numbered_or_keyed(rows: np.ndarray) -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    joined = keras.layers.Add(name="joined")([left, right])
    listed = keras.Model([left, right], joined)
    keyed = keras.Model({"left": left, "right": right}, joined)
    assert outputs_of(listed, [rows, rows])["prediction"].parents == {"input/0", "input/1"}
    assert outputs_of(keyed, {"left": rows, "right": rows})["prediction"].parents == {
        "input/left",
        "input/right",
    }


def test_a_layer_with_a_reserved_name_gets_an_underscore(rows: np.ndarray) -> None:
    net = keras.Sequential([keras.layers.Dense(3, name="target"), keras.layers.Dense(1, name="last")])
    assert "target_" in outputs_of(net, rows)


def test_layers_after_the_last_one_wanted_are_not_computed(rows: np.ndarray) -> None:
    early, late = Counting(name="early"), Counting(name="late")
    net = keras.Sequential([early, keras.layers.Dense(3, name="dense"), late])
    net(rows)
    before = late.n_rows_seen
    found = outputs_of(net, rows, wanted=["dense"])
    assert list(found) == ["input", "dense"]
    assert found["dense"].parents == {"input"}
    assert late.n_rows_seen == before


def test_the_output_alone_can_be_wanted_by_either_name(rows: np.ndarray) -> None:
    net = keras.Sequential([keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])
    assert list(outputs_of(net, rows, wanted=["b"])) == ["input", "prediction"]
    assert list(outputs_of(net, rows, wanted=["prediction"])) == ["input", "prediction"]


def test_an_unknown_layer_is_named_with_the_nearest(branched: keras.Model, rows: np.ndarray) -> None:
    with pytest.raises(CaptureError, match=r"no layer 'inner/on'; nearest: inner/one"):
        outputs_of(branched, rows, wanted=["inner/on"])


def test_hooks_are_gone_afterwards_even_after_an_exception(branched: keras.Model, rows: np.ndarray) -> None:
    broken = keras.Sequential([keras.layers.Dense(3), Raising()])
    for net, fails in ((branched, False), (broken, True)):
        layers = [net, *net._flatten_layers(include_self=False)]
        if fails:
            net.layers[0](rows)
        attributes = [set(layer.__dict__) for layer in layers]
        if fails:
            with pytest.raises(ValueError, match="never works"):
                outputs_of(net, rows)
        else:
            outputs_of(net, rows, wanted=["shared"])
        assert [set(layer.__dict__) & {"call", "quantized_call"} for layer in layers] == [set()] * len(layers)
        assert [layer.__dict__.keys() >= before for layer, before in zip(layers, attributes, strict=True)]


def test_a_mask_counts_among_what_a_layer_is_computed_from() -> None:
    class Masked(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embed = keras.layers.Embedding(5, 3, mask_zero=True)
            self.lstm = keras.layers.LSTM(2)

        def call(self, inputs: object) -> object:
            return self.lstm(self.embed(inputs))

    found = outputs_of(Masked(), np.array([[1, 2, 0, 0], [1, 2, 3, 4]]))
    assert found["embed"].parents == {"input"}
    assert found["prediction"].parents is None


def test_mixed_precision_keeps_the_values_and_finds_the_parents_through_the_casts(rows: np.ndarray) -> None:
    first = keras.layers.Dense(3, dtype="mixed_bfloat16", name="first")
    net = keras.Sequential([first, keras.layers.Dense(2, name="last")])
    found = outputs_of(net, rows)
    assert found["first"].values().dtype.name == "bfloat16"
    assert (found["first"].parents, found["prediction"].parents) == ({"input"}, {"first"})


def test_an_output_without_a_row_for_each_row_is_left_out(rows: np.ndarray) -> None:
    class Table(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return keras.ops.ones((3, 4))

    given = keras.Input((4,))
    net = keras.Model(given, keras.layers.Dense(2, name="d")(given) + keras.ops.sum(Table(name="table")(given)))
    recording = record_batch(net, as_tensors(rows))
    assert recording.without_rows == ["table", "sum"]
    assert recording.outputs[-1].names[0] == "prediction"
