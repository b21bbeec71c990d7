from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique.keras
from mistique.errors import ModelMismatchError, UntrustedArtifactError
from mistique.keras.artifact import artifact_of
from mistique.keras.recomputer import recomputer
from mistique.planner.measured import Took
from mistique.planner.recomputer import SETUP
from mistique.storage.artifacts import Artifact

if TYPE_CHECKING:
    from mistique.store import Store

Stored = Callable[[str], np.ndarray]


@keras.saving.register_keras_serializable("mistique_tests")
class Drawing(keras.layers.Layer):
    """Draws in inference, from a seed of its own."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(5)

    def call(self, inputs: object) -> object:
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seed_generator)


@keras.saving.register_keras_serializable("mistique_tests")
class Nested(keras.Model):
    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(3, "relu")
        self.second = keras.layers.Dense(2)

    def call(self, inputs: object) -> object:
        return self.second(self.first(inputs))


@keras.saving.register_keras_serializable("mistique_tests")
class Listing(keras.Model):
    """Layers in lists within lists, without names of their own in a Sequential, and in a private attribute."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.blocks = [[keras.layers.Dense(3), keras.layers.Dense(4)] for _ in range(2)]
        self.body = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(4)])
        self._head = keras.layers.Dense(2)

    def call(self, inputs: object) -> object:
        for first, second in self.blocks:
            inputs = second(first(inputs))
        return self._head(self.body(inputs))


def recompute(store: Store, key: str, *sources: str, stored: Stored) -> tuple[np.ndarray, dict[str, float]]:
    capture, target = store.catalog.find(key)
    model = store.runnable.get(capture.version, took=Took(), calibration=store.calibration)
    return recomputer.run(
        model,
        sources={name: stored(f"{capture.prefix}/{name}") for name in sources},
        target=target.name,
        intermediates=capture.intermediates,
        batch_rows=capture.version.batch_rows,
        environment=capture.version.environment,
    )


def test_every_layer_recomputed_from_the_input_is_bit_equal(
    store: Store, branched: keras.Model, rows: np.ndarray, stored: Stored
) -> None:
    mistique.keras.capture(branched, rows, store=store, codec="raw", model="m", dataset="d", batch_size=10)
    capture, _ = store.catalog.find("m@1/d/input")
    names = [name for name, node in capture.intermediates.items() if node.role in ("stage", "prediction")]
    assert len(names) == 8
    for name in names:
        found, _ = recompute(store, f"m@1/d/{name}", "input", stored=stored)
        assert np.array_equal(found, stored(f"m@1/d/{name}")), name


def test_layers_of_a_class_of_ones_own_are_found_again_in_the_model_that_it_makes_when_loaded(
    store: Store, rows: np.ndarray, stored: Stored
) -> None:
    mistique.keras.capture(Listing(), rows, store=store, codec="raw", model="m", dataset="d", batch_size=10)
    captured = store.catalog.find("m@1/d/_head")[0].intermediates
    places = ["blocks_0_0", "blocks_0_1", "blocks_1_0", "blocks_1_1"]
    # Keras goes on counting: the loaded model's are others.
    names = [*places, "body/dense_4", "body/dense_5", "prediction"]
    assert list(captured) == ["input", *names]
    for name in names:
        found, _ = recompute(store, f"m@1/d/{name}", "input", stored=stored)
        assert np.array_equal(found, stored(f"m@1/d/{name}")), name


@pytest.mark.parametrize(
    ("target", "sources", "ran"),
    [
        ("prediction", ["shared", "shared:1"], {"add", "norm", "drop", "prediction"}),
        ("prediction", ["norm"], {"drop", "prediction"}),
        ("score", ["drop"], {"prediction"}),
        ("shared:1", ["inner/two"], {"shared", "shared:1"}),
        ("inner/two", ["inner/one"], {"inner/two"}),
        ("add", ["inner/one"], {"inner/two", "shared", "shared:1", "add"}),
    ],
)
def test_from_stored_ancestors_only_what_lies_between_runs_and_is_bit_equal(
    store: Store,
    branched: keras.Model,
    rows: np.ndarray,
    stored: Stored,
    target: str,
    sources: list[str],
    ran: set[str],
) -> None:
    mistique.keras.capture(branched, rows, store=store, codec="raw", model="m", dataset="d", batch_size=10)
    found, seconds = recompute(store, f"m@1/d/{target}", *sources, stored=stored)
    assert np.array_equal(found, stored(f"m@1/d/{target}"))
    assert set(seconds) - {SETUP} == ran


