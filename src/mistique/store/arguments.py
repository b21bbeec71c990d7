"""What every hook is told of a capture, checked when it is told: nothing of a model has run by then."""

from __future__ import annotations

from typing import Any

from mistique.codecs import resolve_codec
from mistique.errors import CaptureError
from mistique.ingest.choosing import KEEP
from mistique.schema import check_names
from mistique.store.store import Store


def check_arguments(*, store: Any, model: Any, dataset: Any, codec: Any, keep: Any, on_error: Any) -> None:
    """Say which argument of a capture is nothing that it can be.

    Raises
    ------
    CaptureError
        Of each but `codec`.
    UnknownCodecError
    """
    if not isinstance(store, Store):
        raise CaptureError(f"expected a store, as mistique.open(...) gives; got {store!r}")
    check_names(model=model, dataset=dataset)
    if keep not in KEEP:
        raise CaptureError(f'expected keep="all", keep="none" or keep="auto", got {keep!r}')
    if on_error not in ("warn", "raise"):
        raise CaptureError(f'expected on_error="warn" or on_error="raise", got {on_error!r}')
    resolve_codec(codec)
