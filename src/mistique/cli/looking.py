"""Commands that show what a store holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import mistique
from mistique.cli.opening import IntermediateKey, Uri, one_line_errors, open_store, show_text
from mistique.queries.disk_usage import disk_usage
from mistique.queries.listing import facts_of, listing
from mistique.schema import ROW_LABEL

commands = typer.Typer()


@commands.command()
def ls(uri: Uri) -> None:
    """List the models, versions and datasets of a store, with rows and bytes."""
    with one_line_errors(), open_store(uri, mode="r") as store:
        found = listing(store)
        console = Console(highlight=False)
        console.print("\n".join(found.lines()), markup=False, soft_wrap=True)
        for newest in store.catalog.captures()[-1:]:
            names = [name for name in newest.intermediates if name != ROW_LABEL]
            console.print(f"\nintermediates of {newest.prefix}: {', '.join(names)}")


@commands.command()
def du(uri: Uri) -> None:
    """List the bytes of every stored intermediate, the largest first, and those of its index apart."""
    with one_line_errors(), open_store(uri, mode="r") as store:
        show_text("\n".join(disk_usage(store).lines()))


@commands.command()
def show(uri: Uri, key: IntermediateKey) -> None:
    """Show what is known of one intermediate, its first rows, and how a question of it would be answered."""
    with one_line_errors(), open_store(uri, mode="r") as store:
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
            n_rows = store.catalog.find(key)[1].n_rows
            console.print(repr(mistique.get(store, key, rows=slice(0, min(n_rows, 5)))), markup=False)


@commands.command()
def report(
    uri: Uri,
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
    with one_line_errors(), open_store(uri, mode="r") as store:
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
