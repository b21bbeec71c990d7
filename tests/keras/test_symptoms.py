"""What users of other tools ran into, line by line: each test names the thread and the symptom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.errors import CaptureWarning
from mistique.keras import MistiqueCallback, capture

if TYPE_CHECKING:
    from mistique.store import Store

layers = keras.layers


def values(store: Store, key: str) -> np.ndarray:
    return mistique.get(store, key).to_numpy()


def by_hand(layer: keras.Layer, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(x))


def test_a_layer_of_a_subclassed_model_has_no_output_and_is_captured(store: Store, rows: np.ndarray) -> None:
    # keras 18634, tensorflow 46605 and 41009: no capture model can be built.
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.d1, self.d2 = layers.Dense(3), layers.Dense(2)
            self.table = layers.Embedding(7, 3)

        def call(self, inputs: object) -> object:
            return self.d2(self.d1(inputs) + keras.ops.mean(self.table(keras.ops.arange(7)), axis=0))

    net = Net()
    with pytest.warns(CaptureWarning, match="no row for each row of input: table"):
        capture(net, rows, store=store, model="m", dataset="d", codec="raw")
    assert np.array_equal(values(store, "m@1/d/d1"), by_hand(net.d1, rows))
    expected = by_hand(net.d2, values(store, "m@1/d/d1") + by_hand(net.table, np.arange(7)).mean(axis=0))
    np.testing.assert_allclose(values(store, "m@1/d/prediction"), expected, rtol=1e-5, atol=1e-6)


def test_a_sequential_model_that_was_never_called_is_captured_before_and_after_it_is_loaded(
    store: Store, rows: np.ndarray, tmp_path: Path
) -> None:
    # keras 20116, keras-io 1903: "the layer has never been called".
    net = keras.Sequential([layers.Dense(3, name="a"), layers.Dense(1, name="b")])
    net.compile("sgd", "mse")
    watch = MistiqueCallback(store, rows, model="m", codec="raw", on_error="raise")
    net.fit(rows, np.ones(25), epochs=1, verbose=0, callbacks=[watch])
    net.save(tmp_path / "m.keras")
    capture(keras.models.load_model(tmp_path / "m.keras"), rows, store=store, model="n", dataset="d", codec="raw")
    for name in ("a", "b"):
        assert np.array_equal(values(store, f"m@1.1/valid/{name}"), values(store, f"n@1/d/{name}"))


@pytest.mark.supported("`TimeDistributed`", "its output; layers within it are not shown")
def test_a_nested_model_is_not_connected_to_the_inputs_and_is_captured_by_its_path(store: Store) -> None:
    # keract 134. Within TimeDistributed, which runs its layer step by step, the output of the whole is captured.
    x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype("float32")
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="dense_1"), layers.Dense(2, name="dense_2")], name="inner"
    )
    given = keras.Input((3, 4))
    steps = layers.TimeDistributed(inner, name="steps")(given)
    net = keras.Model(given, layers.Concatenate(name="both")([layers.Flatten()(steps), inner(given[:, 0])]))
    capture(net, x, store=store, model="m", dataset="d", codec="raw")
    first = by_hand(inner.layers[0], x[:, 0])
    np.testing.assert_allclose(values(store, "m@1/d/inner/dense_1"), first, rtol=1e-6)
    steps_by_hand = by_hand(inner, x.reshape(18, 4)).reshape(6, 3, 2)
    np.testing.assert_allclose(values(store, "m@1/d/steps").reshape(6, 3, 2), steps_by_hand, rtol=1e-5, atol=1e-6)


def test_stored_values_are_those_of_inference_and_say_so(store: Store, rows: np.ndarray) -> None:
    # keract 19: training or inference mode? One pass in training mode would also move the averages.
    net = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(name="norm"), layers.Dropout(0.5, name="drop")]
    )
    averages = [weight.copy() for weight in net.get_weights()]
    capture(net, rows, store=store, model="m", dataset="d", codec="raw")
    expected = keras.ops.convert_to_numpy(net(rows, training=False))
    np.testing.assert_allclose(values(store, "m@1/d/prediction"), expected, rtol=1e-6)
    assert store.catalog.find("m@1/d/norm")[0].version.environment["keras_mode"] == "inference"
    assert all(map(np.array_equal, averages, net.get_weights()))


def test_float16_that_overflows_is_stored_counted_and_first(store: Store) -> None:
    # keras pull 19091, crosslayer-coding 37, TransformerLens 104.
    x = np.ones((8, 2), "float32")
    x[[2, 5]] = 60_000
    net = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones", dtype="float16", name="h")])
    capture(net, x, store=store, model="m", dataset="d", codec="raw")
    assert np.isinf(values(store, "m@1/d/h")).ravel().tolist() == [False, False, True, False, False, True, False, False]
    assert set(mistique.topk(store, "m@1/d/h", unit=0, k=2).rows) == {2, 5}
    found = mistique.col_dist(store, "m@1/d/h")
    assert found.n_not_finite.tolist() == [2]
    assert found.values.sum() == 6


def test_the_histogram_of_a_layer_counts_each_of_its_values_after_each_epoch(store: Store, rows: np.ndarray) -> None:
    # tensorflow 42027, tf-keras 118, keras 6287: activation histograms vanished; "embedding" showed weights.
    ids = np.arange(24).reshape(12, 2) % 5
    net = keras.Sequential([keras.Input((2,), dtype="int32"), layers.Embedding(5, 3, name="embed"), layers.Flatten()])
    net.compile("sgd", "mse")
    watch = MistiqueCallback(store, ids, model="m", codec="raw", on_error="raise")
    net.fit(ids, np.ones((12, 6)), epochs=2, verbose=0, callbacks=[watch])
    for epoch in (1, 2):
        assert mistique.col_dist(store, f"m@1.{epoch}/valid/embed").values.sum() == 12 * 2 * 3
    table = net.get_layer("embed").get_weights()[0]
    assert np.array_equal(values(store, "m@1.2/valid/embed").reshape(12, 2, 3), table[ids])
    # ids repeat after five rows: the nearest outputs are those of the same ids.
    assert set(mistique.knn(store, "m@1.2/valid/embed", row=0, k=2).rows) == {5, 10}


def test_types_and_the_order_of_rows_are_those_of_the_capture_when_opened_again(store: Store, rows: np.ndarray) -> None:
    # SAELens 216, 277, 612: written float32, read float16; what came back was shuffled.
    net = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="h", dtype="bfloat16"), layers.Dense(1)])
    capture(net, rows, store=store, model="m", dataset="d", codec="raw", row_labels=np.arange(25)[::-1])
    store.close()
    again = mistique.open(store.uri, mode="r")
    found = mistique.get(again, "m@1/d/h")
    assert found.values.dtype.name == "bfloat16"
    assert list(mistique.get(again, "m@1/d/input").rows) == list(range(25))[::-1]
    assert np.array_equal(values(again, "m@1/d/input"), rows)


def test_one_layer_is_stored_and_the_ones_after_it_are_not_run_to_recompute_it(store: Store, rows: np.ndarray) -> None:
    # TransformerLens 746, AttentionLens 5, SAELens 245: caching all layers is the default; people want one.
    blocks = [layers.Dense(4, name=f"block{n}") for n in range(1, 6)]
    net = keras.Sequential([keras.Input((4,)), *blocks])
    capture(net, rows, store=store, model="m", dataset="d", layers=["block3"], keep="none")
    captured = store.catalog.find("m@1/d/block3")[0]
    assert set(captured.intermediates) == {"input", "block3"}
    expected = by_hand(keras.Sequential(blocks[:3]), rows)
    np.testing.assert_allclose(values(store, "m@1/d/block3"), expected, atol=1e-6)


MEMORY = """
import resource, sys, keras, numpy as np
import mistique, mistique.keras
# Quick to compute: each layer scales what came before, and half of it is zeros.
wide = [keras.layers.Rescaling(1 + n / 64, name=f"h{n}") for n in range(31)]
net = keras.Sequential([keras.Input((32,)), keras.layers.Dense(2048, "relu"), *wide])
x = np.random.default_rng(0).normal(size=(16384, 32)).astype("float32")
store = mistique.open(sys.argv[1], max_buffer_nbytes=32 * 2**20)
mistique.keras.capture(net, x[:256], store=store, model="warm", dataset="d", batch_size=128)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * 4096 + 900 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mistique.keras.capture(net, x, store=store, model="m", dataset="d", batch_size=128)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited, and memory told in KiB, on Linux")
def test_memory_is_that_of_blocks_and_not_of_the_capture(tmp_path: Path) -> None:
    # keract 47, thingsvision 74, lucid 224: everything is held in memory, then out of memory. Here 4.3 GB of outputs
    # where 0.9 GB more may be asked for.
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / "s"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 400 * 2**20


