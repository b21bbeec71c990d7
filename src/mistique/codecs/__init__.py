"""Codecs: how the cells of a column chunk are kept. One quantizer a file; each states its error bound."""

from mistique.codecs.auto import Auto
from mistique.codecs.codec import (
    ALL,
    ChunksCodec,
    Codec,
    CodedCodec,
    PartCodec,
    Policy,
    Summary,
    codec_from_config,
    resolve_codec,
)
from mistique.codecs.kbit import KBit
from mistique.codecs.low_precision import LowPrecision
from mistique.codecs.pool import Pool
from mistique.codecs.power import Power
from mistique.codecs.raw import Raw
from mistique.codecs.stored_form import stored_form
from mistique.codecs.threshold import Threshold
from mistique.codecs.within import Within, within

__all__ = [
    "ALL",
    "Auto",
    "ChunksCodec",
    "Codec",
    "CodedCodec",
    "KBit",
    "LowPrecision",
    "PartCodec",
    "Policy",
    "Pool",
    "Power",
    "Raw",
    "Summary",
    "Threshold",
    "Within",
    "codec_from_config",
    "resolve_codec",
    "stored_form",
    "within",
]
