"""What is JAX's own: run by `tox -e jax`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from mistique.errors import CaptureWarning
from mistique.keras import MistiqueCallback
from mistique.store import Store

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX itself is meant")


def test_gradients_are_refused_in_one_sentence_and_the_training_goes_on(store: Store, rows: np.ndarray) -> None:
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile("sgd", "mse")
    watch = MistiqueCallback(store, rows, np.ones(25), model="m", gradients=True)
    with pytest.warns(CaptureWarning, match="gradients: expected the backend tensorflow, got jax"):
        history = net.fit(rows, np.ones(25), epochs=2, verbose=0, callbacks=[watch]).history
    assert len(history["loss"]) == 2
    assert watch.captured == []


DISTRIBUTED = """
import sys, keras, numpy as np
import mistique
from mistique.keras import MistiqueCallback
x, y = np.random.default_rng(0).normal(size=(2, 40, 4)).astype("float32")
keras.distribution.set_distribution(keras.distribution.DataParallel())
store, ends = mistique.open(sys.argv[1]), []
watch = MistiqueCallback(store, x, y, model="m", codec="raw", batch_size=16, on_error="raise")
for callbacks in ([], [watch]):
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(4)])
    net.compile("adam", "mse")
    history = net.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=callbacks).history
    ends.append((history, net.get_weights()))
assert ends[0][0] == ends[1][0] and all(map(np.array_equal, ends[0][1], ends[1][1]))
found = mistique.get(store, "m@1.2/valid/prediction").to_numpy()
np.testing.assert_allclose(found, net.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
print(len(keras.distribution.list_devices()), len(found))
"""


@pytest.mark.supported("JAX in place of TensorFlow", "all of this but what is listed below; eagerly")
def test_distributed_over_two_devices_each_row_comes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    command = [sys.executable, "-c", DISTRIBUTED, str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["2", "40"]