REPEATED = """
import gc, sys, keras, numpy as np
import mistique, mistique.keras

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def functions():
    return sum(type(each).__name__ == "ConcreteFunction" for each in gc.get_objects())

net = keras.Sequential([keras.Input((8,)), *(keras.layers.Dense(256, "relu") for _ in range(4))])
x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
store, at = mistique.open(sys.argv[1]), {}
for n in range(200):
    mistique.keras.capture(net, x, store=store, model="m", dataset=f"d{n}", keep="none", batch_size=256)
    if n in (1, 19, 199):
        gc.collect()
        at[n] = functions(), resident()
print(at[199][0] - at[1][0], at[199][1] - at[19][1])
"""


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from Linux' /proc")
def test_two_hundred_captures_of_one_network_trace_it_once_and_leave_no_outputs(tmp_path: Path) -> None:
    # keras 13118, tensorflow 44711 and 34579, keract 74, nnsight 396 and 538: each repeated pass takes time and memory.
    done = subprocess.run([sys.executable, "-c", REPEATED, tmp_path / "s"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    n_traced, grown = map(int, done.stdout.split())
    assert n_traced == 0
    # The outputs of one pass are 2 MB: 180 that were held would be 360 MB.
    assert grown < 64 * 2**20


KILLED = """
import os, signal, sys, keras, numpy as np
import mistique
from mistique.ingest.capture import Capture
from mistique.keras import MistiqueCallback
x = np.ones((40, 4), "float32")
net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(1)])
net.compile("sgd", "mse")
watch = MistiqueCallback(mistique.open(sys.argv[1]), x, model="m", on_error="raise")
appended = Capture.append

def kill(taken, name, values, **facts):
    if len(watch.captured) == 2 and name == "prediction" and len(values):
        os.kill(os.getpid(), signal.SIGKILL)
    appended(taken, name, values, **facts)

Capture.append = kill
net.fit(x, np.ones(40), epochs=5, verbose=0, callbacks=[watch])
"""


@pytest.mark.slow
def test_a_training_killed_in_its_third_epoch_leaves_two_whole_ones(tmp_path: Path) -> None:
    # delphi 38, torchlens 50: results only written at the end.
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "s"], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    store = mistique.open(tmp_path / "s")
    assert [captured.number for captured in store.catalog.captures()] == ["1.1", "1.2"]
    assert values(store, "m@1.2/valid/h").shape == (40, 3)
