"""Commands that take intermediates out of a store and into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mistique
from mistique.cli.opening import KEY, IntermediateKey, Uri, one_line_errors, open_store
from mistique.errors import InvalidKeyError, QueryError

commands = typer.Typer()


@commands.command()
def export(
    uri: Uri,
    key: IntermediateKey,
    path: Annotated[Path, typer.Argument(help="Ends in .parquet, .npy, .nc or .zarr.")],
) -> None:
    """Write an intermediate to a file that other tools read."""
    with one_line_errors():
        _check_order("export", uri, key, path)
        with open_store(uri, mode="r") as store:
            typer.echo(str(mistique.export(store, key, path=path)))


@commands.command("import")
def import_(
    uri: Uri,
    key: Annotated[str, typer.Argument(help="project/model@new/dataset/intermediate; of an .npz without the last.")],
    path: Annotated[Path, typer.Argument(help="Ends in .npy, .npz or .parquet; a row for each example.")],
) -> None:
    """Put activations that were made elsewhere into a store; @new makes a version, @2 adds to one."""
    with one_line_errors():
        _check_order("import", uri, key, path)
        try:
            asked = mistique.Key.parse(key if key[key.find("@") :].count("/") > 1 else f"{key}/*")
        except InvalidKeyError:
            expected = "a key such as torch/net@new/valid/conv1, or torch/net@new/valid for an .npz"
            raise InvalidKeyError(text=key, expected=expected) from None
        facts = {"model": asked.model, "dataset": asked.dataset, "version": asked.version}
        name = None if asked.intermediate == "*" else asked.intermediate
        with mistique.open(uri, key=KEY.get()) as store:
            typer.echo(mistique.add(store, path, name=name, **facts))


def _check_order(command: str, uri: str, key: str, path: Path) -> None:
    """Tell a file that was given for a key."""
    if "@" not in key and "@" in str(path):
        raise QueryError(f"expected the key before the file: mistique {command} {uri} {path} {key}")
