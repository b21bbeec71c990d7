"""The `mistique` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import mistique
from mistique.cli import comparisons, exchange, explain, history, looking, questions, upkeep
from mistique.cli.opening import KEY, one_line_errors

app = typer.Typer(
    help="Keeps what a model computes on its way, small, and answers questions of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"mistique {mistique.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(metavar="env:NAME|file:PATH", help="Where the key of an encrypted store comes from.")
    ] = None,
) -> None:
    """Keeps what a model computes on its way, small, and answers questions of it."""
    KEY.set(key)


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option(help="Where the store and the pictures go; a number is added if it exists.")
    ] = Path("mistique-demo"),
) -> None:
    """Capture three pipelines and a network on real data, and answer six questions of them."""
    from mistique.demo import run_demo

    with one_line_errors():
        try:
            run_demo(folder)
        except ImportError as error:
            typer.echo(f'mistique: the demo needs every extra: pip install "mistique[all]" ({error})', err=True)
            sys.exit(1)


for _room in (looking, explain, questions, comparisons, history, exchange, upkeep):
    app.add_typer(_room.commands)
