"""Which layers are stored: by name, glob, type or predicate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import keras

from mistique.errors import CaptureError
from mistique.schema import INPUT, TARGET

Pattern = str | type | Callable[[Any], bool]
Layers = Pattern | Collection[Pattern]


class Choice:
    """The layers that somebody asked for.

    Parameters
    ----------
    layers : str, type, callable, or collection of them, optional
        A name (``inner/dense_1``), a glob (``block*_conv?``; ``*`` also spans ``/``), a class of layers, a
        layer itself, or a function of a layer that says whether it is wanted. None: all.

    Raises
    ------
    CaptureError
        It is nothing of that.

    Examples
    --------
    >>> Choice("conv*").has(["block/conv2", "conv2"], None)
    True
    >>> Choice([int]).has(["n"], 3), Choice(["conv1"]).is_exact, Choice(None).has(["any"], None)
    (True, True, True)
    >>> Choice(3)
    Traceback (most recent call last):
    ...
    mistique.errors.CaptureError: layers: expected names, globs, classes or functions of a layer, got 3
    """

    def __init__(self, layers: Layers | None) -> None:
        is_one = isinstance(layers, (str, type)) or callable(layers)
        if not (is_one or layers is None or isinstance(layers, Iterable)):
            raise CaptureError(f"layers: expected names, globs, classes or functions of a layer, got {layers!r}")
        several: Any = layers
        self._patterns: list[Any] | None = None if layers is None else [layers] if is_one else list(several)
        for pattern in self._patterns or ():
            if not (isinstance(pattern, (str, type)) or callable(pattern)):
                raise CaptureError(f"layers: expected names, globs, classes or functions of a layer, got {pattern!r}")

    @property
    def is_all(self) -> bool:
        """Nothing is left out."""
        return self._patterns is None

    @property
    def is_exact(self) -> bool:
        """All of it is names, so that it is known when all of it was seen."""
        return self._patterns is not None and all(isinstance(p, str) and not _is_glob(p) for p in self._patterns)

    def has(self, names: Iterable[str], layer: Any) -> bool:
        """Whether what goes by those names, and came from that layer, is wanted."""
        return self._patterns is None or any(_fits(pattern, list(names), layer) for pattern in self._patterns)

    def missing(self) -> Missing:
        """All that is asked for, as not seen yet. Input and target are always kept and never missed."""
        is_given = {p for p in self._patterns or () if isinstance(p, str) and p.split("/")[0] in (INPUT, TARGET)}
        return Missing([pattern for pattern in self._patterns or () if pattern not in is_given])


class Missing:
    """What of a choice was not seen yet."""

    def __init__(self, patterns: list[Any]) -> None:
        self._patterns = patterns

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def note(self, names: list[str], layer: Any) -> None:
        """Something was seen."""
        self._patterns = [pattern for pattern in self._patterns if not _fits(pattern, names, layer)]

    def check(self, known: Iterable[str]) -> None:
        """Raise if something that was asked for did not come.

        Raises
        ------
        CaptureError
            Naming the nearest of `known`.
        """
        if not self._patterns:
            return
        pattern = self._patterns[0]
        known = list(dict.fromkeys(known))
        if not isinstance(pattern, str):
            asked = f"that is a {pattern.__name__}" if isinstance(pattern, type) else f"that fits {pattern}"
            raise CaptureError(f"layers: the model has no layer {asked}; it has {', '.join(known[:6])}")
        nearest = get_close_matches(pattern, known, n=3, cutoff=0.4) or known[:6]
        raise CaptureError(f"layers: the model has no layer {pattern!r}; nearest: {', '.join(nearest)}")


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _fits(pattern: Any, names: list[str], layer: Any) -> bool:
    if isinstance(pattern, str):
        return pattern in names or (_is_glob(pattern) and any(fnmatchcase(name, pattern) for name in names))
    if layer is None:
        return False
    if isinstance(pattern, type):
        return isinstance(layer, pattern)
    return pattern is layer if isinstance(pattern, keras.Operation) else bool(pattern(layer))
