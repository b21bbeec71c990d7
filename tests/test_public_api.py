"""The public API: its names, and what everything in it has: a docstring, an example, few positional parameters."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import pytest

import mistique

PUBLIC = {
    "mistique": [
        "KBit",
        "Key",
        "LowPrecision",
        "Pool",
        "Power",
        "Raw",
        "Store",
        "Threshold",
        "__version__",
        "add",
        "cka",
        "class_means",
        "col_diff",
        "col_dist",
        "corr",
        "dead_units",
        "diff",
        "drift",
        "epochs",
        "errors",
        "explain",
        "export",
        "get",
        "index",
        "knn",
        "netdissect",
        "open",
        "row_diff",
        "slices",
        "svcca",
        "topk",
        "trace",
        "verify",
        "within",
    ],
    "mistique.sklearn": ["Pipeline", "capture", "make_pipeline"],
    "mistique.keras": ["MistiqueCallback", "capture"],
}
# Signatures that are scikit-learn's, to the letter.
DROP_IN = {"mistique.sklearn.Pipeline", "mistique.sklearn.make_pipeline"}
# Frozen nouns that come back from elsewhere; their fields are what can be given.
NOUNS = {"mistique.Key", "mistique.Store"}
# A hook of Keras: the store, and x and y as in `fit`.
HOOKS = {"mistique.keras.MistiqueCallback", "mistique.keras.capture", "mistique.sklearn.capture"}


def modules() -> list[object]:
    """Every public module; that of Keras with its marker."""
    marks = {"mistique.keras": [pytest.mark.keras]}
    return [pytest.param(name, marks=marks.get(name, []), id=name) for name in PUBLIC]


def public_callables(module: str) -> dict[str, Callable[..., object]]:
    found = importlib.import_module(module)
    named = {f"{module}.{name}": getattr(found, name) for name in found.__all__}
    return {name: value for name, value in named.items() if callable(value)}


@pytest.mark.parametrize("module", modules())
def test_the_public_names_are_these(module: str) -> None:
    assert sorted(importlib.import_module(module).__all__) == sorted(PUBLIC[module])


@pytest.mark.parametrize("module", modules())
def test_every_public_name_is_there(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


@pytest.mark.parametrize("module", modules())
def test_every_public_callable_has_a_docstring_with_an_example(module: str) -> None:
    callables = public_callables(module)
    assert callables
    assert [name for name, value in callables.items() if ">>>" not in (value.__doc__ or "") and name not in NOUNS] == []
    assert [name for name, value in callables.items() if not (value.__doc__ or "").strip()] == []


@pytest.mark.parametrize("module", modules())
def test_every_public_callable_takes_at_most_two_positional_arguments(module: str) -> None:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    too_many = {}
    for name, value in public_callables(module).items():
        if name in DROP_IN | NOUNS:
            continue
        count = sum(p.kind in positional for p in inspect.signature(value).parameters.values())
        # The hooks take x and y as the framework does, besides the model or the store.
        if count > (3 if name in HOOKS else 2):
            too_many[name] = count
    assert too_many == {}


def test_every_error_is_one_of_ours_and_has_a_docstring() -> None:
    kinds = [
        value for value in vars(mistique.errors).values() if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert mistique.errors.MistiqueError in kinds
    for kind in kinds:
        assert issubclass(kind, (mistique.errors.MistiqueError, mistique.errors.MistiqueWarning)), kind
        assert kind.__doc__


def test_the_version_is_that_of_the_package() -> None:
    assert mistique.__version__.count(".") >= 2
