"""The default: exact where rows are looked up and shared, small where activations are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from mistique.codecs.codec import Codec, register_policy
from mistique.codecs.power import Power
from mistique.codecs.raw import Raw
from mistique.schema import ColumnType

_MAP, _DEEP, _EXACT = Power(bits=5), Power(bits=6), Raw()
# A layer whose units have no more than 4 x 4 places is a tenth of a convolutional network. A bit more there costs
# a hundredth of all bytes, and these are the layers that neighbours, directions and strongest examples are asked of.
_DEEP_POSITIONS = 16


@register_policy
@dataclass(frozen=True)
class Auto:
    """Tables exactly, layers of floats by 5 or 6 bits of power; and nothing that follows by a rule from what is kept.


    Notes
    -----
    A pipeline's columns pass through most of its stages unchanged, and only equal bits are stored once. The outputs of
    a network's layers differ from epoch to epoch, and five bits keep their neighbours and largest values; six where a
    unit has 16 positions at most, as in deep and dense layers. The numbers are in decision 13. Codes, classes and masks
    (integers, booleans, 8-bit floats, values with nulls) stay as they are.
    Held by ``tests/ingest/test_auto.py``.

    Examples
    --------
    >>> float32 = [ColumnType("float32", "<f4")]
    >>> Auto().codec_for(float32, shape=(32, 32, 64), is_table=False)
    Power(bits=5)
    >>> Auto().codec_for(float32, shape=(512,), is_table=False)
    Power(bits=6)
    >>> Auto().codec_for([ColumnType("int64", "<i8")], shape=(512,), is_table=False).name
    'raw'
    """

    name: ClassVar[str] = "auto"
    leaves_out_derived: ClassVar[bool] = True

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Power, of two finenesses, and raw."""
        return _MAP, _DEEP, _EXACT

    def codec_for(self, types: Sequence[ColumnType], *, shape: tuple[int, ...], is_table: bool) -> Codec:
        """Power for a layer of floats, raw for everything else."""
        if is_table or not all(map(_MAP.applies_to, types)):
            return _EXACT
        return _DEEP if prod(shape[:-1]) <= _DEEP_POSITIONS else _MAP
