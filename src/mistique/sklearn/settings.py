"""Where and how a pipeline captures itself, and the same in the processes that its copies are sent to."""

from __future__ import annotations

import platform
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import sklearn

from mistique.errors import StoreClosedError
from mistique.ingest.capture import Capture
from mistique.store import Store
from mistique.store.arguments import check_arguments


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Where and how a pipeline captures itself. Checked when made; shared by reference between clones.

    Unpickled, settings of one `token` are the same object for as long as its store is open: a worker of a search
    unpickles the pipeline for each candidate and fold, and to open the store and read its catalog each time took longer
    the more had been captured.
    """

    store: Store
    model: str
    dataset: str = "train"
    keep: str = "all"
    codec: Any = "auto"
    on_error: str = "warn"
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        check_arguments(
            store=self.store,
            model=self.model,
            dataset=self.dataset,
            codec=self.codec,
            keep=self.keep,
            on_error=self.on_error,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> CaptureSettings:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # How to open the store, and not the store: a process that holds it already does not open it again.
        settings = self.model, self.dataset, self.keep, self.codec, self.on_error, self.token
        return _settings_here, (self.store.__reduce__(), settings)

    def start(
        self,
        run_id: str | None = None,
        *,
        dataset: str,
        params: Mapping[str, str] | None = None,
        source: Mapping[str, str] | None = None,
    ) -> Capture:
        """A capture with these settings: of a new run, or of another dataset of an old one."""
        return self.store.capture(
            model=self.model,
            dataset=dataset,
            framework="sklearn",
            run_id=run_id,
            codec=self.codec,
            on_error=self.on_error,
            environment=environment(),
            params=params,
            source=source,
        )


@dataclass(frozen=True, slots=True)
class CapturedRun:
    """The version under which a fitted model was captured, wherever its pickle goes."""

    uri: str
    model: str
    run_id: str


def environment() -> Mapping[str, str]:
    """Versions that a model may depend on."""
    return {"python": platform.python_version(), "scikit-learn": sklearn.__version__, "numpy": np.__version__}


_unpickled: OrderedDict[str, CaptureSettings] = OrderedDict()
_unpickling = Lock()
# Their stores stay open.
_MAX_UNPICKLED = 2


def _settings_here(opening: tuple[Callable[..., Store], tuple[Any, ...]], settings: tuple[Any, ...]) -> CaptureSettings:
    """The settings of this token that were unpickled here before; else new ones, with a store opened for them."""
    token = settings[-1]
    with _unpickling:
        found = _unpickled.get(token)
        if found is None or not _is_open(found.store):
            reopen, arguments = opening
            found = _unpickled[token] = CaptureSettings(reopen(*arguments), *settings)
        _unpickled.move_to_end(token)
        if len(_unpickled) > _MAX_UNPICKLED:
            _unpickled.popitem(last=False)
        return found


def _is_open(store: Store) -> bool:
    """It was not closed, and not opened before this process was forked off."""
    try:
        store.catalog  # noqa: B018
    except StoreClosedError:
        return False
    return True
