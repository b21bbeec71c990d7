"""What a record claims of rows and columns, held against what is stored: a stranger may claim what no memory holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mistique.errors import ChunkCorruptError
from mistique.planner.summary import stored_columns
from mistique.schema import Intermediate

# Believed of what is not stored, whatever is stored beside it.
_MAX_ROWS, _MAX_COLUMNS = 2**20, 2**26


def check_stored(node: Intermediate) -> None:
    """See that as many chunks are referred to as the rows and columns of a stored intermediate need.

    Raises
    ------
    ChunkCorruptError
    """
    assert node.references is not None
    stored, _ = stored_columns(node, np.empty(0, np.int64))
    found = sum(run.n_blocks * run.n_groups for run in node.references.runs)
    n_blocks = stored.n_blocks if node.references.is_whole else node.references.n_blocks_held
    assert n_blocks is not None
    # The masks of nullable columns are counted after that: a loop over as many columns as there are groups, by then.
    is_believable = n_blocks * stored.n_groups <= found
    if not is_believable or n_blocks * (stored.n_groups + len(stored.mask_groups)) != found:
        raise _refused(node, f"{found} chunks")


def check_claims(node: Intermediate, graph: Mapping[str, Intermediate]) -> None:
    """See that an intermediate that is not all stored has no more rows than something that is, or than is little.

    Parameters
    ----------
    node : Intermediate
    graph : mapping of str to Intermediate
        Of its capture, with references of those that are stored, which `check_stored` found right.

    Raises
    ------
    ChunkCorruptError
    """
    if node.references is not None and node.references.is_whole:
        return
    if node.n_columns > _MAX_COLUMNS:
        raise _refused(node, "nothing that is stored of it")
    if node.n_rows > _MAX_ROWS:
        whole = [one.n_rows for one in graph.values() if one.references is not None and one.references.is_whole]
        if node.n_rows > max(whole, default=0):
            raise _refused(node, f"at most {max(whole, default=0)} rows of what is stored beside it")


def _refused(node: Intermediate, found: str) -> ChunkCorruptError:
    return ChunkCorruptError(
        where=f"references of {node.name!r}", expected=f"{node.n_rows} rows of shape {node.shape}", got=found
    )
