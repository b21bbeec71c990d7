"""What people have, at its real size or in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.keras import MistiqueCallback, capture

if TYPE_CHECKING:
    from mistique.store import Store

pytestmark = pytest.mark.slow
PAGES = sorted((Path(__file__).parents[2] / "docs" / "adr").glob("0*.md"))


def run(script: str, *arguments: str) -> str:
    """What a script prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


MIRRORED = """
import sys, keras, numpy as np, tensorflow as tf
import mistique
from mistique.keras import MistiqueCallback
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x, y = np.random.default_rng(0).normal(size=(2, 40, 4)).astype("float32")
store = mistique.open(sys.argv[1])

def make():
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(4)])
    net.compile("adam", "mse")
    return net

ends = []
watch = MistiqueCallback(store, x, y, model="m", codec="raw", batch_size=16, on_error="raise")
for callbacks in ([], [watch]):
    with strategy.scope():
        net = make()
    history = net.fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=callbacks).history
    ends.append((history, net.get_weights()))
assert ends[0][0] == ends[1][0] and all(map(np.array_equal, ends[0][1], ends[1][1]))
assert watch.captured == ["m@1.1", "m@1.2"]
plain = make()
plain.set_weights(ends[1][1])
other = mistique.open(sys.argv[1] + "-plain")
mistique.keras.capture(plain, x, y, store=other, model="m", dataset="valid", codec="raw", batch_size=16)
for name in ("input", "h", "prediction", "target"):
    one = mistique.get(store, f"m@1.2/valid/{name}").to_numpy()
    assert len(one) == 40 and np.array_equal(one, mistique.get(other, f"m@1/valid/{name}").to_numpy()), name
print("equal")
"""


@pytest.mark.supported("`MirroredStrategy`", "each row once")
@pytest.mark.tensorflow
def test_under_a_mirrored_strategy_each_row_comes_once_and_as_without_it(tmp_path: Path) -> None:
    # Symptom: tensorflow issue 25569, a callback that sees the wrong model.
    assert run(MIRRORED, str(tmp_path / "s")).strip() == "equal"


EPOCHS = """
import gc, sys, keras, numpy as np
import mistique
from mistique.keras import MistiqueCallback

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

x, y = np.zeros((256, 64), "float32"), np.zeros((256, 1), "float32")
hidden = [keras.layers.Dense(512, "relu") for _ in range(2)]
net = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(1)])
net.compile("sgd", "mse")
store, at = mistique.open(sys.argv[1]), {}

def note(epoch, logs):
    if epoch in (9, 99):
        gc.collect()
        at[epoch] = resident()

watch = MistiqueCallback(store, x, y, model="m", batch_size=256, on_error="raise")
measure = keras.callbacks.LambdaCallback(on_epoch_end=note)
net.fit(x, y, epochs=100, batch_size=256, verbose=0, callbacks=[watch, measure])
assert len(watch.captured) == 100
print(at[99] - at[9])
"""


@pytest.mark.supported("a hundred epochs", "memory does not grow")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux' /proc")
def test_a_hundred_epochs_take_the_memory_of_ten(tmp_path: Path) -> None:
    # One epoch's outputs are 1.1 MB: ninety that were held would be 95 MB.
    assert int(run(EPOCHS, str(tmp_path / "s"))) < 48 * 1024 * 1024


@pytest.mark.supported("VGG16, ResNet50, EfficientNetB0, MobileNetV3", "every layer")
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("VGG16", "block3_conv2"),
        ("ResNet50", "conv3_block2_add"),
        ("EfficientNetB0", "block4a_se_excite"),
        ("MobileNetV3Small", "expanded_conv_depthwise"),
    ],
)
def test_applications_give_every_layer(store: Store, name: str, layer: str) -> None:
    options = {"weights": None, "include_top": False, "pooling": "avg", "input_shape": (32, 32, 3)}
    net = getattr(keras.applications, name)(**options)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    capture(net, x, store=store, model="m", dataset="d", codec="raw")
    captured = store.catalog.find("m@1/d/input")[0].intermediates
    names = {name for node in captured.values() for name in (node.name, *node.aliases)}
    expected = {each.name for each in net.layers if not isinstance(each, keras.layers.InputLayer)}
    assert expected <= names
    known = keras.Model(net.input, [net.get_layer(layer).output, net.output])
    for key, values in zip((layer, "prediction"), known(x, training=False), strict=True):
        found = mistique.get(store, f"m@1/d/{key}").to_numpy().reshape(values.shape)
        np.testing.assert_allclose(found, np.asarray(values), rtol=1e-3, atol=1e-5)


