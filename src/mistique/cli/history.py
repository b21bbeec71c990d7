"""Commands about versions: what came from what, and what they are called."""

from __future__ import annotations

from typing import Annotated

import typer

import mistique
from mistique.cli.opening import Uri, Version, one_line_errors, open_store
from mistique.errors import QueryError
from mistique.queries.history import log_lines

commands = typer.Typer()


@commands.command()
def log(
    uri: Uri, model: Annotated[str | None, typer.Argument(help="One model; all of them when left out.")] = None
) -> None:
    """What came from what: each version, how it differs from the one before it, its tags, notes and links."""
    with one_line_errors(), open_store(uri, mode="r") as store:
        typer.echo("\n".join(log_lines(store, model)))


@commands.command()
def diff(uri: Uri, version: Version, other: Version) -> None:
    """How the second of two versions differs from the first: parameters, stages, weights, libraries."""
    with one_line_errors(), open_store(uri, mode="r") as store:
        typer.echo(repr(mistique.diff(store, version, other=other)))


@commands.command()
def tag(
    uri: Uri,
    version: Version,
    name: Annotated[str, typer.Argument(help="Stands for the version in keys: homes/ridge@best/...")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it away.")] = False,
) -> None:
    """Give a version a tag."""
    with one_line_errors(), open_store(uri, mode="a") as store:
        store.tag(version, name, remove=remove)


@commands.command()
def note(uri: Uri, version: Version, text: Annotated[list[str], typer.Argument(help="Words.")]) -> None:
    """Add a note to a version."""
    with one_line_errors(), open_store(uri, mode="a") as store:
        store.note(version, " ".join(text))


@commands.command()
def link(
    uri: Uri,
    version: Version,
    tool: Annotated[str, typer.Argument(help="mlflow, wandb, ...")],
    run: Annotated[str | None, typer.Argument(help="Its id of the run.", show_default=False)] = None,
) -> None:
    """Note what another tool calls a version."""
    with one_line_errors():
        if run is None:
            tool, _, run = tool.partition("=")
            raise QueryError(f"expected a tool, then its run: mistique link {uri} {version} {tool} {run or 'RUN'}")
        with open_store(uri, mode="a") as store:
            store.link(version, **{tool: run})


@commands.command()
def rename(uri: Uri, model: str, to: str) -> None:
    """Give a model another name."""
    with one_line_errors(), open_store(uri, mode="a") as store:
        store.rename(model, to=to)


@commands.command()
def delete(
    uri: Uri,
    version: Version,
    dataset: Annotated[str | None, typer.Option(help="Only what was captured over it.")] = None,
) -> None:
    """Delete a version; what others share with it stays, the rest goes when the store is compacted."""
    with one_line_errors(), open_store(uri, mode="a") as store:
        store.delete(version, dataset=dataset)
