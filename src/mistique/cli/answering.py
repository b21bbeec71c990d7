"""What the commands that ask a question share: how things are named, and how an answer is printed and drawn."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

import mistique
from mistique.cli.opening import one_line_errors, open_store, show_text
from mistique.errors import QueryError

Dataset = Annotated[str, typer.Argument(metavar="KEY", help="project/model@version/dataset, or one intermediate of it")]
Rows = Annotated[str | None, typer.Option(help="Labels with commas between them, or positions as FROM:TO.")]
Columns = Annotated[str | None, typer.Option(help="Names or numbers with commas between them.")]
Column = Annotated[str | None, typer.Option(help="By name or number.")]
Units = Annotated[str | None, typer.Option(help="Neurons or channels: numbers with commas between them.")]
Unit = Annotated[int | None, typer.Option(help="A neuron or channel.")]
Reduce = Annotated[str, typer.Option(help="Over the positions of a unit: none, mean or max.")]
Other = Annotated[str, typer.Option(help="The key of what it is compared with.")]
Row = Annotated[str | None, typer.Option(help="The label of the row asked about.")]
Position = Annotated[int | None, typer.Option(help="Or its position in the dataset.")]
Count = Annotated[int, typer.Option("--k", "-k", min=1, help="How many.")]
By = Annotated[str | None, typer.Option(help="Groups: a column of the input, or an intermediate of one column.")]
Exact = Annotated[bool, typer.Option("--exact", help="Never answer with quantized values.")]
Csv = Annotated[bool, typer.Option("--csv", help="All of the answer as CSV, not the head of it as a table.")]
Plot = Annotated[Path | None, typer.Option(help="Draw the answer into this file as well: .png, .svg, .pdf.")]


def answer(
    uri: str, question: str, key: str, *, csv: bool, trust: bool, plot: Path | None = None, **asked: Any
) -> None:
    """Ask, and print the answer; draw it, where a file was named.

    Parameters
    ----------
    uri : str
    question : str
        The name of a function of `mistique`.
    key : str
    csv : bool
        All of the answer, not the head of it as a table.
    trust : bool
    plot : Path, optional
    **asked
        What the function takes besides.
    """
    with one_line_errors(), open_store(uri, mode="r", trust=trust) as store:
        found = getattr(mistique, question)(store, key, **asked)
        if csv:
            typer.echo(found.to_frame().to_csv(), nl=False)
        else:
            show_text(repr(found))
        if plot is not None:
            _draw(found, plot)


def _draw(answer: Any, path: Path) -> None:
    try:
        import_module("matplotlib").use("Agg")
        axes = answer.plot()
        first = axes.flat[0] if hasattr(axes, "flat") else axes
        first.figure.savefig(path, bbox_inches="tight")
    except ImportError as error:
        raise QueryError(f'a plot needs matplotlib: pip install "mistique[plots]" ({error})') from error
    except (ValueError, OSError) as error:
        raise QueryError(f"{path}: {error}") from error
