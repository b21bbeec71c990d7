"""Memory that is kept while questions are timed: the code that is mapped, what a store has written, and what was freed.

Some machines, virtual ones above all, drop file pages that nobody touched for a minute (Linux: DAMON's ``pageout``), so
that code and chunks are read from a disk again in the middle of a question. They hand pages that were freed back to
their host, too (free page reporting), so that a process waits for its host, several microseconds a page, whenever it
grows. How long a road was not taken, and which one needed most memory before, then decides what it takes.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.malloc.restype, _LIBC.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
# Of malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER = -1


class FreedMemory:
    """Memory by which this process has grown, and which stays with it when it is freed.

    Parameters
    ----------
    nbytes : int

    Attributes
    ----------
    nbytes : int
        0 where malloc is another than glibc's.
    """

    def __init__(self, nbytes: int) -> None:
        is_known = hasattr(_LIBC, "gnu_get_libc_version") and Path("/proc/self/statm").exists()
        options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1))
        self.nbytes = nbytes if is_known and all(_LIBC.mallopt(*option) for option in options) else 0
        self._resident_nbytes = 0
        self.hold()

    def hold(self) -> None:
        """Grow again where it was given back: protobuf asks malloc for that when it lets go of a graph."""
        if not self.nbytes or 0 < self._resident_nbytes < _resident_nbytes() + self.nbytes // 8:
            return
        if address := _LIBC.malloc(ctypes.c_size_t(self.nbytes)):
            pages = np.ctypeslib.as_array((ctypes.c_uint8 * self.nbytes).from_address(address))[:: mmap.PAGESIZE]
            pages[:] = 0
            _LIBC.free(address)
        self._resident_nbytes = _resident_nbytes()


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


def _resident_nbytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def _locked(address: int, nbytes: int) -> int:
    done = _LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(nbytes))
    return 0 if done else nbytes
