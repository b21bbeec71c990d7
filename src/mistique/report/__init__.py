"""A whole diagnosis of one model as one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mistique.errors import MistiqueError, StoreError
from mistique.queries.progress import quiet
from mistique.report.page import page, sentence
from mistique.report.sections import SECTIONS
from mistique.report.subject import subject_of

if TYPE_CHECKING:
    from mistique.store import Store

__all__ = ["write_report"]


def write_report(
    store: Store,
    model: str,
    *,
    path: str | os.PathLike[str] = "report.html",
    dataset: str | None = None,
    against: str | None = None,
    on_section: Callable[[str], None] | None = None,
) -> Path:
    """Ask everything that applies to a model and write the answers, with their pictures, as one HTML file.

    Parameters
    ----------
    store : Store
    model : str
        ``homes/ridge``, the newest run, or ``homes/ridge@2``.
    path : str or path, default "report.html"
        Written at the end and at once: an interrupted report leaves nothing.
    dataset : str, optional
        The dataset to diagnose. None: ``valid``, ``test``, or the one that was captured last.
    against : str, optional
        The dataset to hold it against. None: ``train``, or another one of the version.
    on_section : callable, optional
        Called with the title of each section before it is worked out.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    IntermediateNotFoundError
        No such model, version or dataset.
    StoreError
        The file cannot be written.

    Notes
    -----
    What was captured, the worst slices, drift, images that fire units most, dead units, epochs. A section that does not
    apply says why in a line, and one that fails says how. The file loads nothing, runs nothing (no scripts; a content
    security policy forbids both) and is readable in light and dark, on a desk and on a phone.

    Examples
    --------
    >>> import mistique, numpy as np, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from mistique.report import write_report
    >>> from mistique.sklearn import Pipeline
    >>> folder = tempfile.mkdtemp()
    >>> store = mistique.open(folder + "/s.mistique")
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> _ = Pipeline([("ridge", Ridge())]).set_capture(store, model="demo/ridge").fit(x, x[:, 0] ** 2)
    >>> write_report(store, "demo/ridge", path=folder + "/report.html").name
    'report.html'
    """
    subject = subject_of(store, model, dataset=dataset, against=against)
    parts = []
    for title, work_out in SECTIONS:
        if on_section is not None:
            on_section(title)
        try:
            with quiet() if on_section is not None else nullcontext():
                parts.append((title, work_out(subject)))
        except MistiqueError as error:
            # One question that cannot be answered, of a model that is not trusted say, leaves the others.
            parts.append((title, sentence(f"This could not be answered: {error}")))
    written = Path(path)
    partial = written.with_name(f".{written.name}.{os.getpid()}.part")
    try:
        partial.write_text(page(subject.heading, subject.summary(), parts), encoding="utf-8")
        partial.replace(written)
    except OSError as error:
        raise StoreError(f"the report cannot be written to {written}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return written