def lines_of_text() -> tuple[np.ndarray, np.ndarray]:
    """The sentences of the decision records: words by their rank in frequency, and which half of the pages it is."""
    texts = [(line, half) for half, page in enumerate(PAGES) for line in page.read_text().split(". ") if len(line) > 20]
    words = [line.lower().split() for line, _ in texts]
    counted = Counter(word for line in words for word in line)
    number = {word: n for n, (word, _) in enumerate(counted.most_common(500), start=2)}
    ids = np.zeros((len(words), 40), "int32")
    for row, line in enumerate(words):
        ids[row, : len(line)] = [number.get(word, 1) for word in line[:40]]
    return ids, np.array([half >= len(PAGES) // 2 for _, half in texts], "float32")


@pytest.mark.supported("a Transformer, an LSTM, on real text")
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_text_models_on_real_text_end_in_the_same_bits(store: Store, kind: str) -> None:
    from tests.keras.networks import Block

    ids, halves = lines_of_text()
    ids, halves = ids[:300], halves[:300]
    ends = []
    watch = MistiqueCallback(store, ids, halves, model="m", n_rows=50, stratify=True, batch_size=32, on_error="raise")
    for callbacks in ([], [watch]):
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        middle = [keras.layers.LSTM(8, name="middle")]
        if kind == "transformer":
            middle = [Block(name="middle"), keras.layers.GlobalAveragePooling1D()]
        embed = keras.layers.Embedding(502, 8, mask_zero=kind == "lstm", name="embed")
        net = keras.Sequential([keras.Input((40,), dtype="int32"), embed, *middle, keras.layers.Dense(1, "sigmoid")])
        net.compile("adam", "binary_crossentropy")
        history = net.fit(ids, halves, epochs=2, verbose=0, callbacks=callbacks).history
        ends.append((history, net.get_weights()))
    assert ends[0][0] == ends[1][0]
    assert all(map(np.array_equal, ends[0][1], ends[1][1]))
    rows = mistique.get(store, "m@1.2/valid/prediction").to_frame()
    assert len(rows) == 50
    expected = net.predict(ids[rows.index], verbose=0)
    np.testing.assert_allclose(rows.to_numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.supported("MLflow's autolog", "logs as without us")
@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")  # MLflow's libraries have deprecations of their own
def test_mlflows_autolog_logs_the_same_run_beside_ours(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)  # MLflow writes beside the runs as well
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    mlflow.keras.autolog(log_models=False, log_datasets=False)
    try:
        x, y = np.random.default_rng(0).normal(size=(2, 20, 4)).astype("float32")
        net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(4)])
        net.compile("adam", "mse")
        watch = MistiqueCallback(store, x, y, model="m", on_error="raise")
        with mlflow.start_run() as run_of:
            history = net.fit(x, y, epochs=2, verbose=0, callbacks=[watch]).history
        logged = mlflow.MlflowClient().get_metric_history(run_of.info.run_id, "loss")
        assert [metric.value for metric in logged] == pytest.approx(history["loss"])
        assert watch.captured == ["m@1.1", "m@1.2"]
    finally:
        mlflow.keras.autolog(disable=True)


@pytest.mark.supported("Weights & Biases' callback", "logs as without us, its run can be linked")
@pytest.mark.filterwarnings("ignore")  # and so have those of Weights & Biases
def test_wandbs_callback_logs_the_same_run_beside_ours_and_its_run_can_be_linked(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.chdir(tmp_path)
    wandb = pytest.importorskip("wandb")
    logger = pytest.importorskip("wandb.integration.keras").WandbMetricsLogger
    x, y = np.random.default_rng(0).normal(size=(2, 20, 4)).astype("float32")

    def trained(*callbacks: keras.callbacks.Callback) -> tuple[dict[str, list[float]], list[np.ndarray]]:
        keras.utils.set_random_seed(1)
        net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(4)])
        net.compile("adam", "mse")
        return net.fit(x, y, epochs=2, verbose=0, callbacks=list(callbacks)).history, net.get_weights()

    watch = MistiqueCallback(store, x, y, model="m", on_error="raise")
    try:
        with wandb.init(project="drop-in", mode="offline", dir=tmp_path) as run_of:
            history, weights = trained(logger(), watch)
            logged = dict(run_of.summary)
    finally:
        wandb.teardown()
    plain_history, plain_weights = trained()
    assert history == plain_history
    assert all(map(np.array_equal, weights, plain_weights))
    assert logged["epoch/loss"] == pytest.approx(history["loss"][-1])
    store.link(watch.captured[-1], wandb=run_of.path)
    assert [one.about.links for one in store.models()] == [{}, {"wandb": f"drop-in/{run_of.id}"}]
