"""Every registered codec has a compliance class: a new one without is an error here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mistique.codecs import (
    KBit,
    LowPrecision,
    Pool,
    Power,
    Raw,
    Threshold,
    Within,
    codec,
    codec_from_config,
    resolve_codec,
)
from mistique.errors import CodecError, UnknownCodecError
from tests.codecs.compliance import CodecCompliance


def classes_below(kind: type) -> set[type]:
    """All classes that inherit a class, however far down."""
    return {kind, *(below for child in kind.__subclasses__() for below in classes_below(child))}


def test_every_registered_codec_has_a_compliance_class() -> None:
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name != Path(__file__).name:
            importlib.import_module(f"tests.codecs.{path.stem}")
    covered = {type(kind.codec) for kind in classes_below(CodecCompliance) if hasattr(kind, "codec")}
    assert set(codec._KNOWN.values()) == covered
    assert {Raw, Power, KBit, LowPrecision, Threshold, Pool, Within} <= covered


@pytest.mark.parametrize("wanted", ["pwoer", "", 5, None, Power])
def test_an_unknown_codec_is_refused_naming_the_known_ones(wanted: object) -> None:
    with pytest.raises(
        UnknownCodecError, match=r"one of auto, kbit, low_precision, pool, power, raw, threshold, within; got"
    ) as caught:
        resolve_codec(wanted)  # type: ignore[arg-type]
    assert isinstance(caught.value, (CodecError, LookupError))


@pytest.mark.parametrize("config", [{}, {"name": "zip"}, {"name": "power", "bits": 99}, {"name": "raw", "level": 1}])
def test_a_config_that_no_codec_has_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(UnknownCodecError):
        codec_from_config(config)


def test_a_codec_is_found_by_name_and_an_instance_is_taken_as_it_is() -> None:
    mine = Power(bits=7)
    assert resolve_codec(mine) is mine
    assert resolve_codec("power") == Power()
    assert isinstance(resolve_codec("raw"), Raw)
