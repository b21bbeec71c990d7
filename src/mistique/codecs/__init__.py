"""Codecs: how the cells of a column chunk are kept. One quantizer a file; each states its error bound."""

from mistique.codecs.auto import Auto
from mistique.codecs.codec import Codec, Policy, codec_from_config, resolve_codec
from mistique.codecs.power import Power
from mistique.codecs.raw import Raw

__all__ = ["Auto", "Codec", "Policy", "Power", "Raw", "codec_from_config", "resolve_codec"]
