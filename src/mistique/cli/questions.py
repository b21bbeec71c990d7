"""Commands that ask a question of what is stored: each is the function of the same name, its answer a table."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

import mistique
from mistique.cli.opening import (
    IntermediateKey,
    Trust,
    Uri,
    label_of,
    labels_of,
    one_line_errors,
    open_store,
    rows_of,
    show_text,
)
from mistique.errors import QueryError

commands = typer.Typer()

Dataset = Annotated[str, typer.Argument(metavar="KEY", help="project/model@version/dataset, or one intermediate of it")]
Rows = Annotated[str | None, typer.Option(help="Labels with commas between them, or positions as FROM:TO.")]
Columns = Annotated[str | None, typer.Option(help="Names or numbers with commas between them.")]
Column = Annotated[str | None, typer.Option(help="By name or number.")]
Units = Annotated[str | None, typer.Option(help="Neurons or channels: numbers with commas between them.")]
Other = Annotated[str, typer.Option(help="The key of what it is compared with.")]
Row = Annotated[str | None, typer.Option(help="The label of the row asked about.")]
Position = Annotated[int | None, typer.Option(help="Or its position in the dataset.")]
Count = Annotated[int, typer.Option("--k", "-k", min=1, help="How many.")]
By = Annotated[str | None, typer.Option(help="Groups: a column of the input, or an intermediate of one column.")]
Exact = Annotated[bool, typer.Option("--exact", help="Never answer with quantized values.")]
Csv = Annotated[bool, typer.Option("--csv", help="All of the answer as CSV, not the head of it as a table.")]
Plot = Annotated[Path | None, typer.Option(help="Draw the answer into this file as well: .png, .svg, .pdf.")]


@commands.command()
def get(
    uri: Uri,
    key: IntermediateKey,
    rows: Rows = None,
    columns: Columns = None,
    unit: Units = None,
    exact: Exact = False,
    csv: Csv = False,
    trust: Trust = False,
) -> None:
    """Some rows and columns of an intermediate, read or recomputed."""
    chosen: dict[str, Any] = {"rows": rows_of(rows), "columns": labels_of(columns), "unit": labels_of(unit)}
    _answer(uri, "get", key, csv=csv, trust=trust, **chosen, exact=exact)


@commands.command()
def topk(
    uri: Uri,
    key: IntermediateKey,
    unit: Units = None,
    columns: Columns = None,
    row: Row = None,
    position: Position = None,
    n_units: Annotated[int, typer.Option(min=1, help="Of the row: how many of its largest units.")] = 3,
    k: Count = 10,
    smallest: Annotated[bool, typer.Option("--smallest", help="The smallest first.")] = False,
    reduce: Annotated[str, typer.Option(help="Over the positions of a unit: max or mean.")] = "max",
    combine: Annotated[str, typer.Option(help="Of a group: sum, mean, max, euclidean, manhattan.")] = "sum",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The rows on which a unit, a column, or a group of them is largest."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "unit": labels_of(unit), "largest": not smallest}
    asked |= {"row": label_of(row), "position": position, "n_units": n_units}
    _answer(
        uri, "topk", key, csv=csv, plot=plot, trust=trust, **asked, k=k, reduce=reduce, combine=combine, exact=exact
    )


@commands.command()
def knn(
    uri: Uri,
    key: IntermediateKey,
    row: Row = None,
    position: Position = None,
    k: Count = 10,
    columns: Columns = None,
    unit: Units = None,
    distance: Annotated[str, typer.Option(help="euclidean, manhattan, cosine or chebyshev.")] = "euclidean",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The rows that are nearest to a row."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "unit": labels_of(unit), "k": k, "distance": distance}
    asked |= {"row": label_of(row), "position": position}
    _answer(uri, "knn", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def col_dist(
    uri: Uri,
    key: IntermediateKey,
    column: Column = None,
    unit: Annotated[int | None, typer.Option(help="A neuron or channel.")] = None,
    bins: Annotated[int, typer.Option(min=1)] = 20,
    by: By = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """How the values of a column or unit are distributed, by group too."""
    asked: dict[str, Any] = {"column": label_of(column), "unit": unit, "bins": bins, "by": by}
    _answer(uri, "col_dist", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def col_diff(
    uri: Uri,
    key: IntermediateKey,
    other: Other,
    column: Column = None,
    by: By = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """Two models' error by group; or how two columns differ."""
    asked: dict[str, Any] = {"other": other, "column": label_of(column), "by": by}
    _answer(uri, "col_diff", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def row_diff(
    uri: Uri,
    key: IntermediateKey,
    rows: Annotated[str, typer.Option(help="Labels of two rows, a comma between them.")],
    against: Annotated[str | None, typer.Option(help="Where the second row is, if elsewhere.")] = None,
    columns: Columns = None,
    unit: Units = None,
    reduce: Annotated[str, typer.Option(help="Over the positions of a unit: none, mean or max.")] = "none",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """In what two rows differ, the largest difference first."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "unit": labels_of(unit), "reduce": reduce}
    pair = labels_of(rows)
    _answer(uri, "row_diff", key, csv=csv, plot=plot, trust=trust, **asked, rows=pair, against=against, exact=exact)


@commands.command()
def class_means(
    uri: Uri,
    key: IntermediateKey,
    by: By = "target",
    columns: Columns = None,
    unit: Units = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The mean of every column or unit over each group of rows."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "unit": labels_of(unit), "by": by}
    _answer(uri, "class_means", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def svcca(
    uri: Uri, key: IntermediateKey, other: Other, exact: Exact = False, csv: Csv = False, trust: Trust = False
) -> None:
    """How much of one layer another one holds too, up to a linear map."""
    _answer(uri, "svcca", key, csv=csv, trust=trust, other=other, exact=exact)


@commands.command()
def cka(
    uri: Uri,
    key: Dataset,
    other: Annotated[str | None, typer.Option(help="What to compare with; by default with itself.")] = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """How alike layers are, as a matrix of layers by layers."""
    _answer(uri, "cka", key, csv=csv, plot=plot, trust=trust, other=other, exact=exact)


@commands.command()
def corr(
    uri: Uri,
    key: IntermediateKey,
    other: Annotated[str | None, typer.Option(help="What to compare with; by default with itself.")] = None,
    columns: Columns = None,
    other_columns: Columns = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """Which columns of one intermediate follow which of another, the strongest correlation first."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "other_columns": labels_of(other_columns), "other": other}
    _answer(uri, "corr", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def slices(
    uri: Uri,
    key: Dataset,
    k: Count = 10,
    min_rows: Annotated[int, typer.Option(min=1, help="That a slice has.")] = 30,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The slices of the rows on which a model is most wrong."""
    _answer(uri, "slices", key, csv=csv, plot=plot, trust=trust, k=k, min_rows=min_rows)


@commands.command()
def drift(
    uri: Uri,
    key: Dataset,
    other: Other,
    columns: Columns = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """How far two datasets or versions lie apart, and the stage at which they part."""
    asked: dict[str, Any] = {"other": other, "columns": labels_of(columns)}
    _answer(uri, "drift", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def trace(
    uri: Uri,
    key: Dataset,
    row: Annotated[str, typer.Option(help="The label of the row.")],
    other_row: Annotated[str | None, typer.Option(help="The label of another row.")] = None,
    other: Annotated[str | None, typer.Option(help="Or another version or dataset that has the row.")] = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """One row through every stage, beside another row, version or dataset, and where they part."""
    asked: dict[str, Any] = {"row": label_of(row), "other_row": label_of(other_row), "other": other}
    _answer(uri, "trace", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def dead_units(uri: Uri, key: Dataset, csv: Csv = False, plot: Plot = None, trust: Trust = False) -> None:
    """The units that never fire, and those that always do, of every layer and epoch."""
    _answer(uri, "dead_units", key, csv=csv, plot=plot, trust=trust)


@commands.command()
def epochs(uri: Uri, key: Dataset, csv: Csv = False, plot: Plot = None, trust: Trust = False) -> None:
    """When in training each layer settled."""
    _answer(uri, "epochs", key, csv=csv, plot=plot, trust=trust)


def _answer(
    uri: str, question: str, key: str, *, csv: bool, trust: bool, plot: Path | None = None, **asked: Any
) -> None:
    """Ask, and print the answer; draw it, where a file was named."""
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
