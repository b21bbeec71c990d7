"""Commands that ask about rows and columns: each is the function of the same name, its answer a table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mistique.cli.answering import (
    By,
    Column,
    Columns,
    Count,
    Csv,
    Exact,
    Other,
    Plot,
    Position,
    Reduce,
    Row,
    Rows,
    Unit,
    Units,
    answer,
)
from mistique.cli.opening import IntermediateKey, Trust, Uri, label_of, labels_of, rows_of

commands = typer.Typer()


@commands.command()
def get(
    uri: Uri,
    key: IntermediateKey,
    rows: Rows = None,
    columns: Columns = None,
    unit: Units = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """Some rows and columns of an intermediate, read or recomputed."""
    chosen: dict[str, Any] = {"rows": rows_of(rows), "columns": labels_of(columns), "unit": labels_of(unit)}
    answer(uri, "get", key, csv=csv, plot=plot, trust=trust, **chosen, exact=exact)


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
    answer(uri, "topk", key, csv=csv, plot=plot, trust=trust, **asked, k=k, reduce=reduce, combine=combine, exact=exact)


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
    approximate: Annotated[
        bool, typer.Option("--approximate", help="By a graph of the rows, which may miss some.")
    ] = False,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The rows that are nearest to a row."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "unit": labels_of(unit), "k": k, "distance": distance}
    asked |= {"row": label_of(row), "position": position, "approximate": approximate}
    answer(uri, "knn", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def col_dist(
    uri: Uri,
    key: IntermediateKey,
    column: Column = None,
    unit: Unit = None,
    bins: Annotated[int, typer.Option(min=1)] = 20,
    by: By = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """How the values of a column or unit are distributed, by group too."""
    asked: dict[str, Any] = {"column": label_of(column), "unit": unit, "bins": bins, "by": by}
    answer(uri, "col_dist", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def col_diff(
    uri: Uri,
    key: IntermediateKey,
    other: Other,
    column: Column = None,
    unit: Unit = None,
    by: By = None,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """Two models' error by group; or how two columns differ."""
    asked: dict[str, Any] = {"other": other, "column": label_of(column), "unit": unit, "by": by}
    answer(uri, "col_diff", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def row_diff(
    uri: Uri,
    key: IntermediateKey,
    rows: Annotated[str | None, typer.Option(help="Labels of two rows, a comma between them.")] = None,
    positions: Annotated[str | None, typer.Option(help="Or their positions in the dataset.")] = None,
    against: Annotated[str | None, typer.Option(help="Where the second row is, if elsewhere.")] = None,
    columns: Columns = None,
    unit: Units = None,
    reduce: Reduce = "none",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """In what two rows differ, the largest difference first."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "unit": labels_of(unit), "reduce": reduce}
    asked |= {"rows": labels_of(rows), "positions": labels_of(positions), "against": against}
    answer(uri, "row_diff", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def class_means(
    uri: Uri,
    key: IntermediateKey,
    by: By = "target",
    columns: Columns = None,
    unit: Units = None,
    reduce: Reduce = "mean",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The mean of every column or unit over each group of rows."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "unit": labels_of(unit), "by": by, "reduce": reduce}
    answer(uri, "class_means", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)
