"""Links in a store: what they lead to is not part of it, so nothing behind one is read."""

from __future__ import annotations

import os

from mistique.errors import StoreError


def refuse_links(uri: str, *, below: bool = True) -> None:
    """See that a part of a store on a local disk holds no links and is none; object stores have none.

    Parameters
    ----------
    uri : str
    below : bool, default True
        Look at all that lies below it, too.

    Raises
    ------
    StoreError
        It has, and would be read from outside of the store.
    """
    path = uri.removeprefix("file://")
    if "://" in path:
        return
    waiting = [path] if below else []
    if os.path.islink(path):
        raise _refused(path)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise _refused(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):  # whoever opens it says so
            continue


def _refused(path: str) -> StoreError:
    return StoreError(f"{path} is a link: what lies outside of a store is not read. Copy what it leads to")
