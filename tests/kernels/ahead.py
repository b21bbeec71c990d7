"""Every kernel compiled into the cache, by a process a core: before tests, each process of which would compile all.

Usage: ``python -m tests.kernels.ahead``
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def compiled(name: str) -> None:
    """The kernels of a module, imported without all that imports them."""
    if "mistique" not in sys.modules:
        found = find_spec("mistique")
        assert found is not None
        sys.modules["mistique"] = bare = ModuleType("mistique")
        bare.__path__ = found.submodule_search_locations or []
    import_module(f"mistique.kernels.{name}")


if __name__ == "__main__":
    compiled("compile")  # of which the processes that are forked inherit Numba
    folder = sys.modules["mistique.kernels"].__path__
    # From the last on: those that take longest come early, so that no process waits long for another at the end.
    names = sorted((module.name for module in pkgutil.iter_modules(folder)), reverse=True)
    with multiprocessing.get_context("fork").Pool(min(os.cpu_count() or 1, 4)) as pool:
        pool.map(compiled, names, chunksize=1)
