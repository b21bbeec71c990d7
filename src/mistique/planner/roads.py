"""The roads to an answer, each with what it is predicted to take, or why it is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

import numpy as np

from mistique.codecs import codec_from_config
from mistique.planner.calibration import Calibration
from mistique.planner.cost import Cost
from mistique.planner.cut import cheapest_cut
from mistique.planner.descent import descent_to
from mistique.planner.index_layout import BOUNDS, MAXIMA
from mistique.planner.index_read import index_work
from mistique.planner.plan import INDEX, INDEX_OF_LARGEST, MEMORY, SUMMARY, Candidate
from mistique.planner.predict import (
    read_seconds,
    ready_guesses,
    ready_seconds,
    run_amounts,
    run_cost,
    stage_amounts,
    stage_cost,
)
from mistique.planner.question import (
    Question,
    are_held,
    is_held,
    memory_amounts,
    memory_subject,
    read_subject,
    running_rows,
    steps_of,
)
from mistique.planner.read_work import whole_work
from mistique.schema import INPUT, Intermediate

_STAGES = ("stage", "prediction")


def read_road(question: Question, calibration: Calibration) -> list[Candidate]:
    """Reading what is stored."""
    target = question.target
    why_not = _why_not_read(question)
    if not why_not and not are_held(target, question.rows):
        why_not = f"only {target.references.n_blocks_held} of its row blocks are stored" if target.references else ""
    if why_not:
        return [Candidate("read", (target.name,), False, why_not)]
    asked = question.rows, question.columns
    seconds, nbytes, basis = read_seconds(question, target, *asked, calibration, by_column=question.by_column)
    return [Candidate("read", (target.name,), True, basis, seconds, nbytes)]


def index_road(question: Question, calibration: Calibration) -> list[Candidate]:
    """Reading the units asked from an index, where the target has one."""
    target, index = question.target, question.index
    if index is None or target.references is None or index.form == BOUNDS:
        return []
    if index.form == MAXIMA and not question.of_largest:
        return []
    road = INDEX_OF_LARGEST if index.form == MAXIMA else INDEX
    why_not = _why_not_read(question)
    if why_not:
        return [Candidate(road, (target.name,), False, why_not)]
    work, cost = index_work(question, index), calibration.read_cost(INDEX)
    basis = f"{cost.n_observations} such reads measured" if cost.n_observations else "none measured yet: a first guess"
    return [Candidate(road, (target.name,), True, basis, cost.seconds(work.amounts), work.encoded_nbytes)]


def memory_road(question: Question, calibration: Calibration) -> list[Candidate]:
    """Giving what was recomputed before in this process."""
    kept, target = question.kept, question.target
    if kept is None:
        return []
    if question.exact and kept.max_abs_error > 0:
        return [Candidate(MEMORY, (target.name,), False, f"it may differ by {kept.max_abs_error:.2g}")]
    cost = calibration.memory_cost(memory_subject(target))
    seconds = cost.seconds(memory_amounts(question))
    basis = "recomputed before, in this process" + _guessed(cost)
    return [Candidate(MEMORY, (target.name,), True, basis, seconds)]


def summary_road(question: Question, calibration: Calibration) -> list[Candidate]:
    """Giving what was counted over all rows before, where just that is asked."""
    tally, target = question.tally, question.target
    if tally is None:
        return []
    if question.exact and tally.max_abs_error > 0:
        return [Candidate(SUMMARY, (target.name,), False, f"it is of values within {tally.max_abs_error:.2g}")]
    cost, nbytes = calibration.summary_cost(), tally.encoded_nbytes
    what = tally.what + _guessed(cost)
    return [Candidate(SUMMARY, (target.name,), True, what, cost.seconds((1, nbytes)), nbytes)]


def derive_road(question: Question, calibration: Calibration) -> list[Candidate]:
    """By rules from the nearest stored ancestor, for what was not stored because there are such rules."""
    target = question.target
    if target.derivation is None or are_held(target, question.rows):
        return []
    descent = descent_to(question.graph, target)
    if isinstance(descent, str):
        return [Candidate("derive", target.parents or (), False, descent)]
    ancestor = descent.ancestor
    road, sources = f"derive from {ancestor.name}", (ancestor.name,)
    why_not = ""
    if not are_held(ancestor, question.rows):
        why_not = f"only some rows of {ancestor.name} are stored"
    elif question.exact and _is_lossy(ancestor):
        why_not = f"{ancestor.name} is stored by the lossy codec {ancestor.codec['name']}"
    elif question.exact and not descent.is_exact:
        why_not = "an average is rounded in another order than the model's"
    if why_not:
        return [Candidate(road, sources, False, why_not)]
    needed = descent.columns(question.columns)
    seconds, nbytes, basis = read_seconds(question, ancestor, question.rows, needed[0], calibration, by_column=True)
    n_values = len(question.rows) * sum(map(len, needed[:-1]))
    rules = " ".join(str(step.rule["op"]) for step in descent.steps)
    cost = calibration.derive_cost(rules)
    seconds += cost.seconds((1, n_values))
    return [Candidate(road, sources, True, f"{rules.replace(' ', ', ')}{_guessed(cost)}; {basis}", seconds, nbytes)]


def recompute_roads(question: Question, calibration: Calibration) -> list[Candidate]:
    """Recomputing from the input, from the nearest stored ancestors, and from the cheapest cut of the stage graph."""
    sources = inputs_of(question.graph)
    why_not = why_not_recomputed(question)
    if why_not:
        return [Candidate("recompute", sources, False, why_not)]
    rows = running_rows(question, question.rows)
    cuts = [sources]
    for cut in (nearest_stored(question), _cheapest(question, rows, calibration)):
        if cut is not None and set(cut) not in map(set, cuts):
            cuts.append(cut)
    return [recompute_from(question, cut, question.rows, calibration, running=rows) for cut in cuts]


def mixed_road(question: Question, calibration: Calibration) -> list[Candidate]:
    """Reading the rows that are stored and recomputing the others."""
    target = question.target
    if target.references is None or target.references.is_whole or _why_not_read(question):
        return []
    held = is_held(target, question.rows)
    if held.all() or not held.any() or why_not_recomputed(question):
        return []
    missing = question.rows[~held]
    rows = running_rows(question, missing)
    cuts = {inputs_of(question.graph), _cheapest(question, rows, calibration) or inputs_of(question.graph)}
    found = [recompute_from(question, cut, missing, calibration, running=rows) for cut in cuts]
    rest = min(found, key=lambda c: c.predicted_seconds)
    seconds, nbytes, _ = read_seconds(question, target, question.rows[held], question.columns, calibration)
    n_held = int(held.sum())
    return [
        Candidate(
            f"read {n_held} rows, {rest.road}",
            rest.sources,
            True,
            f"{len(missing)} rows are not stored; {rest.reason}",
            seconds + rest.predicted_seconds,
            nbytes + rest.predicted_nbytes,
        )
    ]


def recompute_from(
    question: Question,
    sources: tuple[str, ...],
    rows: np.ndarray,
    calibration: Calibration,
    *,
    running: np.ndarray | None = None,
) -> Candidate:
    """Recomputing some rows from those sources, which are stored; `running` are those that run, where that is known."""
    running = running_rows(question, rows) if running is None else running
    seconds, nbytes = ready_seconds(question, sources, calibration), 0
    for name in sources:
        source_seconds, source_nbytes, _ = read_seconds(question, question.graph[name], running, None, calibration)
        seconds += source_seconds
        nbytes += source_nbytes
    run = run_cost(question, sources, calibration)
    seconds += run.cost.seconds(run_amounts(question, len(running)))
    road = "recompute" if sources == inputs_of(question.graph) else f"recompute from {', '.join(sources)}"
    stages = f"{run.n_stages} stage{'s' if run.n_stages != 1 else ''}"
    guesses = ready_guesses(question, sources, calibration)
    basis = f"{run.basis}; guessed: {', '.join(guesses)}" if guesses else run.basis
    return Candidate(road, sources, True, f"{stages}, {len(running)} rows, {basis}", seconds, nbytes)


def _guessed(cost: Cost) -> str:
    return "" if cost.n_observations else ": a first guess"


def inputs_of(graph: Mapping[str, Intermediate]) -> tuple[str, ...]:
    """The names of the model's inputs."""
    if INPUT in graph:
        return (INPUT,)
    return tuple(name for name, intermediate in graph.items() if intermediate.role == "input")


