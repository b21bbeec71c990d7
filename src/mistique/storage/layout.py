"""Where each part of a store lies below its URI, how one is made, and how one is recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version as package_version
from time import monotonic, sleep

import numpy as np
import tiledb

from mistique.errors import FormatVersionError, StoreNotFoundError
from mistique.schema import FORMAT_VERSION
from mistique.storage.digest_index import create_digests
from mistique.storage.encryption import key_errors
from mistique.storage.fragments import ALL_TIME
from mistique.storage.making import SECONDS_TO_MAKE, is_created
from mistique.storage.options import translated
from mistique.storage.records import create_records
from mistique.storage.soundness import refuse_unsound

_FORMAT_KEY = "mistique_format_version"
_READ_BY_KEY = "mistique_read_by"
# What makes a folder a group of TileDB's; the first that it makes in it.
_GROUP_FILE = "__tiledb_group.tdb"


@dataclass(frozen=True)
class Layout:
    """The URIs of a store's parts. Names that come from records are checked: none can point out of the store."""

    uri: str

    @property
    def catalog(self) -> str:
        """Records of versions and intermediates: the commit point."""
        return f"{self.uri}/catalog"

    @property
    def usage(self) -> str:
        """Records of what reads and recomputations cost."""
        return f"{self.uri}/usage"

    @property
    def digests(self) -> str:
        """Where column chunks lie, by the digest of their values."""
        return f"{self.uri}/digests"

    def segment(self, segment_id: str) -> str:
        """One segment's array."""
        return f"{self.uri}/segments/{_checked(segment_id, 32)}"

    def artifact(self, digest: str) -> str:
        """One artifact's array."""
        return f"{self.uri}/artifacts/{_checked(digest, 64)}"


def _checked(name: str, n_digits: int) -> str:
    if not re.fullmatch(rf"[0-9a-f]{{{n_digits}}}", name):
        raise StoreNotFoundError(uri=name, found=f"a name that is not {n_digits} hex digits")
    return name


def open_layout(uri: str, *, ctx: tiledb.Ctx, create: bool) -> Layout:
    """The layout of the store at a URI; makes the store when there is none and `create` is true.

    Raises
    ------
    StoreNotFoundError
        Nothing is there and nothing is to be made, or something else is there.
    FormatVersionError
        A newer mistique wrote it.
    StoreKeyError
        It is encrypted with another key, or with none.
    """
    # TileDB takes "./s" and "~/s" for literal names of object-store parts, so local paths are made absolute by it.
    layout = Layout(uri.rstrip("/"))
    for part in ("__group", "__meta", "catalog", "usage", "digests"):
        # What is damaged in the arrays is said when they are read: a store must open to be repaired.
        refuse_unsound(f"{layout.uri}/{part}", tiles=part.startswith("__"))
    for part in ("segments", "artifacts", _GROUP_FILE):
        refuse_unsound(f"{layout.uri}/{part}", below=False)  # what lies below is looked at when it is opened
    with translated(uri, "look at"):
        found = _object_type(layout.uri, ctx)
    if found == "array":
        raise StoreNotFoundError(uri=uri, found="a TileDB array")
    if found is None:
        if not create:
            raise StoreNotFoundError(uri=uri, found="nothing")
        with translated(uri, "make a store at"):
            _create(layout, ctx)
        return layout
    with translated(uri, "open"), key_errors(uri), _read_group(layout.uri, ctx) as group:
        version, read_by = group.meta.get(_FORMAT_KEY), group.meta.get(_READ_BY_KEY)
    if version is None:
        if create and not _has_foreign_members(layout, ctx):
            with translated(uri, "make a store at"):
                _create(layout, ctx)
            return layout
        raise StoreNotFoundError(uri=uri, found="a TileDB group that is not a mistique store")
    if not isinstance(version, (int, np.integer)) or version > FORMAT_VERSION:
        is_version = isinstance(read_by, str) and re.fullmatch(r"\d+(\.\d+)*\w*", read_by)
        read_by = read_by if is_version else ""  # it comes from the store, and goes into a command
        raise FormatVersionError(uri=uri, found=version, readable=FORMAT_VERSION, read_by=read_by)
    return layout


def _read_group(uri: str, ctx: tiledb.Ctx) -> tiledb.Group:
    """The group as everybody has left it: TileDB shows what was written before now, by this clock."""
    config = ctx.config()
    config["sm.group.timestamp_end"] = str(ALL_TIME[1])
    return tiledb.Group(uri, "r", config=config, ctx=ctx)


def _object_type(uri: str, ctx: tiledb.Ctx) -> str | None:
    """What TileDB calls what lies at a URI, also where another process has just made it; None: nothing is there.

    Raises
    ------
    StoreNotFoundError
        Something that is not TileDB's.
    """
    deadline = monotonic() + SECONDS_TO_MAKE
    while True:
        found: str | None = tiledb.object_type(uri, ctx=ctx)
        if found is not None:
            return found
        vfs = tiledb.VFS(ctx=ctx)
        names = {path.rstrip("/").rpartition("/")[2] for path in vfs.ls(uri)} if vfs.is_dir(uri) else set()
        if not names and not vfs.is_file(uri):
            return None
        # Made since it was looked for: then it is found the next time.
        if _GROUP_FILE not in names or monotonic() > deadline:
            raise StoreNotFoundError(uri=uri, found="something else: it is no TileDB group")
        sleep(0.02)


def _has_foreign_members(layout: Layout, ctx: tiledb.Ctx) -> bool:
    """Whether a group without a format version holds what a half-made store would not."""
    with _read_group(layout.uri, ctx) as group:
        return any(member.name not in ("catalog", "usage", "digests", "segments", "artifacts") for member in group)


def _create(layout: Layout, ctx: tiledb.Ctx) -> None:
    """Make every part, and the format version last: a store that was half made has none and is made again."""
    for uri in (layout.uri, f"{layout.uri}/segments", f"{layout.uri}/artifacts"):
        is_created(uri, tiledb.group_create, ctx)
    create_records(layout.catalog, ctx)
    create_records(layout.usage, ctx)
    create_digests(layout.digests, ctx)
    with _read_group(layout.uri, ctx) as store:
        present = {member.name for member in store}
    with tiledb.Group(layout.uri, "w", ctx=ctx) as store:
        for name in ("catalog", "usage", "digests", "segments", "artifacts"):
            if name not in present:
                store.add(name, name=name, relative=True)
        store.meta[_READ_BY_KEY] = package_version("mistique")
        store.meta[_FORMAT_KEY] = FORMAT_VERSION
