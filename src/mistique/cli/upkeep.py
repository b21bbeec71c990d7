"""Commands that keep a store small, whole and quick."""

from __future__ import annotations

from typing import Annotated

import typer

import mistique
from mistique.cli.opening import Trust, Uri, one_line_errors, open_store, show_text

commands = typer.Typer()


@commands.command()
def index(
    uri: Uri,
    key: Annotated[str, typer.Argument(help="project/model@version/dataset/layer")],
    max_share: Annotated[float, typer.Option(min=0, help="Of its values as float32, that it may take.")] = 0.2,
) -> None:
    """Index a stored layer: questions of a few of its units then read those alone."""
    with one_line_errors(), open_store(uri, mode="a") as store:
        typer.echo(repr(mistique.index(store, key, max_share=max_share)))


@commands.command()
def verify(
    uri: Uri,
    key: Annotated[
        str | None, typer.Argument(help="project/model@version/dataset, or one intermediate. Default: all captures.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="About how many rows are compared.")] = 256,
    trust: Trust = False,
) -> None:
    """Recompute a sample of what is stored and compare; the exit code is 1 if anything differs."""
    with one_line_errors(), open_store(uri, mode="r", trust=trust) as store:
        keys = [key] if key else [capture.prefix for capture in store.catalog.captures()]
        found = []
        for one in keys:
            found.append(mistique.verify(store, one, sample=sample))
            show_text(f"{found[-1]!r}\n")
        if not all(verification.is_sound for verification in found):
            raise typer.Exit(1)


@commands.command()
def compact(
    uri: Uri,
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="Keep what is out of use for so long, for readers and captures under way.")
    ] = 3600,
) -> None:
    """Merge small segments, keep once what was stored twice, and remove what nothing refers to."""
    with one_line_errors(), open_store(uri, mode="a") as store:
        typer.echo(store.compact(grace_seconds=grace_seconds).line())


@commands.command()
def gc(
    uri: Uri,
    grace_seconds: Annotated[float, typer.Option(min=0, help="Keep what is younger, or out of use for less.")] = 3600,
) -> None:
    """Remove what nothing refers to; nothing is written again."""
    with one_line_errors(), open_store(uri, mode="a") as store:
        typer.echo(store.gc(grace_seconds=grace_seconds).line())


@commands.command()
def check(
    uri: Uri,
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged, and nothing else.")] = False,
) -> None:
    """Read all of a store; say what is damaged, what that costs, and what is whole. Exit code 1 if it is damaged."""
    with one_line_errors(), open_store(uri, mode="a" if repair else "r") as store:
        found = store.check(repair=repair)
    typer.echo("\n".join(found.lines()))
    if not found.is_whole:
        raise typer.Exit(1)
