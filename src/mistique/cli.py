"""The `mistique` command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import mistique
from mistique.errors import MistiqueError
from mistique.queries.disk_usage import disk_usage
from mistique.queries.history import log_lines
from mistique.queries.listing import facts_of, listing
from mistique.store import Store

app = typer.Typer(
    help="Keeps what a model computes on its way, small, and answers questions of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_key: ContextVar[str | None] = ContextVar("_key", default=None)
_Uri = Annotated[str, typer.Argument(help="A store: a local path, s3://, gs:// or azure://.")]


_Version = Annotated[str, typer.Argument(help="project/model@version: a number, run.epoch, latest, or a tag.")]


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
    _key.set(key)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Our errors as one line on stderr and exit code 1, not as a traceback."""
    try:
        yield
    except MistiqueError as error:
        typer.echo(f"mistique: {error}", err=True)
        raise typer.Exit(1) from None


def _open(uri: str, *, mode: str, trust: bool = False) -> Store:
    """A store that is there, with the key that was given before the command."""
    key = _key.get()
    store = mistique.open(uri, mode="r", key=key, trust=trust)
    if mode == "r":
        return store
    store.close()
    return mistique.open(uri, mode=mode, key=key)


@app.command()
def ls(uri: _Uri) -> None:
    """List the models, versions and datasets of a store, with rows and bytes."""
    with _one_line_errors(), _open(uri, mode="r") as store:
        found = listing(store)
        console = Console(highlight=False)
        console.print("\n".join(found.lines()), markup=False, soft_wrap=True)
        if found.captures:
            newest = found.captures[-1]
            console.print(f"\nintermediates of {newest.version}/{newest.dataset}: {', '.join(newest.intermediates)}")


@app.command()
def du(uri: _Uri) -> None:
    """List the bytes of every stored intermediate, the largest first, and those of its index apart."""
    with _one_line_errors(), mistique.open(uri, mode="r") as store:
        Console(highlight=False).print("\n".join(disk_usage(store).lines()), markup=False, soft_wrap=True)


@app.command()
def index(
    uri: _Uri,
    key: Annotated[str, typer.Argument(help="project/model@version/dataset/layer")],
    max_share: Annotated[float, typer.Option(min=0, help="Of its values as float32, that it may take.")] = 0.2,
) -> None:
    """Index a stored layer: questions of a few of its units then read those alone."""
    with _one_line_errors():
        mistique.open(uri, mode="r").close()  # a store that is not there is not made
        with mistique.open(uri) as store:
            typer.echo(repr(mistique.index(store, key, max_share=max_share)))


@app.command()
def show(uri: _Uri, key: Annotated[str, typer.Argument(help="project/model@version/dataset/intermediate")]) -> None:
    """Show what is known of one intermediate, its first rows, and how a question of it would be answered."""
    with _one_line_errors(), _open(uri, mode="r") as store:
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
    with _one_line_errors(), _open(uri, mode="r") as store:
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
def log(
    uri: _Uri, model: Annotated[str | None, typer.Argument(help="One model; all of them when left out.")] = None
) -> None:
    """What came from what: each version, how it differs from the one before it, its tags, notes and links."""
    with _one_line_errors(), _open(uri, mode="r") as store:
        typer.echo("\n".join(log_lines(store, model)))


@app.command()
def diff(uri: _Uri, version: _Version, other: _Version) -> None:
    """How the second of two versions differs from the first: parameters, stages, weights, libraries."""
    with _one_line_errors(), _open(uri, mode="r") as store:
        typer.echo(repr(mistique.diff(store, version, other=other)))


@app.command()
def tag(
    uri: _Uri,
    version: _Version,
    name: Annotated[str, typer.Argument(help="Stands for the version in keys: homes/ridge@best/...")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it away.")] = False,
) -> None:
    """Give a version a tag."""
    with _one_line_errors(), _open(uri, mode="a") as store:
        store.tag(version, name, remove=remove)


@app.command()
def note(uri: _Uri, version: _Version, text: str) -> None:
    """Add a note to a version."""
    with _one_line_errors(), _open(uri, mode="a") as store:
        store.note(version, text)


@app.command()
def link(
    uri: _Uri,
    version: _Version,
    tool: Annotated[str, typer.Argument(help="mlflow, wandb, ...")],
    run: Annotated[str, typer.Argument(help="Its id of the run.")],
) -> None:
    """Note what another tool calls a version."""
    with _one_line_errors(), _open(uri, mode="a") as store:
        store.link(version, **{tool: run})


@app.command()
def rename(uri: _Uri, model: str, to: str) -> None:
    """Give a model another name."""
    with _one_line_errors(), _open(uri, mode="a") as store:
        store.rename(model, to=to)


@app.command()
def delete(
    uri: _Uri,
    version: _Version,
    dataset: Annotated[str | None, typer.Option(help="Only what was captured over it.")] = None,
) -> None:
    """Delete a version; what others share with it stays, the rest goes when the store is compacted."""
    with _one_line_errors(), _open(uri, mode="a") as store:
        store.delete(version, dataset=dataset)


@app.command()
def export(
    uri: _Uri,
    key: Annotated[str, typer.Argument(help="project/model@version/dataset/intermediate")],
    path: Annotated[Path, typer.Argument(help="Ends in .parquet, .npy, .nc or .zarr.")],
) -> None:
    """Write an intermediate to a file that other tools read."""
    with _one_line_errors(), _open(uri, mode="r") as store:
        typer.echo(str(mistique.export(store, key, path=path)))


@app.command("import")
def import_(
    uri: _Uri,
    key: Annotated[str, typer.Argument(help="project/model@new/dataset/intermediate; of an .npz without the last.")],
    path: Annotated[Path, typer.Argument(help="Ends in .npy, .npz or .parquet; a row for each example.")],
) -> None:
    """Put activations that were made elsewhere into a store; @new makes a version, @2 adds to one."""
    with _one_line_errors(), mistique.open(uri, key=_key.get()) as store:
        asked = mistique.Key.parse(key if key[key.find("@") :].count("/") > 1 else f"{key}/*")
        facts = {"model": asked.model, "dataset": asked.dataset, "version": asked.version}
        name = None if asked.intermediate == "*" else asked.intermediate
        typer.echo(mistique.add(store, path, name=name, **facts))


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
    with _one_line_errors(), _open(uri, mode="r") as store:
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
    with _one_line_errors(), _open(uri, mode="r", trust=trust) as store:
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
    with _one_line_errors(), _open(uri, mode="a") as store:
        typer.echo(store.compact(grace_seconds=grace_seconds).line())


@app.command()
def gc(
    uri: _Uri,
    grace_seconds: Annotated[float, typer.Option(min=0, help="Keep what is younger, or out of use for less.")] = 3600,
) -> None:
    """Remove what nothing refers to; nothing is written again."""
    with _one_line_errors(), _open(uri, mode="a") as store:
        typer.echo(store.gc(grace_seconds=grace_seconds).line())


@app.command()
def check(
    uri: _Uri,
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged, and nothing else.")] = False,
) -> None:
    """Read all of a store; say what is damaged, what that costs, and what is whole. Exit code 1 if it is damaged."""
    with _one_line_errors(), _open(uri, mode="a" if repair else "r") as store:
        found = store.check(repair=repair)
    typer.echo("\n".join(found.lines()))
    if not found.is_whole:
        raise typer.Exit(1)


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
