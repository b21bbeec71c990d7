"""Eight numbers of 32 bits at once, with look-ups by eight places: what LLVM does not find in a loop by itself.

Inside kernels only. A processor without such instructions takes the eight one by one, and one of AMD's all but does
(2.29 ns a code on a Zen 3, for 2.06 two by two): `IS_QUICK` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

N_LANES = 8
_BIT, _NARROW = ir.IntType(1), ir.IntType(32)
_LANES = ir.VectorType(_NARROW, N_LANES)
_ZEROS = ir.Constant(_LANES, [0] * N_LANES)
_ALL = ir.Constant(ir.VectorType(_BIT, N_LANES), [1] * N_LANES)


def _is_quick() -> bool:
    try:
        has_gather = bool(binding.get_host_cpu_features().get("avx2", False))
        return has_gather and not binding.get_host_cpu_name().startswith("znver")
    except RuntimeError:  # llvmlite does not know this processor
        return False


IS_QUICK = _is_quick()


class _Lanes(types.Type):  # type: ignore[misc]
    """Eight uint32."""

    def __init__(self) -> None:
        super().__init__("Lanes")


LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LANES)


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    """The same value in each lane."""
    none = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(_NARROW, 0))
    return builder.shuffle_vector(first, none, _ZEROS)


def _binary(instruction: str) -> Callable[..., Any]:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sides = [
                value if kind == LANES else _spread(builder, value, _LANES)
                for value, kind in zip(arguments, signature.args, strict=True)
            ]
            return getattr(builder, instruction)(*sides)

        return LANES(*(kind if kind == LANES else types.uint32 for kind in (a, b))), generate

    return operation  # type: ignore[no-any-return]


# Of lanes, or of lanes and one uint32 for all.
add, subtract, both, left_by, right_by = (_binary(name) for name in ("add", "sub", "and_", "shl", "lshr"))


def _address(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> tuple[Any, Any, int]:
    """Where eight cells of an array lie, their type as a vector, and their alignment in bytes."""
    width = kind.dtype.bitwidth
    vector = ir.VectorType(ir.IntType(width), N_LANES)
    first = builder.gep(context.make_array(kind)(context, builder, array).data, [place])
    return builder.bitcast(first, vector.as_pointer()), vector, width // 8


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, cells: Any, place: Any) -> Any:
    """Eight unsigned integers of an array, from a place on; nobody looks whether there are so many."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, vector, alignment = _address(context, builder, signature.args[0], *arguments)
        found = builder.load(address, align=alignment)
        return found if vector.element == _NARROW else builder.zext(found, _LANES)

    return LANES(cells, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, lanes: Any, cells: Any, place: Any) -> Any:
    """The low bits of eight numbers into an array, from a place on; nobody looks whether there is room."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, vector, alignment = _address(context, builder, signature.args[1], *arguments[1:])
        lanes = arguments[0]
        builder.store(lanes if vector.element == _NARROW else builder.trunc(lanes, vector), address, align=alignment)
        return context.get_dummy_value()

    return types.void(LANES, cells, types.uint64), generate


def _gathering(width: int) -> Callable[..., Any]:
    @intrinsic  # type: ignore[untyped-decorator]
    def gather(typing: Any, cells: Any, places: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            unit, cell = ir.IntType(width), _NARROW.as_pointer()
            first = builder.bitcast(data, unit.as_pointer())
            same = _spread(builder, first, ir.VectorType(first.type, N_LANES))
            # To the type of the vector, as pointers have one in older versions of llvmlite.
            wanted = builder.bitcast(builder.gep(same, [arguments[1]], source_etype=unit), ir.VectorType(cell, N_LANES))
            kind = ir.FunctionType(_LANES, [wanted.type, _NARROW, _ALL.type, _LANES])
            name = f"llvm.masked.gather.v{N_LANES}i32.v{N_LANES}{cell.intrinsic_name}"
            masked = cgutils.get_or_insert_function(builder.module, kind, name)
            return builder.call(masked, [wanted, ir.Constant(_NARROW, 1), _ALL, _ZEROS])

        return LANES(cells, LANES), generate

    return gather  # type: ignore[no-any-return]


# 32 bits from each of eight places of an array, counted in bytes, or in cells of 32 bits; nobody looks whether they are
# within it.
gather_at_bytes, gather = _gathering(8), _gathering(32)
