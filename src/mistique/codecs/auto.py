"""The default: exact where rows are looked up and shared, small where activations are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mistique.codecs.codec import Codec, register_policy
from mistique.codecs.power import Power
from mistique.codecs.raw import Raw
from mistique.schema import ColumnType

_LAYER, _EXACT = Power(bits=5), Raw()


@register_policy
@dataclass(frozen=True)
class Auto:
    """Tables exactly; layers of floats by five bits of power; and nothing that follows by a rule from what is kept.

    Notes
    -----
    A pipeline's columns pass through most of its stages unchanged, and only equal bits are stored once. The outputs of
    a network's layers differ from epoch to epoch, and five bits keep their neighbours and largest values. The numbers
    are in decision 13. Codes, classes and masks (integers, booleans, 8-bit floats, values with nulls) stay as they are.
    Held by ``tests/ingest/test_auto.py``.

    Examples
    --------
    >>> Auto().codec_for([ColumnType("float32", "<f4")], is_table=False)
    Power(bits=5, smallest=False)
    >>> Auto().codec_for([ColumnType("int64", "<i8")], is_table=False).name
    'raw'
    """

    name: ClassVar[str] = "auto"
    leaves_out_derived: ClassVar[bool] = True

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Power and raw."""
        return _LAYER, _EXACT

    def codec_for(self, types: Sequence[ColumnType], *, is_table: bool) -> Codec:
        """Power for a layer of floats, raw for everything else."""
        return _LAYER if not is_table and all(map(_LAYER.applies_to, types)) else _EXACT
