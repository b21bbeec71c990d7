"""The composition root: ``mistique.open(uri)`` gives a `Store`, in which every room is put together."""

from __future__ import annotations

from mistique.store.store import Store, open

__all__ = ["Store", "open"]
