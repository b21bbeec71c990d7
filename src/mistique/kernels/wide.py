"""The 128-bit product that Numba has no type for: one instruction on every 64-bit machine."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_NARROW, _WIDE = ir.IntType(64), ir.IntType(128)
_SHIFT = ir.Constant(_WIDE, 64)


@intrinsic  # type: ignore[untyped-decorator]
def multiply_add(typing: Any, low: Any, high: Any, a: Any, b: Any) -> Any:
    """``(high << 64 | low) + a * b`` modulo 2**128, of four uint64, as (low, high). Inside kernels only."""
    signature = types.UniTuple(types.uint64, 2)(*[types.uint64] * 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high, a, b = [builder.zext(argument, _WIDE) for argument in arguments]
        total = builder.add(builder.or_(low, builder.shl(high, _SHIFT)), builder.mul(a, b))
        halves = builder.trunc(total, _NARROW), builder.trunc(builder.lshr(total, _SHIFT), _NARROW)
        return context.make_tuple(builder, signature.return_type, halves)

    return signature, generate
