"""What reads and runs are predicted to take, from what was measured of their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mistique.planner.calibration import Calibration
from mistique.planner.column_values import is_plain
from mistique.planner.cost import AROUND_START, CALL_START, IMPORT_START, LABELS_START, TRACE_START, Cost, ReadWork
from mistique.planner.question import Question, read_subject
from mistique.planner.read_work import decoded_values, read_work
from mistique.schema import Intermediate

_STAGES = ("stage", "prediction")
# Encoded bytes over those of the values, of what is not stored yet.
_ENCODED_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class RunCost:
    """What running the stages between some sources and a target costs, of `run_amounts`.

    Parameters
    ----------
    cost : Cost
    n_stages : int
    basis : str
    """

    cost: Cost
    n_stages: int
    basis: str


def run_cost(question: Question, sources: Sequence[str], calibration: Calibration) -> RunCost:
    """From what each stage took here, or at capture, and from what this very road took before."""
    running = ancestors_that_run(question.graph, question.target.name, sources)
    each = [stage_cost(question, name, calibration) for name in running]
    fixed, slope = sum(c.seconds_each[0] for c in each), sum(c.seconds_each[1] for c in each)
    # A run is more than its stages: what they are given is made of what was read, and what they give is taken apart.
    converting = calibration.cost("around", question.version.framework, AROUND_START)
    *_, given, partial = converting.seconds_each
    of_batch = question.version.batch_rows or 1
    around = around_amounts(question, sources, of_batch)
    call = converting.seconds((*around[:2], *[0.0] * len(around[2:])))
    row = (converting.seconds(around) - call) / of_batch - given * given_values(question, 1)
    start = fixed + call, slope + row, given, partial
    cost = calibration.cost("run", run_subject(question, sources), start)
    if cost.n_observations:
        basis = f"{cost.n_observations} such runs measured"
    elif calibration.n_runs(question.model):
        basis = f"{calibration.n_runs(question.model)} other runs of the model measured"
    elif calibration.is_known("captured", question.model):
        basis = "as measured at capture"
    else:
        basis = "as measured at capture on another machine: a guess here"
    return RunCost(cost, len(running), basis)


def stage_cost(question: Question, name: str, calibration: Calibration) -> Cost:
    """Of one stage or layer: seconds of a call, and of a row."""
    # What is known of other stages of the model here, until this one ran.
    ratio = calibration.stage_ratio(question.model)
    start = [ratio * seconds for seconds in stage_start(question, name)]
    return calibration.cost("stage", f"{question.model}\t{name}", start)


def stage_start(question: Question, name: str) -> tuple[float, float]:
    """Seconds of a call and of a row, as measured at the capture."""
    node = question.graph[name]
    return max(node.forward_seconds_per_call, CALL_START), max(node.forward_seconds_per_row, 1e-9)


def stage_amounts(question: Question, n_rows: int) -> tuple[float, float]:
    """The work of a stage: calls and rows."""
    batch = question.version.batch_rows
    return (-(-n_rows // batch) if batch else 1), n_rows


def run_amounts(question: Question, n_rows: int) -> tuple[float, float, float, float]:
    """The work of a run: calls, rows, values of a layer that are given, and batches that are not whole."""
    return *stage_amounts(question, n_rows), given_values(question, n_rows), n_partial_batches(question, n_rows)


def n_partial_batches(question: Question, n_rows: int) -> float:
    """The last, where it is no whole batch of the capture: its layers run one by one."""
    batch = question.version.batch_rows
    return float(n_rows % batch > 0) if batch else 0.0


def given_values(question: Question, n_rows: int) -> float:
    """Values of a layer that are taken from what ran and put together; columns of a table are handed on."""
    return 0.0 if question.target.is_table else float(n_rows * len(question.columns))


def around_amounts(question: Question, sources: Sequence[str], n_rows: int) -> tuple[float, ...]:
    """The work around a run, of the kinds that `AROUND_START` lists."""
    given, target = [question.graph[name] for name in sources], question.target
    n_columns = sum(_n_single_columns(node) for node in (*given, target))
    n_texts = sum(_n_text_columns(node) for node in (*given, target))
    n_given = sum(node.n_columns for node in given)
    values = n_rows * n_given, n_rows * target.n_columns, n_rows * n_texts, given_values(question, n_rows)
    return 1.0, float(n_columns), *map(float, values), n_partial_batches(question, n_rows)


def _n_single_columns(node: Intermediate) -> int:
    """Columns that pandas hands over one by one: those of a table whose columns are not all numbers of one type."""
    first = node.types[0]
    is_matrix = is_plain(first) and all(kind.dtype == first.dtype for kind in node.types)
    return node.n_columns if node.is_table and not is_matrix else 0


def _n_text_columns(node: Intermediate) -> int:
    is_text = [kind.cell == "<U0" for kind in node.types]
    return sum(is_text) if len(is_text) > 1 else node.n_columns * is_text[0] if is_text else 0


def run_subject(question: Question, sources: Sequence[str]) -> str:
    """What runs between these are kept under."""
    return f"{question.model}\t{question.target.name}\t{' '.join(sorted(sources))}"


def ready_seconds(question: Question, sources: tuple[str, ...], calibration: Calibration) -> float:
    """Until the model can run: its framework imported, itself loaded, and what is computed traced."""
    version, seconds = question.version, 0.0
    if not question.is_imported:
        seconds += calibration.cost("import", version.framework, (IMPORT_START,)).seconds((1,))
    if not question.model_is_loaded:
        seconds += calibration.cost("load", version.artifact or "", (version.load_seconds,)).seconds((1,))
    if question.needs_labels:
        seconds += calibration.cost("labels", "", LABELS_START).seconds((1, question.target.n_rows))
    if question.sets_up and not question.is_set_up(sources):
        n_stages = len(ancestors_that_run(question.graph, question.target.name, sources))
        seconds += calibration.cost("setup", question.model, TRACE_START).seconds((1, n_stages))
    return seconds


def ready_guesses(question: Question, sources: tuple[str, ...], calibration: Calibration) -> list[str]:
    """What `ready_seconds` rests on that was never measured on this host, in words."""
    version, model = question.version, question.model
    is_traced = not question.sets_up or question.is_set_up(sources)
    parts = [
        (f"importing {version.framework}", not question.is_imported, [("import", version.framework)]),
        ("loading", not question.model_is_loaded, [("load", version.artifact or ""), ("captured", model)]),
        ("labels", question.needs_labels, [("labels", "")]),
        ("tracing", not is_traced, [("setup", model)]),
    ]
    return [what for what, is_needed, known in parts if is_needed and not any(calibration.is_known(*k) for k in known)]


def read_seconds(
    question: Question,
    node: Intermediate,
    rows: np.ndarray,
    columns: np.ndarray | None,
    calibration: Calibration,
    *,
    by_column: bool = False,
) -> tuple[float, int, str]:
    """What reading is predicted to take, the bytes, and what that rests on; columns as in `read_work`."""
    work = _work(question, node, rows, columns, by_column=by_column)
    cost = calibration.read_cost(read_subject(node))
    basis = f"{cost.n_observations} reads measured" if cost.n_observations else "no read measured yet: a first guess"
    return cost.seconds(work.amounts), work.encoded_nbytes, basis


def _work(
    question: Question, node: Intermediate, rows: np.ndarray, columns: np.ndarray | None, *, by_column: bool
) -> ReadWork:
    """What a read is made of; that of all of an intermediate is counted once, until segments are opened or closed."""
    work = question.counted.get(node.name)
    is_whole = len(rows) == node.n_rows and (columns is None or len(columns) == node.n_columns)
    if work is None or not is_whole or work.n_opened != _n_closed(question, node):
        work = read_work(node, rows, columns, table_of=question.table_of)
        if is_whole:
            question.counted[node.name] = work
    return replace(work, n_turned=0) if by_column else work


def _n_closed(question: Question, node: Intermediate) -> int:
    """Segments of an intermediate that must be opened to be read."""
    if question.table_of is None or node.references is None:
        return 0
    return sum(question.table_of(segment.id) is None for segment in node.references.segments)


def read_seconds_if_stored(question: Question, calibration: Calibration) -> float:
    """What this question would take to read, had its target been stored."""
    target = question.target
    n_rows, n_columns = len(question.rows), len(question.columns)
    share = n_rows * n_columns / max(target.n_rows * target.n_columns, 1)
    # Shared chunks are read as well: what it would add to the store says nothing here.
    nbytes = target.raw_nbytes * _ENCODED_SHARE
    n_units = -(-n_rows // target.block_rows) * -(-n_columns // (16 if target.is_table else target.group_columns))
    n_cells = n_rows * n_columns
    work = ReadWork(
        1 if target.is_table else n_units,
        n_units,
        int(nbytes * share),
        round(decoded_values(target, n_rows, question.columns)),
        n_given=n_cells,
        n_turned=0 if target.is_table else n_cells,
        n_columns=n_columns if target.is_table else 0,
    )
    return calibration.read_cost(read_subject(target)).seconds(work.amounts)


def ancestors_that_run(graph: Mapping[str, Intermediate], target: str, sources: Sequence[str]) -> list[str]:
    """The stages between `sources` and `target`, the target included."""
    running: dict[str, None] = {}
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name in running or name in sources or name not in graph:
            continue
        running[name] = None
        parents = graph[name].parents
        if parents is None:
            return [n for n, i in graph.items() if i.role in _STAGES]
        waiting.extend(parents)
    return list(running)
