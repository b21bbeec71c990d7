"""What a Python function or a class of the user's does, as text that changes when its code does.

Bytecode, constants, defaults, closures and the globals that are named, followed as far as they can be. What cannot
be followed, an object of an unknown kind or a function that is reached through a module of the user's, is said to
be unknown rather than left out.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# The versions of these libraries are a part of a lineage, so their code need not be looked at.
_VERSIONED = ("builtins", "keras", "tensorflow", "numpy", "math", "functools", "operator", "itertools", "typing")


class UnknownCodeError(Exception):
    """Something decides what a function does that is not seen here."""


def is_versioned(module: str | None) -> bool:
    """A module whose code is told by the version of a library."""
    return (module or "").split(".")[0] in _VERSIONED


def code_of(value: Any) -> str:
    """A function, a class or a plain value as text.

    Raises
    ------
    UnknownCodeError

    Examples
    --------
    >>> code_of(lambda x: x + 1) == code_of(lambda x: x + 2)
    False
    """
    return "\n".join(_text(value, set()))


def _text(value: Any, seen: set[int]) -> Iterator[str]:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type(...), np.generic, np.dtype)):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, types.ModuleType):
        if not is_versioned(value.__name__):
            raise UnknownCodeError(f"module {value.__name__}")
        yield f"module {value.__name__}"
    elif id(value) in seen:
        yield f"again {getattr(value, '__qualname__', type(value).__name__)}"
    else:
        seen.add(id(value))
        yield from _structured(value, seen)


def _structured(value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        items = value.items() if isinstance(value, dict) else value
        yield f"{type(value).__name__} {len(value)}"
        for item in items if isinstance(value, (list, tuple, dict)) else sorted(items, key=repr):
            yield from _text(item, seen)
    elif isinstance(value, np.ndarray) and value.dtype.kind not in "OV":
        yield f"array {value.dtype.str} {value.shape} {value.tobytes().hex()}"
    elif isinstance(value, type):
        yield from _class(value, seen)
    elif isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, np.ufunc)):
        yield from _function(value, seen)
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _text(value.__func__, seen)
    elif isinstance(value, property):
        yield from _text((value.fget, value.fset), seen)
    elif is_versioned(type(value).__module__) and hasattr(value, "get_config"):
        yield f"{type(value).__module__}.{type(value).__qualname__}"
        yield from _text(value.get_config(), seen)
    else:
        raise UnknownCodeError(f"{type(value).__module__}.{type(value).__qualname__}")


def _function(function: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(function, types.MethodType):
        if isinstance(function.__self__, type):
            yield from _text(function.__self__, seen)
        elif not isinstance(function.__self__, keras.Layer):
            raise UnknownCodeError(f"a method of {type(function.__self__).__qualname__}")
        function = function.__func__
    module = getattr(function, "__module__", None)
    if is_versioned(module) or not isinstance(function, types.FunctionType):
        if not is_versioned(module) and not isinstance(function, np.ufunc):
            raise UnknownCodeError(f"{module}.{function.__qualname__}")
        yield f"function {module}.{getattr(function, '__qualname__', function.__name__)}"
        return
    # A decorator's wrapper keeps what it wraps in its closure, which is followed too.
    yield from _code(function.__code__, function.__globals__, seen)
    yield from _text((function.__defaults__, function.__kwdefaults__), seen)
    for cell in function.__closure__ or ():
        # What `super()` looks in is the class that is being told about.
        if not (isinstance(cell.cell_contents, type) and id(cell.cell_contents) in seen):
            yield from _text(cell.cell_contents, seen)


def _code(code: types.CodeType, namespace: dict[str, Any], seen: set[int]) -> Iterator[str]:
    yield f"code {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for constant in code.co_consts:
        yield from _code(constant, namespace, seen) if isinstance(constant, types.CodeType) else _text(constant, seen)
    for name in code.co_names:
        if name in namespace:
            yield f"global {name}"
            yield from _text(namespace[name], seen)


def _class(kind: type, seen: set[int]) -> Iterator[str]:
    for base in kind.__mro__:
        if is_versioned(base.__module__) or base.__module__ == "abc":
            yield f"class {base.__module__}.{base.__qualname__}"
            continue
        seen.add(id(base))
        yield f"class of the user {base.__qualname__}"
        for name, value in sorted(vars(base).items()):
            if name not in _OF_EVERY_CLASS and not isinstance(
                value, (types.GetSetDescriptorType, types.MemberDescriptorType)
            ):
                yield name
                yield from _text(value, seen)


_OF_EVERY_CLASS = (
    *("__module__", "__doc__", "__qualname__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"),
    *("__annotations__", "__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__"),
)
