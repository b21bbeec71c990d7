"""The command that plans a question without asking it."""

from __future__ import annotations

from inspect import signature
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

# What a question needs beside these is given in Python.
_QUERIES = (
    *("get", "topk", "knn", "col_dist", "col_diff", "row_diff"),
    *("class_means", "corr", "cka", "svcca", "dead_units", "drift"),
)


@commands.command()
def explain(
    uri: Uri,
    key: IntermediateKey,
    query: Annotated[str, typer.Option(help=f"The question: {', '.join(_QUERIES)}.")] = "get",
    rows: Annotated[
        str | None, typer.Option(help="Labels with commas between them, or positions as FROM:TO. Default: all.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names or numbers with commas between them. Default: all.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="One, by name or number.")] = None,
    unit: Annotated[str | None, typer.Option(help="Neurons or channels: numbers with commas between them.")] = None,
    row: Annotated[str | None, typer.Option(help="The label of the row asked about.")] = None,
    position: Annotated[int | None, typer.Option(help="Or its position in the dataset.")] = None,
    other: Annotated[str | None, typer.Option(help="The key of what it is compared with.")] = None,
    by: Annotated[str | None, typer.Option(help="Groups: a column of the input, or of one column.")] = None,
    k: Annotated[int | None, typer.Option("--k", "-k", min=1, help="How many.")] = None,
    reduce: Annotated[str | None, typer.Option(help="Over the positions of a unit.")] = None,
    threshold: Annotated[float | None, typer.Option(help="As the question has it.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Never answer with quantized values.")] = False,
    trust: Trust = False,
) -> None:
    """Show every road to an answer, what it is predicted to take, and which would be taken; the question is not run.

    Example: mistique explain homes.mistique cifar/cnn@1/test/conv2 --query topk --unit 3 -k 10
    """
    query = query.replace("-", "_")  # as the commands are written
    units = labels_of(unit)
    given: dict[str, Any] = {
        "rows": rows_of(rows),
        "columns": labels_of(columns),
        "column": label_of(column),
        "unit": units[0] if units is not None and len(units) == 1 else units,
        "row": label_of(row),
        "position": position,
        "other": other,
        "by": by,
        "k": k,
        "reduce": reduce,
        "threshold": threshold,
        "exact": exact or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    with one_line_errors():
        _check(query, given)
        with open_store(uri, mode="r", trust=trust) as store:
            asked = given if query == "get" else {"query": getattr(mistique, query), **given}
            show_text(repr(mistique.explain(store, key, **asked)))


def _check(query: str, given: dict[str, Any]) -> None:
    """Raise a `QueryError` for a question that there is not, or that does not take what was given, or needs more."""
    if query not in _QUERIES:
        raise QueryError(f"--query: expected one of {', '.join(_QUERIES)}, got {query!r}")
    takes = dict(list(signature(getattr(mistique, query)).parameters.items())[2:])
    if unknown := [f"--{name}" for name in given if name not in takes]:
        known = ", ".join(f"--{name}" for name in signature(explain).parameters if name in takes)
        raise QueryError(f"{query} takes no {', '.join(unknown)}; it takes {known}")
    if missing := [f"--{name}" for name, one in takes.items() if one.default is one.empty and name not in given]:
        raise QueryError(f"{query} needs {', '.join(missing)}")
