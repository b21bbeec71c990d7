"""The `mistique` command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import mistique
from mistique.errors import MistiqueError
from mistique.queries.listing import facts_of, listing

app = typer.Typer(
    help="Keeps what a model computes on its way, small, and answers questions of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_Uri = Annotated[str, typer.Argument(help="A store: a local path, s3://, gs:// or azure://.")]


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"mistique {mistique.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keeps what a model computes on its way, small, and answers questions of it."""


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Our errors as one line on stderr and exit code 1, not as a traceback."""
    try:
        yield
    except MistiqueError as error:
        typer.echo(f"mistique: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def ls(uri: _Uri) -> None:
    """List the models, versions and datasets of a store, with rows and bytes."""
    with _one_line_errors(), mistique.open(uri, mode="r") as store:
        found = listing(store)
        console = Console(highlight=False)
        console.print("\n".join(found.lines()), markup=False, soft_wrap=True)
        if found.captures:
            newest = found.captures[-1]
            console.print(f"\nintermediates of {newest.version}/{newest.dataset}: {', '.join(newest.intermediates)}")


@app.command()
def show(uri: _Uri, key: Annotated[str, typer.Argument(help="project/model@version/dataset/intermediate")]) -> None:
    """Show what is known of one intermediate, its first rows, and how a question of it would be answered."""
    with _one_line_errors(), mistique.open(uri, mode="r") as store:
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, fact in facts_of(store, key):
            if fact:
                table.add_row(name, str(fact))
        console = Console(highlight=False)
        console.print(table)
        console.print()
        console.print(repr(mistique.explain(store, key)), markup=False)
        if mistique.Key.parse(key) and "yes" in dict(facts_of(store, key))["stored"]:
            console.print()
            console.print(repr(mistique.get(store, key, rows=slice(0, 5))), markup=False)


@app.command()
def explain(
    uri: _Uri,
    key: Annotated[str, typer.Argument(help="project/model@version/dataset/intermediate")],
    rows: Annotated[
        str | None, typer.Option(help="Labels with commas between them, or positions as FROM:TO. Default: all.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names or numbers with commas between them. Default: all.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Never answer with quantized values.")] = False,
) -> None:
    """Show every road to an answer, what it is predicted to take, and which would be taken."""
    with _one_line_errors(), mistique.open(uri, mode="r") as store:
        plan = mistique.explain(store, key, rows=_rows(rows), columns=_listed(columns), exact=exact)
        Console(highlight=False).print(repr(plan), markup=False, soft_wrap=True)


@app.command()
def verify(
    uri: _Uri,
    key: Annotated[
        str | None, typer.Argument(help="project/model@version/dataset, or one intermediate. Default: all captures.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="About how many rows are compared.")] = 256,
    trust: Annotated[bool, typer.Option("--trust", help="Run models that this user did not sign.")] = False,
) -> None:
    """Recompute a sample of what is stored and compare; the exit code is 1 if anything differs."""
    with _one_line_errors(), mistique.open(uri, mode="r", trust=trust) as store:
        keys = [key] if key else [capture.prefix for capture in store.catalog.captures()]
        console = Console(highlight=False)
        found = []
        for one in keys:
            found.append(mistique.verify(store, one, sample=sample))
            console.print(repr(found[-1]), "", sep="\n", markup=False, soft_wrap=True)
        if not all(verification.is_sound for verification in found):
            raise typer.Exit(1)


def _rows(text: str | None) -> list[str | int] | slice | None:
    if text is None or ":" not in text:
        return _listed(text)
    first, _, stop = text.partition(":")
    return slice(int(first) if first else None, int(stop) if stop else None)


def _listed(text: str | None) -> list[str | int] | None:
    if text is None:
        return None
    return [int(part) if part.lstrip("-").isdigit() else part for part in text.split(",")]


@app.command()
def compact(
    uri: _Uri,
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="Keep what is out of use for so long, for readers and captures under way.")
    ] = 3600,
) -> None:
    """Merge small segments, keep once what was stored twice, and remove what nothing refers to."""
    with _one_line_errors():
        mistique.open(uri, mode="r").close()  # a store that is not there is not made
        with mistique.open(uri) as store:
            typer.echo(store.compact(grace_seconds=grace_seconds).line())


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option(help="Where the store and the pictures go; a number is added if it exists.")
    ] = Path("mistique-demo"),
) -> None:
    """Capture three pipelines and a network on real data, and answer six questions of them."""
    from mistique.demo import run_demo

    with _one_line_errors():
        try:
            run_demo(folder)
        except ImportError as error:
            typer.echo(f'mistique: the demo needs every extra: pip install "mistique[all]" ({error})', err=True)
            sys.exit(1)