def why_not_recomputed(question: Question) -> str:
    """Why the target cannot be recomputed from the input; empty: it can."""
    target, version = question.target, question.version
    sources = inputs_of(question.graph)
    if target.role not in _STAGES:
        return f"it is the model's {target.role}, not computed by it"
    if version.artifact is None:
        return f"the model was not kept{': ' + version.artifact_note if version.artifact_note else ''}"
    if target.recompute_difference is None:
        return target.recompute_note or "it does not come out alike twice"
    if question.exact and target.recompute_difference > 0:
        return f"recomputed values may differ by {target.recompute_difference:.2g}: {target.recompute_note}"
    if not sources or not all(_is_usable(question.graph[name]) for name in sources):
        return "the input is not stored"
    return ""


def _why_not_read(question: Question) -> str:
    target = question.target
    if target.references is None:
        return "it is not stored"
    if question.exact and _is_lossy(target):
        return f"it is stored by the lossy codec {target.codec['name']}"
    if question.exact and target.summary_error > 0:
        return f"what is stored was recomputed, and may differ by {target.summary_error:.2g}"
    return ""


def _is_lossy(node: Intermediate) -> bool:
    return codec_from_config(node.codec).is_lossy


def _is_usable(node: Intermediate) -> bool:
    """A model may start from it: it is stored whole and exactly. What an error becomes downstream is not bounded."""
    is_whole = node.references is not None and node.references.is_whole
    return is_whole and (node.role == "input" or not (_is_lossy(node) or node.summary_error > 0))


