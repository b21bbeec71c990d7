"""What storing an intermediate is worth: how often it was asked for, what that saved, and the bytes it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mistique.planner.cost import gamma
from mistique.planner.predict import read_seconds_if_stored
from mistique.planner.question import read_subject
from mistique.planner.read_work import decoded_values
from mistique.schema import Intermediate
from mistique.storage.captures import Capture
from mistique.storage.usage import Asked, Demand

if TYPE_CHECKING:
    from mistique.planner.calibration import Calibration
    from mistique.planner.plan import Plan
    from mistique.planner.question import Question

# Of the bytes of the values. A stage of a pipeline hands on most columns, which are stored once (docs/adr/0019).
_TABLE_SHARE = 0.02
_SHARES = {
    "raw": 0.6,
    "power": 0.12,
    "kbit": 0.2,
    "low_precision": 0.4,
    "threshold": 0.01,
    "within": 0.4,
    "pool": 0.05,
}
# So much counts what is assumed, against what was measured.
_PRIOR_NBYTES = 2e6
_NONE = Demand()
# Seconds a GB (docs/adr/0019).
DEFAULT_GAMMA_MIN = 1000.0


class Worth:
    """The demand for intermediates, by this and earlier sessions, of all hosts.

    Parameters
    ----------
    demands : mapping
        As the store knows them.
    calibration : Calibration
    tell : callable
        Takes what is new.
    """

    def __init__(
        self, demands: Mapping[Asked, Demand], calibration: Calibration, tell: Callable[[Asked, float], None]
    ) -> None:
        self._demands = dict(demands)
        self._written: dict[str, tuple[float, float]] = {}
        self._calibration, self._tell = calibration, tell

    def ask(self, capture: Capture, question: Question, plan: Plan) -> None:
        """Count a question that was answered, and what having it stored saved, or would have.

        Notes
        -----
        Loading a model and tracing it are not counted: they are paid once, whatever is asked after. What memory
        answered would have been no faster by what is stored.
        """
        asked = capture.id, question.target.name
        running = [c.predicted_seconds for c in plan.candidates if c.is_possible and c.runs_model]
        took = plan.took or {}
        if plan.chosen.runs_model:
            recomputing = took.get("run", 0.0) + took.get("read", 0.0)
            saved = recomputing - read_seconds_if_stored(question, self._calibration)
        elif running and not plan.chosen.is_memory:
            saved = min(running) - (plan.seconds or 0.0)
        else:
            saved = 0.0
        saved = max(saved, 0.0)
        demand = self._demands.setdefault(asked, Demand())
        demand.n_queries += 1
        demand.saved_seconds += saved
        self._tell(asked, saved)

    def demand(self, capture: Capture, name: str) -> Demand:
        """How often an intermediate was asked for, and the seconds that storing it saved, or would have."""
        return self._demands.get((capture.id, name), _NONE)

    def expected_gamma(self, node: Intermediate, row_seconds: float, row_nbytes: float) -> float:
        """What storing saves a byte, in seconds a GB, if it is asked for once in whole, before anything is known of it.

        Parameters
        ----------
        node : Intermediate
        row_seconds : float
            To run the model for one row of it, of many.
        row_nbytes : float
            Of the values of one row.
        """
        nbytes = row_nbytes * share_of(node)
        # Of many rows: what a read costs once is spread over them.
        n_cells = float(node.n_columns)
        n_turned = 0.0 if node.is_table else n_cells
        amounts = 0.0, 0.0, 0.0, nbytes, decoded_values(node, 1), 0.0, n_cells, n_turned, 0.0, 0.0
        reading = self._calibration.read_cost(read_subject(node)).seconds(amounts)
        return gamma(row_seconds - reading, nbytes)

    def note_written(self, node: Intermediate, raw_nbytes: float, nbytes: float) -> None:
        """Learn what storing took."""
        before = self._written.get(read_subject(node), (0.0, 0.0))
        self._written[read_subject(node)] = before[0] + raw_nbytes, before[1] + nbytes

    def expected_nbytes(self, capture: Capture, node: Intermediate) -> float:
        """Bytes that it takes, or would add to the store: what it shares with its neighbours costs nothing.

        As what lies beside it, and what was stored beside answers in this session, took by the same codec.
        """
        if node.stored_nbytes and node.references is not None and node.references.is_whole:
            return node.stored_nbytes
        raw_nbytes, nbytes = self._written.get(read_subject(node), (0.0, 0.0))
        for other in capture.intermediates.values():
            # A prediction shares no column with its neighbours, as stages do.
            is_alike = other.role == node.role and read_subject(other) == read_subject(node)
            if is_alike and other.name in capture.stored and other.codec == node.codec:
                raw_nbytes += other.raw_nbytes
                nbytes += other.stored_nbytes
        share = (nbytes + _PRIOR_NBYTES * share_of(node)) / (raw_nbytes + _PRIOR_NBYTES)
        return max(node.raw_nbytes * share, 1.0)


def share_of(node: Intermediate) -> float:
    """Stored bytes over those of the values, before any were measured."""
    return _TABLE_SHARE if node.is_table and node.codec["name"] == "raw" else _SHARES[str(node.codec["name"])]