def test_a_layer_that_was_declared_only_is_answered_as_if_it_were_stored(
    store: Store, branched: keras.Model, rows: np.ndarray, stored: Stored
) -> None:
    mistique.keras.capture(branched, rows, store=store, codec="raw", model="all", dataset="d", batch_size=10)
    mistique.keras.capture(
        branched, rows, store=store, codec="raw", model="none", dataset="d", batch_size=10, keep="none"
    )
    capture, _ = store.catalog.find("none@1/d/norm")
    assert "norm" not in capture.stored
    assert np.array_equal(stored("none@1/d/norm"), stored("all@1/d/norm"))


def test_a_masked_sequence_is_bit_equal_from_what_it_says_are_its_parents(store: Store, stored: Stored) -> None:
    given = keras.Input((4,), dtype="int32")
    hidden = keras.layers.Embedding(6, 3, mask_zero=True, name="embed")(given)
    net = keras.Model(given, keras.layers.Dense(1, name="score")(keras.layers.LSTM(2, name="lstm")(hidden)))
    x = np.array([[1, 2, 0, 0], [1, 2, 3, 4], [5, 0, 0, 0]] * 4)
    mistique.keras.capture(net, x, store=store, codec="raw", model="m", dataset="d", batch_size=5)
    _, lstm = store.catalog.find("m@1/d/lstm")
    sources = [["input"], *([list(lstm.parents)] if lstm.parents else [])]
    for names in sources:
        found, _ = recompute(store, "m@1/d/lstm", *names, stored=stored)
        assert np.array_equal(found, stored("m@1/d/lstm")), names


def test_one_of_several_outputs_stands_in_for_its_layer(store: Store, stored: Stored) -> None:
    given = keras.Input((5, 2))
    _, h, c = keras.layers.LSTM(3, return_sequences=True, return_state=True, name="lstm")(given)
    net = keras.Model(given, keras.layers.Dense(1, name="score")(keras.ops.add(h, c)))
    x = np.random.default_rng(0).normal(size=(8, 5, 2)).astype("float32")
    mistique.keras.capture(net, x, store=store, codec="raw", model="m", dataset="d")
    found, _ = recompute(store, "m@1/d/score", "lstm/1", "lstm/2", stored=stored)
    assert np.array_equal(found, stored("m@1/d/score"))


def test_several_inputs_are_put_together_again(store: Store, rows: np.ndarray, stored: Stored) -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    out = keras.layers.Dense(2, name="score")(keras.layers.Concatenate(name="both")([left, right]))
    for model, net, x in (
        ("listed", keras.Model([left, right], out), [rows, rows * 2]),
        ("keyed", keras.Model({"left": left, "right": right}, out), {"left": rows, "right": rows * 2}),
    ):
        mistique.keras.capture(net, x, store=store, codec="raw", model=model, dataset="d")
        inputs = [n for n, i in store.catalog.find(f"{model}@1/d/both")[0].intermediates.items() if i.role == "input"]
        found, _ = recompute(store, f"{model}@1/d/both", *inputs, stored=stored)
        assert np.array_equal(found, np.concatenate([rows, rows * 2], axis=1))


def test_a_subclassed_model_is_found_again_by_its_attributes(store: Store, rows: np.ndarray, stored: Stored) -> None:
    mistique.keras.capture(Nested(), rows, store=store, codec="raw", model="m", dataset="d")
    found, _ = recompute(store, "m@1/d/first", "input", stored=stored)
    assert np.array_equal(found, stored("m@1/d/first"))


def test_a_layer_that_draws_from_its_own_seed_is_bit_equal_in_any_block(
    store: Store, rows: np.ndarray, stored: Stored
) -> None:
    net = keras.Sequential([keras.layers.Dense(3, name="d"), Drawing(name="draw"), keras.layers.Dense(1)])
    mistique.keras.capture(net, rows, store=store, codec="raw", model="m", dataset="d", batch_size=10)
    capture, _ = store.catalog.find("m@1/d/draw")
    model = store.runnable.get(capture.version, took=Took(), calibration=store.calibration)
    found, _ = recomputer.run(
        model,
        sources={"input": rows[10:20]},
        target="draw",
        intermediates=capture.intermediates,
        batch_rows=10,
        environment=capture.version.environment,
    )
    assert np.array_equal(found, stored("m@1/d/draw")[10:20])


@pytest.mark.tensorflow  # JAX refuses such a layer itself
def test_a_layer_that_draws_without_a_seed_is_stored_and_says_why(store: Store, rows: np.ndarray) -> None:
    class Unseeded(keras.layers.Layer):
        def call(self, inputs: object) -> object:
            return inputs + keras.random.normal(keras.ops.shape(inputs))

    net = keras.Sequential([keras.layers.Dense(3, name="d"), Unseeded(name="draw")])
    mistique.keras.capture(net, rows, store=store, codec="raw", model="m", dataset="d", keep="none")
    capture, dense = store.catalog.find("m@1/d/d")
    assert "d" in capture.stored
    assert dense.recompute_difference is None


