"""What every command shares: how it names a store, opens it, and says what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated

import typer
from rich.console import Console

import mistique
from mistique.errors import MistiqueError
from mistique.store import Store

KEY: ContextVar[str | None] = ContextVar("KEY", default=None)
Uri = Annotated[str, typer.Argument(help="A store: a local path, s3://, gs:// or azure://.")]
Version = Annotated[str, typer.Argument(help="project/model@version: a number, run.epoch, latest, or a tag.")]
IntermediateKey = Annotated[str, typer.Argument(metavar="KEY", help="project/model@version/dataset/intermediate")]
Trust = Annotated[bool, typer.Option("--trust", help="Run models that this user did not sign.")]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Our errors, and those of files and folders, as one line on stderr and exit code 1, not as a traceback."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads has seen enough
    except (MistiqueError, OSError) as error:
        typer.echo(f"mistique: {error}", err=True)
        raise typer.Exit(1) from None


def open_store(uri: str, *, mode: str, trust: bool = False) -> Store:
    """A store that is there, with the key that was given before the command."""
    key = KEY.get()
    store = mistique.open(uri, mode="r", key=key, trust=trust)
    if mode == "r":
        return store
    store.close()
    return mistique.open(uri, mode=mode, key=key)


def show_text(text: str) -> None:
    """Print lines as they are, without colours or marks."""
    Console(highlight=False).print(text, markup=False, soft_wrap=True)


def rows_of(text: str | None) -> list[str | int] | slice | None:
    """Rows as `mistique.get` takes them: labels, or a slice of positions."""
    if text is None or ":" not in text:
        return labels_of(text)
    first, _, stop = text.partition(":")
    try:
        return slice(int(first) if first else None, int(stop) if stop else None)
    except ValueError:
        return labels_of(text)  # labels may have colons in them, as times do


def labels_of(text: str | None) -> list[str | int] | None:
    """Labels, names or numbers, of which commas were between."""
    return None if text is None else [_label(part) for part in text.split(",")]


def label_of(text: str | None) -> str | int | None:
    """One label or name, whatever is in it; a number where it is one."""
    return None if text is None else _label(text)


def _label(text: str) -> str | int:
    return int(text) if text.removeprefix("-").isdecimal() else text
