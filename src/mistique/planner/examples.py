"""Running a kept model on rows that were never captured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mistique.errors import ModelMismatchError, NoPlanError
from mistique.ingest.columns import describe, describe_array
from mistique.planner.measured import Took
from mistique.planner.values import Values, values_of
from mistique.schema import Intermediate
from mistique.storage.captures import Capture

if TYPE_CHECKING:
    from mistique.store import Store


def run_on(
    store: Store, capture: Capture, intermediate: Intermediate, example: Any, *, columns: np.ndarray | None = None
) -> Values:
    """The values of an intermediate for one new row of input.

    Parameters
    ----------
    store : Store
    capture : Capture
    intermediate : Intermediate
        The input itself, a stage or a layer.
    example : array, frame, series, or mapping
        One row, as the model takes it: an array of the shape of one row, or of one row; a frame of one row, a series or
        a mapping of columns; of a network with several inputs, a mapping of their names to arrays.
    columns : ndarray of int64, optional

    Raises
    ------
    ModelMismatchError
        The model takes other rows.
    NoPlanError
        It was not kept, or does not come out alike twice.
    UntrustedArtifactError

    Notes
    -----
    Of a network the row is repeated to a whole batch of the capture: in a batch of another size its sums would be
    taken in another order, and a row that was captured would differ from itself by 1e-6.
    """
    inputs = {name: node for name, node in capture.intermediates.items() if node.role == "input"}
    _check_runs(capture, intermediate, inputs)
    sources = _sources(inputs, example)
    if intermediate.role == "input":
        output: Any = sources[intermediate.name]
    else:
        output = _run(store, capture, intermediate, sources)
    what = f"example of {intermediate.name!r}"
    described = describe(output, what=what) if intermediate.is_table else describe_array(output, what=what)
    return values_of(described, intermediate, np.arange(intermediate.n_columns) if columns is None else columns)


def _check_runs(capture: Capture, intermediate: Intermediate, inputs: Mapping[str, Intermediate]) -> None:
    version, why_not = capture.version, ""
    if intermediate.role == "input":
        return
    if intermediate.role not in ("stage", "prediction"):
        why_not = f"it is the model's {intermediate.role}, not computed by it"
    elif version.artifact is None:
        why_not = f"the model was not kept{': ' + version.artifact_note if version.artifact_note else ''}"
    elif intermediate.recompute_difference is None:
        why_not = intermediate.recompute_note or "it does not come out alike twice"
    elif not inputs:
        why_not = "the input was not captured, so it is not known what the model takes"
    if why_not:
        raise NoPlanError(key=f"a new example of {capture.prefix}/{intermediate.name}", reasons=[why_not])


def _run(store: Store, capture: Capture, intermediate: Intermediate, sources: Mapping[str, Any]) -> Any:
    version = capture.version
    model = store.runnable.get(version, took=Took(), calibration=store.calibration)
    if version.batch_rows > 1:
        sources = {name: np.repeat(array, version.batch_rows, axis=0) for name, array in sources.items()}
    output, *_ = store.runnable.run(
        version, model, sources=sources, target=intermediate.name, intermediates=capture.intermediates
    )
    return output[:1]


def _sources(inputs: Mapping[str, Intermediate], example: Any) -> dict[str, Any]:
    """One row for each input of the model, in the containers in which they were captured."""
    if len(inputs) == 1:
        ((name, node),) = inputs.items()
        return {name: _frame(node, example) if node.container == "frame" else _array(node, example)}
    if not isinstance(example, Mapping) or set(example) != {name.partition("/")[2] for name in inputs}:
        names = ", ".join(name.partition("/")[2] for name in inputs)
        raise _mismatch(f"a mapping of the inputs {names} to arrays", f"{example!r:.80}")
    return {name: _array(node, example[name.partition("/")[2]]) for name, node in inputs.items()}


def _array(node: Intermediate, example: Any) -> Any:
    dtype = "float32" if node.types[0].dtype == "bfloat16" else node.types[0].dtype
    try:
        array = np.asarray(example, dtype if len(node.types) == 1 and dtype != "str" else None)
    except (ValueError, TypeError) as error:
        raise _mismatch(f"numbers of {dtype}", str(error)) from error
    shapes = [node.shape, (1, *node.shape)] + ([(), (1,)] if node.container == "vector" else [])
    if array.shape not in shapes:
        raise _mismatch(f"one row of shape {node.shape}", f"shape {array.shape}")
    row = array.reshape(1) if node.container == "vector" else array.reshape(1, *node.shape)
    if node.container != "sparse":
        return row
    from scipy.sparse import csr_matrix

    return csr_matrix(row)


def _frame(node: Intermediate, example: Any) -> Any:
    import pandas as pd

    names = list(node.column_names())
    if isinstance(example, pd.DataFrame):
        frame = example
    elif isinstance(example, Mapping):
        frame = pd.DataFrame([dict(example)])
    elif isinstance(example, pd.Series):
        frame = example.to_frame().T
    else:
        raise _mismatch("a frame of one row, a series or a mapping", type(example).__name__)
    missing = [name for name in names if name not in frame.columns]
    if missing or len(frame) != 1:
        got = f"none of {', '.join(missing[:6])}" if missing else f"{len(frame)} rows"
        raise _mismatch(f"one row with columns {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}", got)
    kinds = {}
    for i, name in enumerate(names):
        kind = node.type_of(i)
        is_categorical = kind.categories is not None
        kinds[name] = pd.CategoricalDtype(kind.categories, kind.is_ordered) if is_categorical else kind.dtype
    try:
        return frame[names].astype(kinds)
    except (ValueError, TypeError) as error:
        raise _mismatch("values of the columns' types", str(error)) from error


def _mismatch(expected: str, got: object) -> ModelMismatchError:
    hint = "Give the row as it would go into the model"
    return ModelMismatchError(model="example:", expected=expected, got=str(got), hint=hint)