def nearest_stored(question: Question) -> tuple[str, ...] | None:
    """The nearest stored intermediates that cut the target off from the input; None: the way back is not known."""
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
        if _is_usable(node) or node.role == "input":
            found[name] = None
        else:
            if node.parents is None or not node.parents:
                return None
            waiting.extend(node.parents)
    return tuple(found)


def _cheapest(question: Question, rows: np.ndarray, calibration: Calibration) -> tuple[str, ...] | None:
    """The cut that takes the least time; for about so many rows, and until what is stored changes, found once."""
    graph = question.graph
    # Twice as many rows do not make another cut the cheapest by much.
    known = question.target.name, len(rows).bit_length(), calibration.n_runs(question.model)
    if known in question.cuts:
        return question.cuts[known]
    amounts = stage_amounts(question, len(rows))

    n_blocks: dict[int, int] = {}

    def parents(name: str) -> Sequence[str]:
        return (graph[name].parents or ()) if name in graph else ()

    def run_seconds(name: str) -> float:
        is_known = name in graph and graph[name].parents is not None
        return stage_cost(question, name, calibration).seconds(amounts) if is_known else inf

    def seconds_to_read(name: str) -> float:
        node = graph.get(name)
        if node is None or not _is_usable(node):
            return inf
        if node.block_rows not in n_blocks:
            n_blocks[node.block_rows] = len(steps_of(rows, node.block_rows))
        share = min(n_blocks[node.block_rows] / max(node.n_blocks, 1), 1.0)
        return calibration.read_cost(read_subject(node)).seconds(whole_work(question, node).share(share))

    cut = cheapest_cut(question.target.name, parents=parents, run_seconds=run_seconds, read_seconds=seconds_to_read)
    question.cuts[known] = None if cut is None else cut[1]
    return question.cuts[known]
