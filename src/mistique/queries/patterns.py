"""Keys that name more than one intermediate: a dataset of a version, a run with its epochs, ``*`` and ``?``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mistique.errors import IntermediateNotFoundError, QueryError
from mistique.queries.selection import catalog_of
from mistique.schema import LATEST, ROW_LABEL, TARGET, Intermediate, Key, unescape_path
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store

_EVERY = "*"


def find_dataset(store: Store, key: str | Key) -> Capture:
    """The capture that ``project/model@version/dataset`` names.

    Raises
    ------
    IntermediateNotFoundError
        Naming the nearest.
    QueryError
        Text that is no such key.
    """
    parts = _parts(key)
    if parts is None or not parts[2] or parts[3]:
        raise QueryError(f"expected a dataset of a version, for example homes/ridge@latest/valid; got {str(key)!r}")
    model, version, dataset, _ = parts
    return catalog_of(store).find_capture(Key(unescape_path(model), unquote(version), unquote(dataset), _EVERY))


def is_dataset(key: str | Key) -> bool:
    """Whether a key names a dataset of a version, no single intermediate."""
    parts = _parts(key)
    return parts is not None and bool(parts[2]) and not parts[3]


def find_all(store: Store, key: str | Key) -> list[tuple[Capture, Intermediate]]:
    """All that a key names, of each model older runs and epochs first, layers in the order of the model.

    Parameters
    ----------
    key : str or Key
        ``*`` and ``?`` stand for any characters of a name; what is left out at the end, for everything. A run number,
        or ``latest``, is the run with all of its epochs.

    Raises
    ------
    IntermediateNotFoundError
        There is nothing of that name; the error names the nearest.
    QueryError
        Text that is no key.
    """
    parts = _parts(key)
    if parts is None:
        raise QueryError(f"expected a key such as fashion/cnn@1/valid/conv*, got {str(key)!r}")
    model, version, dataset, name = parts
    catalog = catalog_of(store)
    captures = catalog.captures()
    of_model = [c for c in captures if _matches(unescape_path(model), c.version.model)]
    if not of_model:
        raise IntermediateNotFoundError(what="model", name=model, known=[c.version.model for c in captures])
    named = [c for c in of_model if not dataset or _matches(unquote(dataset), c.dataset)]
    if not named:
        known = [c.dataset for c in of_model]
        raise IntermediateNotFoundError(what=f"dataset of {model}:", name=dataset, known=known)
    if version == LATEST:
        newest = {c.version.model: c.number.partition(".")[0] for c in named}
        of_version = [c for c in named if c.number.partition(".")[0] == newest[c.version.model]]
    else:
        of_version = [c for c in named if _is_of_version(unquote(version), c)]
    if not of_version:
        known = [f"{c.version.model}@{c.number}" for c in named]
        raise IntermediateNotFoundError(what="version", name=f"{model}@{version}", known=known)
    path = unescape_path(name) if name else _EVERY
    catalog.read(of_version)
    found = [
        (capture, node)
        for capture in of_version
        for node in capture.intermediates.values()
        if _matches(path, node.name) or any(_matches(path, alias) for alias in node.aliases)
    ]
    if _EVERY in path:
        found = [(capture, node) for capture, node in found if node.role not in (ROW_LABEL, TARGET)]
    if not found:
        every = [node.name for capture in of_version for node in capture.intermediates.values()]
        raise IntermediateNotFoundError(what=f"intermediate in {of_version[0].prefix}:", name=path, known=every)
    return found


def _parts(key: str | Key) -> tuple[str, str, str, str] | None:
    """Model, version, dataset and intermediate, the last two perhaps empty; None: no key."""
    text = str(key) if isinstance(key, Key) else key
    if not isinstance(text, str) or text.count("@") != 1:
        return None
    model, _, rest = text.partition("@")
    version, _, rest = rest.partition("/")
    dataset, _, intermediate = rest.partition("/")
    return (model, version, dataset, intermediate) if model and version else None


def _is_of_version(pattern: str, capture: Capture) -> bool:
    names = (capture.number, capture.number.partition(".")[0], *capture.about.tags)
    return any(_matches(pattern, name) for name in names)


def _matches(pattern: str, name: str) -> bool:
    """Not `fnmatch`, to which brackets mean something that names may hold."""
    spelled = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(spelled, name, re.DOTALL) is not None
