"""The seam that every framework fills so that its models can be run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mistique.schema import Intermediate
from mistique.storage.artifacts import Artifact

Trust = bool | Sequence[str]
# Among the seconds of the stages that ran: what was spent once, to make the target computable.
SETUP = ""
# Runs of one model that a recomputer keeps set up, enough for the layers that somebody compares at a time: for one more
# the oldest goes.
MAX_SET_UP = 32


class Recomputer(Protocol):
    """Runs a kept model again, from its input or from stored ancestors.

    Instances hold no model: the caller keeps what `load` returns, for as long as it wants. A recomputer never writes.
    """

    def load(self, artifact: Artifact, *, model: str, trust: Trust) -> Any:
        """The model that an artifact holds.

        Raises
        ------
        UntrustedArtifactError
            This user did not sign it and `trust` does not cover the types that loading it would run.
        """

    def environment(self) -> Mapping[str, str]:
        """Versions of the libraries that would run a model now, by the names that captures give them."""

    def sets_up(self, environment: Mapping[str, str]) -> bool:
        """Whether the first run between some sources and a target takes longer, by a version's environment."""

    def run(
        self,
        model: Any,
        *,
        sources: Mapping[str, Any],
        target: str,
        intermediates: Mapping[str, Intermediate],
        batch_rows: int,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[Any, Mapping[str, float]]:
        """Output of `target` for the rows of `sources`.

        Parameters
        ----------
        model : object
            From `load`.
        sources : mapping of name to container
            Values of the input, or of stored ancestors that cut `target` off from the input, all with the same rows,
            in the containers in which they were captured.
        target : str
            Name of the intermediate wanted.
        intermediates : mapping of name to Intermediate
            The stage graph of the version.
        batch_rows : int
            Rows of one forward pass at capture, from the first row of `sources` on; 0: all at once.
        environment : mapping, optional
            Of the version, as the framework's own hook wrote it at capture.

        Returns
        -------
        value : container
            Of `target`, a row for each row given.
        seconds : mapping of name to float
            What each stage that ran took; under `SETUP`, what will not be spent again in this process.

        Raises
        ------
        ModelMismatchError
            The model and the values do not fit.
        """
