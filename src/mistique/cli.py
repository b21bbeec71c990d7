"""The `mistique` command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
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
def report(
    uri: _Uri,
    model: Annotated[str, typer.Argument(help="project/model, the newest run, or project/model@version")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
    dataset: Annotated[str | None, typer.Option(help="The dataset to diagnose: valid, test, or the newest.")] = None,
    against: Annotated[str | None, typer.Option(help="The dataset to hold it against: train, or another.")] = None,
) -> None:
    """Write a whole diagnosis of a model as one HTML file: errors, drift, units, training."""
    try:
        import_module("matplotlib").use("Agg")
        from mistique.report import write_report
    except ImportError as error:
        typer.echo(f'mistique: a report needs matplotlib: pip install "mistique[plots]" ({error})', err=True)
        raise typer.Exit(1) from None
    with _one_line_errors(), mistique.open(uri, mode="r") as store:
        console = Console(stderr=True)
        with console.status("reading the store") as status:
            path = write_report(
                store,
                model,
                path=output,
                dataset=dataset,
                against=against,
                on_section=lambda title: status.update(title),
            )
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.2g} MB")


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
