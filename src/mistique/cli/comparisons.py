"""Commands that compare layers, datasets and epochs: each is the function of the same name, its answer a table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mistique.cli.answering import Columns, Count, Csv, Dataset, Exact, Other, Plot, Reduce, Units, answer
from mistique.cli.opening import IntermediateKey, Trust, Uri, label_of, labels_of

commands = typer.Typer()


@commands.command()
def svcca(
    uri: Uri,
    key: IntermediateKey,
    other: Other,
    variance: Annotated[float, typer.Option(help="Share of it that the directions kept hold.")] = 0.99,
    columns: Columns = None,
    other_columns: Columns = None,
    reduce: Reduce = "none",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """How much of one layer another one holds too, up to a linear map."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "other_columns": labels_of(other_columns)}
    asked |= {"other": other, "variance": variance, "reduce": reduce}
    answer(uri, "svcca", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def cka(
    uri: Uri,
    key: Dataset,
    other: Annotated[str | None, typer.Option(help="What to compare with; by default with itself.")] = None,
    batch_rows: Annotated[int, typer.Option(min=4, help="Rows of which an estimate is made.")] = 256,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """How alike layers are, as a matrix of layers by layers."""
    answer(uri, "cka", key, csv=csv, plot=plot, trust=trust, other=other, batch_rows=batch_rows, exact=exact)


@commands.command()
def corr(
    uri: Uri,
    key: IntermediateKey,
    other: Annotated[str | None, typer.Option(help="What to compare with; by default with itself.")] = None,
    columns: Columns = None,
    other_columns: Columns = None,
    reduce: Annotated[str, typer.Option(help="Over the positions of a unit: mean or max.")] = "mean",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """Which columns of one intermediate follow which of another, the strongest correlation first."""
    asked: dict[str, Any] = {"columns": labels_of(columns), "other_columns": labels_of(other_columns)}
    asked |= {"other": other, "reduce": reduce}
    answer(uri, "corr", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def slices(
    uri: Uri,
    key: Dataset,
    by: Annotated[str | None, typer.Option(help="Columns of the input, commas between; by default all.")] = None,
    loss: Annotated[str | None, typer.Option(help="absolute, squared or error; by default what fits.")] = None,
    k: Count = 10,
    bins: Annotated[int, typer.Option(min=2, help="Groups that numbers are cut into.")] = 4,
    min_rows: Annotated[int, typer.Option(min=2, help="That a slice has.")] = 30,
    correction: Annotated[str, typer.Option(help="Of p, for the many looks: holm or benjamini-hochberg.")] = "holm",
    alpha: Annotated[float, typer.Option(help="Slices with a smaller p come first.")] = 0.05,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The slices of the rows on which a model is most wrong."""
    asked: dict[str, Any] = {"by": None if by is None else by.split(","), "loss": loss, "k": k, "bins": bins}
    asked |= {"min_rows": min_rows, "correction": correction, "alpha": alpha}
    answer(uri, "slices", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def drift(
    uri: Uri,
    key: Dataset,
    other: Other,
    columns: Columns = None,
    unit: Units = None,
    threshold: Annotated[float, typer.Option(help="Of KS or PSI: from here on it is drift.")] = 0.1,
    bins: Annotated[int, typer.Option(min=2, help="Of the PSI.")] = 10,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """How far two datasets or versions lie apart, and the stage at which they part."""
    asked: dict[str, Any] = {"other": other, "columns": labels_of(columns), "unit": labels_of(unit)}
    asked |= {"threshold": threshold, "bins": bins}
    answer(uri, "drift", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def trace(
    uri: Uri,
    key: Dataset,
    row: Annotated[str, typer.Option(help="The label of the row.")],
    other_row: Annotated[str | None, typer.Option(help="The label of another row.")] = None,
    other: Annotated[str | None, typer.Option(help="Or another version or dataset that has the row.")] = None,
    tolerance: Annotated[float, typer.Option(help="Of the larger of two numbers: nearer ones do not part.")] = 1e-6,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """One row through every stage, beside another row, version or dataset, and where they part."""
    asked: dict[str, Any] = {"row": label_of(row), "other_row": label_of(other_row), "other": other}
    asked["tolerance"] = tolerance
    answer(uri, "trace", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)


@commands.command()
def dead_units(
    uri: Uri,
    key: Dataset,
    threshold: Annotated[float, typer.Option(help="A value above it fires.")] = 0.0,
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """The units that never fire, and those that always do, of every layer and epoch."""
    answer(uri, "dead_units", key, csv=csv, plot=plot, trust=trust, threshold=threshold, exact=exact)


@commands.command()
def epochs(
    uri: Uri,
    key: Dataset,
    n_rows: Annotated[int, typer.Option(min=4, help="Rows that are compared.")] = 1_000,
    threshold: Annotated[float, typer.Option(help="Likeness to the last epoch of a layer that settled.")] = 0.95,
    measure: Annotated[str, typer.Option(help="cka or svcca.")] = "cka",
    exact: Exact = False,
    csv: Csv = False,
    plot: Plot = None,
    trust: Trust = False,
) -> None:
    """When in training each layer settled."""
    asked: dict[str, Any] = {"n_rows": n_rows, "threshold": threshold, "measure": measure}
    answer(uri, "epochs", key, csv=csv, plot=plot, trust=trust, **asked, exact=exact)