def test_sources_that_do_not_fit_are_refused(store: Store, branched: keras.Model, rows: np.ndarray) -> None:
    mistique.keras.capture(branched, rows, store=store, codec="raw", model="m", dataset="d")
    capture, _ = store.catalog.find("m@1/d/norm")
    model = store.runnable.get(capture.version, took=Took(), calibration=store.calibration)
    shared = {"target": "norm", "intermediates": capture.intermediates, "batch_rows": 10}
    with pytest.raises(ModelMismatchError, match=r"\(4,\)"):
        recomputer.run(model, sources={"input": rows[:, :2]}, **shared)
    with pytest.raises(ModelMismatchError, match="computed from alone"):
        recomputer.run(model, sources={"shared:1": rows}, **shared)


def hostile(tmp_path: Path) -> tuple[Artifact, Path]:
    """A model whose Lambda makes a file."""
    marker = tmp_path / "marker"
    source = f"lambda x: (open({str(marker)!r}, 'w'), x)[1]"
    net = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(eval(source), output_shape=(4,), name="evil")])
    return artifact_of(net), marker


def changed(artifact: Artifact, change: Callable[[dict], object]) -> Artifact:
    with zipfile.ZipFile(io.BytesIO(artifact.payload)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    payload = io.BytesIO()
    with zipfile.ZipFile(payload, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return Artifact("keras", payload.getvalue())


def test_a_strangers_lambda_is_named_and_not_run(tmp_path: Path) -> None:
    artifact, marker = hostile(tmp_path)
    marker.unlink(missing_ok=True)
    with pytest.raises(UntrustedArtifactError, match="Lambda"):
        recomputer.load(artifact, model="m", trust=False)
    assert not marker.exists()


def test_what_this_user_signed_or_trusts_is_loaded(tmp_path: Path) -> None:
    artifact, _ = hostile(tmp_path)
    signed = Artifact(artifact.kind, artifact.payload, is_signed=True)
    assert recomputer.load(signed, model="m", trust=False).layers[0].name == "evil"
    assert recomputer.load(artifact, model="m", trust=True).layers[0].name == "evil"
    with pytest.raises(UntrustedArtifactError):
        recomputer.load(artifact, model="m", trust=["keras.layers.Lambda"])
    trusted = recomputer.load(artifact, model="m", trust=["keras.layers.Lambda", "__lambda__"])
    assert trusted.layers[0].name == "evil"


def test_a_strangers_ordinary_network_loads_without_trust(branched: keras.Model, rows: np.ndarray) -> None:
    loaded = recomputer.load(artifact_of(branched), model="m", trust=False)
    assert np.array_equal(np.asarray(loaded(rows)), np.asarray(branched(rows)))


def test_a_custom_layer_is_named(rows: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((4,)), Drawing()])
    with pytest.raises(UntrustedArtifactError, match="mistique_tests>Drawing"):
        recomputer.load(artifact_of(net), model="m", trust=False)
    assert recomputer.load(artifact_of(net), model="m", trust=["mistique_tests>Drawing"]).layers


@pytest.mark.parametrize(
    "planted",
    [
        {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
        {"module": "builtins", "class_name": "function", "config": "get_file"},
        {"module": "keras.utils", "class_name": "get_file", "config": {}},
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}},
        {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": "Custom>Dense"},
        {"module": "keras.layers.evil", "class_name": "Dense", "config": {}},
        {"class_name": "__typespec__", "module": "os", "spec_name": "system", "config": []},
        {"class_name": "Dense", "config": {}},
    ],
)
def test_what_known_attacks_plant_in_a_config_is_refused_before_keras_sees_it(planted: dict) -> None:
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    def plant(config: dict) -> None:
        config["config"]["layers"][1]["config"]["activation"] = planted

    with pytest.raises(UntrustedArtifactError):
        recomputer.load(changed(artifact_of(net), plant), model="m", trust=False)


@pytest.mark.parametrize("config", [b"[" * 100_000, b'{"a":' * 400 + b"1" + b"}" * 400, b"[]", b"\xff"])
def test_a_config_that_makes_no_sense_is_refused_before_keras_sees_it(config: bytes) -> None:
    payload = io.BytesIO()
    with zipfile.ZipFile(payload, "w") as file:
        file.writestr("config.json", config)
    with pytest.raises((UntrustedArtifactError, ModelMismatchError)):
        recomputer.load(Artifact("keras", payload.getvalue()), model="m", trust=False)


@pytest.mark.parametrize("payload", [b"", b"\x89HDF\r\n\x1a\n" + b"\0" * 64])
def test_what_is_no_keras_file_is_refused(payload: bytes) -> None:
    with pytest.raises(ModelMismatchError, match=r"\.keras file"):
        recomputer.load(Artifact("keras", payload), model="m", trust=False)
    with pytest.raises(ModelMismatchError, match="cloudpickle"):
        recomputer.load(Artifact("cloudpickle", payload), model="m", trust=True)
