"""The roads to an answer, and the cheapest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mistique.codecs import codec_from_config
from mistique.errors import NoPlanError
from mistique.planner.calibration import Calibration
from mistique.planner.cost import derive_seconds, recompute_seconds
from mistique.planner.descent import descent_to
from mistique.planner.plan import Candidate, Plan, format_seconds
from mistique.planner.summary import stored_columns
from mistique.schema import INPUT, Intermediate, References, Version

_SURE = 1.5
_NOT_TRUSTED = Candidate("recompute", (), False, "the model is not this user's, and no trust was given to run it")


@dataclass(frozen=True)
class Question:
    """Some rows and columns of an intermediate, and all that deciding about it needs.

    Parameters
    ----------
    key : str
    target : Intermediate
        With its references, when it is stored.
    graph : mapping of name to Intermediate
        All intermediates of the capture, with references of those that are stored.
    version : Version
    model_is_loaded : bool
    rows : ndarray of int64, sorted
    columns : ndarray of int64, sorted
    exact : bool
        Quantized values are no answer.
    """

    key: str
    target: Intermediate
    graph: Mapping[str, Intermediate]
    version: Version
    model_is_loaded: bool
    rows: np.ndarray
    columns: np.ndarray
    exact: bool


def choose(question: Question, calibration: Calibration, *, runs: bool = True) -> Plan:
    """The cheapest plan; with ``runs=False``, of those that do not run the model.

    Raises
    ------
    NoPlanError
        Saying why not read and why not recompute.
    """
    candidates = (
        _read(question, calibration),
        *_derive(question, calibration),
        *(_recompute(question, calibration) if runs else [_NOT_TRUSTED]),
    )
    possible = sorted((c for c in candidates if c.is_possible), key=lambda c: c.predicted_seconds)
    if not possible:
        raise NoPlanError(key=question.key, reasons=[f"{c.road}: {c.reason}" for c in candidates])
    chosen = possible[0]
    if len(possible) > 1:
        times = possible[1].predicted_seconds / max(chosen.predicted_seconds, 1e-9)
        reason = (
            f"{chosen.road}, predicted {format_seconds(chosen.predicted_seconds)}: "
            f"{possible[1].road} would take {format_seconds(possible[1].predicted_seconds)}"
            + (f", {times:.3g} times as long" if times > _SURE else "")
        )
    else:
        others = "; ".join(f"cannot {c.road}, {c.reason}" for c in candidates if not c.is_possible)
        reason = f"{chosen.road}, predicted {format_seconds(chosen.predicted_seconds)}; {others}"
    target = question.target
    return Plan(
        key=question.key,
        n_rows=len(question.rows),
        n_columns=len(question.columns),
        of_rows=target.n_rows,
        of_columns=target.n_columns,
        candidates=candidates,
        chosen=chosen,
        reason=reason,
    )


def can_be_answered_without_running(plan: Plan) -> bool:
    """Some road of it, chosen or not, leaves the model alone."""
    return any(c.is_possible and not c.road.startswith("recompute") for c in plan.candidates)


def recompute_rows(question: Question) -> np.ndarray:
    """The rows that run when `question` is recomputed: whole batches of the capture, so that every bit is the same."""
    batch, n_rows = question.version.batch_rows, question.target.n_rows
    if not batch:
        return np.arange(n_rows) if question.exact else question.rows
    batches = np.unique(question.rows // batch)
    rows = (batches[:, None] * batch + np.arange(batch)).reshape(-1)
    return rows[rows < n_rows]


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
            return [n for n, i in graph.items() if i.role in ("stage", "prediction")]
        waiting.extend(parents)
    return list(running)


def read_work(references: References, blocks: np.ndarray, groups: np.ndarray) -> tuple[int, int]:
    """Encoded bytes and contiguous runs of the chunks at these blocks and groups."""
    nbytes, n_ranges = 0.0, 0
    for run in references.runs:
        segment = references.segments[run.segment]
        in_blocks = blocks[(blocks >= run.block) & (blocks < run.block + run.n_blocks)]
        in_groups = groups[(groups >= run.group) & (groups < run.group + run.n_groups)]
        if len(in_blocks) and len(in_groups):
            nbytes += segment.encoded_nbytes * len(in_blocks) * len(in_groups) / segment.n_chunks
            # Blocks lie one behind the other, the groups of a block side by side; of a table the other way round.
            outer, inner = (in_blocks, in_groups) if run.block_step > run.group_step else (in_groups, in_blocks)
            n_ranges += len(outer) * (1 + int((np.diff(inner) > 1).sum()))
    return int(nbytes), n_ranges


def chunks_of(intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blocks and groups, masks of nullable columns included, that hold some rows and columns."""
    intermediate, columns = stored_columns(intermediate, columns)
    groups = _distinct(columns // intermediate.group_columns)
    masks = intermediate.mask_groups
    if masks:
        groups = np.concatenate([groups, [masks[c] for c in columns.tolist() if c in masks]]).astype(np.int64)
    return _distinct(rows // intermediate.block_rows), np.sort(groups)


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Sorted numbers without their repetitions: of 10,000, a tenth of the time of `np.unique`."""
    return numbers[np.flatnonzero(np.diff(numbers, prepend=-1))]


def _read(question: Question, calibration: Calibration) -> Candidate:
    target = question.target
    if target.references is None:
        return Candidate("read", (target.name,), False, "it is not stored")
    codec = codec_from_config(target.codec)
    if question.exact and codec.is_lossy:
        return Candidate("read", (target.name,), False, f"it is stored by the lossy codec {codec.name}")
    seconds, nbytes, basis = _read_seconds(target, question.rows, question.columns, calibration)
    return Candidate("read", (target.name,), True, basis, seconds, nbytes)


def _read_seconds(
    intermediate: Intermediate, rows: np.ndarray, columns: np.ndarray, calibration: Calibration
) -> tuple[float, int, str]:
    assert intermediate.references is not None
    nbytes, n_ranges = read_work(intermediate.references, *chunks_of(intermediate, rows, columns))
    cost = calibration.read_cost(str(intermediate.codec["name"]))
    basis = f"{cost.n_observations} reads measured" if cost.n_observations else "no read measured yet: a first guess"
    return cost.seconds(nbytes, n_ranges=n_ranges), nbytes, basis


def _derive(question: Question, calibration: Calibration) -> list[Candidate]:
    """By rules from the nearest stored ancestor, for what was not stored because there are such rules."""
    target = question.target
    if target.references is not None or target.derivation is None:
        return []
    descent = descent_to(question.graph, target)
    if isinstance(descent, str):
        return [Candidate("derive", target.parents or (), False, descent)]
    ancestor = descent.ancestor
    road, sources = f"derive from {ancestor.name}", (ancestor.name,)
    if question.exact and codec_from_config(ancestor.codec).is_lossy:
        reason = f"{ancestor.name} is stored by the lossy codec {ancestor.codec['name']}"
        return [Candidate(road, sources, False, reason)]
    if question.exact and not descent.is_exact:
        return [Candidate(road, sources, False, "an average is rounded in another order than the model's")]
    needed = descent.columns(question.columns)
    read_seconds, nbytes, basis = _read_seconds(ancestor, question.rows, needed[0], calibration)
    n_values = len(question.rows) * sum(map(len, needed[:-1]))
    seconds = read_seconds + calibration.derive_factor() * derive_seconds(n_values)
    rules = ", ".join(str(step.rule["op"]) for step in descent.steps)
    return [Candidate(road, sources, True, f"{rules}; {basis}", seconds, nbytes)]


def _recompute(question: Question, calibration: Calibration) -> list[Candidate]:
    """Recomputing from the input, and from the nearest stored ancestors where these are not the input."""
    target, version = question.target, question.version
    sources = (INPUT,) if INPUT in question.graph else _inputs(question.graph)
    why_not = ""
    if target.role not in ("stage", "prediction"):
        why_not = f"it is the model's {target.role}, not computed by it"
    elif version.artifact is None:
        why_not = f"the model was not kept{': ' + version.artifact_note if version.artifact_note else ''}"
    elif target.recompute_difference is None:
        why_not = target.recompute_note or "it does not come out alike twice"
    elif question.exact and target.recompute_difference > 0:
        why_not = f"recomputed values may differ by {target.recompute_difference:.2g}: {target.recompute_note}"
    elif not sources or any(question.graph[name].references is None for name in sources):
        why_not = "the input is not stored"
    if why_not:
        return [Candidate("recompute", sources, False, why_not)]
    candidates = [_recompute_from(question, sources, "recompute", calibration)]
    ancestors = _nearest_stored(question)
    if ancestors is not None and set(ancestors) != set(sources):
        road = f"recompute from {', '.join(ancestors)}"
        candidates.append(_recompute_from(question, ancestors, road, calibration))
    return candidates


def _recompute_from(question: Question, sources: tuple[str, ...], road: str, calibration: Calibration) -> Candidate:
    rows = recompute_rows(question)
    source_seconds, nbytes = 0.0, 0
    for name in sources:
        source = question.graph[name]
        seconds, source_nbytes, _ = _read_seconds(source, rows, np.arange(source.n_columns), calibration)
        source_seconds += seconds
        nbytes += source_nbytes
    running = ancestors_that_run(question.graph, question.target.name, sources)
    subject = f"{question.version.model} {question.version.run_id}"
    n_runs = calibration.n_recomputations(subject)
    seconds = recompute_seconds(
        load_seconds=0.0 if question.model_is_loaded else question.version.load_seconds,
        source_seconds=source_seconds,
        row_seconds=[question.graph[name].forward_seconds_per_row for name in running],
        n_rows=len(rows),
        factor=calibration.recompute_factor(subject),
    )
    stages = f"{len(running)} stage{'s' if len(running) != 1 else ''}"
    basis = f"{stages}, {len(rows)} rows, {f'{n_runs} runs measured' if n_runs else 'as measured at capture'}"
    return Candidate(road, sources, True, basis, seconds, nbytes)


def _inputs(graph: Mapping[str, Intermediate]) -> tuple[str, ...]:
    return tuple(name for name, intermediate in graph.items() if intermediate.role == "input")


def _nearest_stored(question: Question) -> tuple[str, ...] | None:
    """The exactly stored intermediates nearest before the target that cut it off from the input.

    None when the way back is not known. A quantized ancestor is none: what its error becomes downstream is not bounded.
    """
    graph = question.graph
    found: dict[str, None] = {}
    waiting = list(graph[question.target.name].parents or ())
    if not waiting:
        return None
    while waiting:
        name = waiting.pop(0)
        if name not in graph or (graph[name].parents is None and graph[name].references is None):
            return None
        node = graph[name]
        is_usable = node.references is not None and not codec_from_config(node.codec).is_lossy
        if is_usable or node.role == "input":
            found[name] = None
        else:
            if node.parents is None or not node.parents:
                return None
            waiting.extend(node.parents)
    return tuple(found)
