"""Files held in memory while questions are timed: the code that is mapped, and what a store has written.

Some machines, virtual ones above all, drop file pages that nobody touched for a minute (Linux: DAMON's ``pageout``), so
that code and chunks are read from a disk again in the middle of a question. How long a road was not taken then decides
what it takes.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)


def hold_code() -> int:
    """Lock the code that this process has mapped so far, while it lives; bytes, 0 where that is not allowed."""
    maps, held = Path("/proc/self/maps"), 0
    if not maps.exists():
        return 0
    for line in maps.read_text().splitlines():
        bounds, rights, _, _, _, *path = line.split(maxsplit=5)
        if path and path[0].startswith("/") and rights.startswith("r-"):
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            held += _locked(start, end - start)
    return held


@contextmanager
def held_files(folder: Path) -> Iterator[int]:
    """Lock all files below a folder, as they are now, within it; bytes, 0 where that is not allowed."""
    with ExitStack() as opened:
        held = 0
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size:
                with path.open("rb") as file:
                    mapped = opened.enter_context(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
                # Only its address is kept: a map that lends its buffer could not be closed.
                held += _locked(np.frombuffer(mapped, np.uint8).ctypes.data, len(mapped))
        yield held


def _locked(address: int, nbytes: int) -> int:
    done = _LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(nbytes))
    return 0 if done else nbytes
