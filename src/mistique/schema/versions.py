"""A fitted model: what was made, by what, and whether it can run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Version:
    """One fitted model: a run, or an epoch of one.

    Parameters
    ----------
    model : str
    run_id : str
        128 random bits in hex, drawn when the run began: what makes two writers of one model two runs.
    epoch : int, optional
        Counted from 1. None: not a checkpoint.
    framework : str
        The room that can run it again: ``sklearn`` or ``keras``.
    artifact : str, optional
        Digest of the kept model, its address in the store. None: it was not kept.
    artifact_note : str
        Why it was not kept, or what whoever runs it again should know.
    artifact_nbytes : int
        Of the kept model, before compression.
    load_seconds : float
        Measured or estimated time to load it.
    batch_rows : int
        Rows of one forward pass at capture; 0: the whole dataset at once.
    environment : mapping
        Versions of Python and of the libraries at capture.
    params : mapping of str to str
        What it was made with, as text.
    source : mapping of str to str
        What it belongs to: ``fold``, ``candidate`` and ``searched`` of a search.
    states : mapping of str to str
        Digest of what each stage or layer has learned, by name, where it is known.
    began : str
        When its run began, ISO 8601, by the clock of that machine. For people: nothing is ordered by it.
    """

    model: str
    run_id: str
    epoch: int | None
    framework: str
    artifact: str | None = None
    artifact_note: str = ""
    artifact_nbytes: int = 0
    load_seconds: float = 0.0
    batch_rows: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    began: str = ""
