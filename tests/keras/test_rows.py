"""Where the rows come from, and which of them are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

import mistique
from mistique.errors import CaptureError, CaptureWarning
from mistique.keras import MistiqueCallback, capture
from mistique.keras.batches import Batches
from mistique.keras.rows import Rows

if TYPE_CHECKING:
    from mistique.store import Store

Stored = Callable[[str], np.ndarray]
Y = np.arange(25) % 3


class Numbered(keras.utils.PyDataset):
    """Draws while it reads, as an augmenting data set does."""

    def __init__(self, rows: np.ndarray, n_batches: int | None = 4) -> None:
        super().__init__()
        self.rows, self.n_batches = rows, n_batches

    def __len__(self) -> int:
        if self.n_batches is None:
            raise NotImplementedError
        return self.n_batches

    @property
    def num_batches(self) -> int | None:
        return self.n_batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        np.random.random()  # noqa: NPY002 - what many data sets do
        within = slice(7 * index % 25, 7 * index % 25 + 7)
        return self.rows[within], Y[within]


def net() -> keras.Model:
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    return made


def batches_of(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    index = 0
    while True:
        yield rows[7 * index : 7 * index + 7], Y[7 * index : 7 * index + 7]
        index = (index + 1) % 4


@pytest.mark.supported("`PyDataset`, generators", "as the arrays that they yield")
def test_a_pydataset_and_a_generator_are_captured_as_the_arrays_that_they_yield(
    store: Store, rows: np.ndarray, stored: Stored
) -> None:
    model = net()
    capture(model, rows, Y, store=store, model="array", dataset="d", codec="raw", batch_size=10)
    capture(model, Numbered(rows), store=store, model="data", dataset="d", codec="raw", batch_size=10)
    capture(model, batches_of(rows), steps=4, store=store, model="made", dataset="d", codec="raw", batch_size=10)
    for name in ("input", "hidden", "prediction", "target"):
        for model_name in ("data", "made"):
            assert np.array_equal(stored(f"{model_name}@1/d/{name}"), stored(f"array@1/d/{name}")), (model_name, name)


def test_reading_a_dataset_that_draws_disturbs_no_training(store: Store, rows: np.ndarray) -> None:
    ends = []
    for callbacks in ([], [MistiqueCallback(store, Numbered(rows), model="m", on_error="raise")]):
        model = net()
        model.fit(rows, Y, epochs=2, verbose=0, callbacks=callbacks)
        ends.append((model.get_weights(), np.random.random()))  # noqa: NPY002 - the global generator is compared
    assert ends[0][1] == ends[1][1]
    assert all(map(np.array_equal, ends[0][0], ends[1][0]))
    assert callbacks[0].captured == ["m@1.1", "m@1.2"]


def test_a_generator_is_read_once_for_all_epochs_and_fits(store: Store, rows: np.ndarray, stored: Stored) -> None:
    model, watch = net(), MistiqueCallback(store, batches_of(rows), model="m", steps=2, on_error="raise")
    for _ in range(2):
        model.fit(rows, Y, epochs=2, verbose=0, callbacks=[watch])
    assert watch.captured == ["m@2.1", "m@2.2"]
    assert np.array_equal(stored("m@2.2/valid/input"), rows[:14])


@pytest.mark.supported("endless data", "asked for `steps`")
@pytest.mark.parametrize("kind", ["generator", "pydataset"])
def test_an_endless_source_is_told_to_give_steps_and_the_fit_goes_on(store: Store, rows: np.ndarray, kind: str) -> None:
    endless = batches_of(rows) if kind == "generator" else Numbered(rows, n_batches=None)
    with pytest.warns(CaptureWarning, match="give steps=n"):
        history = net().fit(rows, Y, epochs=2, verbose=0, callbacks=[MistiqueCallback(store, endless, model="m")])
    assert len(history.history["loss"]) == 2
    version = capture(net(), Numbered(rows, n_batches=None), steps=3, store=store, model="m", dataset="d")
    assert store.catalog.find(f"{version}/d/input")[1].n_rows == 21


@pytest.mark.supported("batches of several lengths", "padded to the longest")
def test_batches_of_several_lengths_are_padded_to_the_longest(store: Store, stored: Stored) -> None:
    layers = keras.layers
    masked = keras.Sequential(
        [keras.Input((None,), dtype="int32"), layers.Embedding(9, 3, mask_zero=True, name="embed"), layers.LSTM(2)]
    )
    long = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [2, 0, 0, 0, 0], [3, 1, 0, 0, 0]])

    class Lengths(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[np.ndarray]:
            return ([long[:1, :3], long[1:2], long[2:, :2]][index],)

    for name, x in (("short", Lengths()), ("long", long)):
        capture(masked, x, store=store, model=name, dataset="d", codec="raw", batch_size=4)
    for name in ("input", "embed", "prediction"):
        assert np.array_equal(stored(f"short@1/d/{name}"), stored(f"long@1/d/{name}")), name


@pytest.mark.supported("sequences of any length")
def test_each_data_set_of_a_network_without_a_length_has_its_own(store: Store) -> None:
    layers = keras.layers
    any_length = keras.Sequential(
        [keras.Input((None, 2)), layers.Dense(3, name="h"), layers.GlobalMaxPooling1D(), layers.Dense(1)]
    )
    for length in (5, 8):
        x = np.zeros((4, length, 2), "float32")
        capture(any_length, x, store=store, model="m", dataset=f"of{length}")
    assert [store.catalog.find(f"m@1/of{length}/h")[1].shape for length in (5, 8)] == [(5, 3), (8, 3)]


@pytest.mark.supported("text as input", "stored as text")
def test_text_goes_in_as_text(store: Store, stored: Stored) -> None:
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("text is a tensor of TensorFlow alone")
    reviews = np.array([["the roof leaks"], ["café by the sea"], ["the sea"]] * 3)
    words = keras.layers.TextVectorization(max_tokens=20, output_sequence_length=4, name="words")
    words.adapt(reviews)
    model = keras.Sequential(
        [
            words,
            keras.layers.Embedding(20, 3, mask_zero=True, name="embedding"),
            keras.layers.LSTM(2),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    dataset = tf.data.Dataset.from_tensor_slices((reviews, np.ones(9))).batch(4)
    watch = MistiqueCallback(store, dataset, model="m", codec="raw", on_error="raise")
    model.fit(dataset, epochs=1, verbose=0, callbacks=[watch])
    assert stored("m@1.1/valid/input").tolist() == reviews.tolist()
    assert np.array_equal(stored("m@1.1/valid/words"), np.asarray(words(reviews)))
    names = ["sea", "roof", "café"] * 3
    capture(model, reviews, np.array(names), store=store, model="none", dataset="d", codec="raw", keep="none")
    assert stored("none@1/d/target").ravel().tolist() == names
    assert np.array_equal(stored("none@1/d/embedding"), stored("m@1.1/valid/embedding"))


@pytest.mark.supported("ragged tensors", "refused: one sentence")
def test_ragged_rows_are_refused_in_one_sentence(store: Store) -> None:
    tf = pytest.importorskip("tensorflow")
    with pytest.raises(CaptureError, match=r"give x\.to_tensor\(\), padded with zeros"):
        capture(net(), tf.ragged.constant([[1, 2], [3]]), store=store, model="m", dataset="d")


@pytest.mark.parametrize("source", ["arrays", "dataset"])
def test_a_sample_is_the_same_each_time_and_its_labels_are_positions(
    store: Store, rows: np.ndarray, source: str
) -> None:
    x, y = (rows, Y) if source == "arrays" else (Numbered(rows), None)
    watch = MistiqueCallback(store, x, y, model="m", n_rows=9, seed=4, batch_size=5, on_error="raise")
    net().fit(rows, Y, epochs=2, verbose=0, callbacks=[watch])
    first, second = (mistique.get(store, f"m@1.{epoch}/valid/input").to_frame() for epoch in (1, 2))
    assert list(first.index) == list(second.index) == sorted(set(first.index))
    assert len(first) == 9
    assert np.array_equal(first.to_numpy(), rows[first.index])


def test_a_stratified_sample_has_the_classes_in_the_proportions_of_the_whole() -> None:
    classes = np.repeat([0, 1, 2], [70, 20, 10])
    for y in (classes, np.eye(3)[classes], classes[:, None]):
        taken = Batches(np.arange(100)[:, None], y, rows=Rows(20, seed=1, stratify=True))
        found = np.concatenate([batch.inputs for batch in taken]).ravel()
        assert np.bincount(classes[found]).tolist() == [14, 4, 2]
        assert np.array_equal(found, taken.row_labels)


def test_labels_of_their_own_go_with_the_rows_of_a_sample() -> None:
    labels = [f"r{i}" for i in range(25)]
    taken = Batches(np.arange(25)[:, None], None, row_labels=labels, rows=Rows(3))
    assert taken.row_labels.tolist() == [f"r{i}" for i in taken.x.ravel()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stratify": True}, "n_rows as well"),
        ({"stratify": True, "n_rows": 3}, "give y"),
        ({"n_rows": 0}, "n_rows: expected at least 1"),
        ({"steps": 2}, "steps: expected none for arrays"),
    ],
)
def test_what_cannot_be_drawn_is_said(store: Store, rows: np.ndarray, options: dict, said: str) -> None:
    with pytest.raises(CaptureError, match=said):
        capture(net(), rows, store=store, model="m", dataset="d", **options)
