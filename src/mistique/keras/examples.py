"""A small convolutional network over Fashion-MNIST: the demo's, the benchmarks', the tests'."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from mistique.data import load_fashion_mnist


def fashion_split(n_train: int = 8_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images in [0, 1] and their classes: ``x_train, x_valid, y_train, y_valid``.

    Examples
    --------
    >>> x_train, x_valid, y_train, y_valid = fashion_split()
    >>> x_train.shape, x_valid.shape
    ((8000, 28, 28, 1), (2000, 28, 28, 1))
    """
    images, classes = load_fashion_mnist()
    x = images.astype(np.float32) / 255
    return x[:n_train], x[n_train:], classes[:n_train], classes[n_train:]


def fashion_cnn(seed: int = 0) -> Any:
    """A network of two convolutions and two dense layers, compiled, untrained.

    Examples
    --------
    >>> [layer.name for layer in fashion_cnn().layers]
    ['conv1', 'pool1', 'conv2', 'pool2', 'flatten', 'dense', 'dropout', 'classes']
    """
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="dense"),
            layers.Dropout(0.3, name="dropout"),
            layers.Dense(10, activation="softmax", name="classes"),
        ]
    )
    net.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return net
