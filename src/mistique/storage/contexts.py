"""The TileDB contexts of a process: shared by stores, renewed as timers fill them, freed when nothing needs them."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import tiledb

# TileDB keeps the timers of each query as long as its context lives, 13 kB a read; emptied, 3 kB of each are left, and
# nothing turns them off. So contexts are renewed: 25 ms every so many operations, which take some ms each.
RENEW_EVERY = 2048
# At the end of each query TileDB gives back to the system what the whole process has freed: after a network ran most of
# the time of a read (ADR 29), and whoever needs the memory next has it zeroed again.
UNTRIMMED = {"sm.mem.malloc_trim": "false"}
# One in which something failed is not freed, and so is in use for longer, emptied of its timers now and then.
_FAILED_GENERATIONS = 16
# References to a retired context that nothing needs: the list's, the one taken by hand, a name's and an argument's.
_UNUSED = 4


@dataclass(eq=False)
class _Lent:
    """A context, the settings that it was made with, and when."""

    ctx: tiledb.Ctx
    wanted: tuple[object, ...]
    settings: Mapping[str, str]
    generation: int
    # What TileDB-Py leaves behind of a read that failed, a query in the frames of the error, points to its context
    # without holding it: whoever frees the context first, the garbage collector or the interpreter that ends, kills the
    # process. So a context in which something failed, and the last one, live as long as the process.
    has_failed: bool = False
    emptied: int = 0


_lent: dict[tuple[object, ...], _Lent] = {}
_retired: list[_Lent] = []
_lock = Lock()
_fallback: tiledb.Ctx | None = None
_n_operations = 0
_is_forked = False


def shared(settings: Mapping[str, str]) -> tiledb.Ctx:
    """The context with these settings, and the credentials that the environment has now."""
    clouds = ("AWS_", "GOOGLE_", "AZURE_")
    around = sorted((name, value) for name, value in os.environ.items() if name.startswith(clouds))
    return _current((*sorted(settings.items()), None, *around), dict(settings))


def generation() -> int:
    """Which contexts are in use: whoever holds one for long asks for it anew when this has changed."""
    return _n_operations // RENEW_EVERY


def renewed(ctx: tiledb.Ctx) -> tiledb.Ctx:
    """The context that is now in the place of one that was shared; itself, if it was not."""
    with _lock:
        found = next((lent for lent in (*_lent.values(), *_retired) if lent.ctx is ctx), None)
    return ctx if found is None else _current(found.wanted, found.settings)


@contextmanager
def operation() -> Iterator[None]:
    """Count something that is done in a context, and note that it failed."""
    global _n_operations
    try:
        with tiledb.scope_ctx(_default()):
            yield
    except BaseException:
        with _lock:
            for lent in (*_lent.values(), *_retired):
                lent.has_failed = True
        raise
    finally:
        _n_operations += 1


def _default() -> tiledb.Ctx:
    """What TileDB-Py takes where it is given none, for schemas and some of its queries: one a process.

    Of itself it makes one a thread, which the garbage collector ends when the thread is gone: in a process that was
    forked off, where it has no threads to wait for, that waits for ever.
    """
    global _fallback
    with _lock:
        if _fallback is None:
            _fallback = tiledb.Ctx(UNTRIMMED)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(_fallback))
        return _fallback


def _current(wanted: tuple[object, ...], settings: Mapping[str, str]) -> tiledb.Ctx:
    with _lock:
        lent = _lent.get(wanted)
        if lent is not None and lent.has_failed and generation() < lent.generation + _FAILED_GENERATIONS:
            if lent.emptied != generation() and not _is_forked:
                lent.emptied = generation()
                tiledb.stats_reset()
        elif lent is None or lent.generation != generation():
            _free_retired()
            if lent is not None:
                _retired.append(lent)
            lent = _lent[wanted] = _Lent(tiledb.Ctx(dict(settings)), wanted, settings, generation())
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(lent.ctx))  # not freed by the interpreter that ends
        return lent.ctx


def _free_retired() -> None:
    """Let go of contexts that no array and no thread uses any more."""
    for lent in [*_retired]:
        ctx = lent.ctx
        if lent.has_failed or sys.getrefcount(ctx) > _UNUSED:
            continue
        _retired.remove(lent)
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(ctx))


def _after_fork_in_child() -> None:
    # The threads of these contexts are not there: they are neither used nor ended, and may hold the locks of timers.
    global _lock, _is_forked, _retired, _lent, _fallback
    _lock, _is_forked = Lock(), True
    _lent, _retired, _fallback = {}, [], None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
