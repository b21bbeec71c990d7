"""imbalanced-learn's Pipeline, with one method more: `set_capture`. Imported by those who use imbalanced-learn.

What a sampler makes of the rows of ``train`` is a dataset of its own, ``train+over`` for a step called ``over``, and so
is what comes after it. Its rows have the labels of the rows that they are; those that a sampler made up have new ones,
-1, -2, ... where labels are numbers, else the name of the step and a number.
"""

from __future__ import annotations

from typing import Any

import imblearn.pipeline

from mistique.sklearn.capturing import Capturing

__all__ = ["Pipeline", "make_pipeline"]


class Pipeline(Capturing, imblearn.pipeline.Pipeline):
    """imbalanced-learn's Pipeline, which captures what its steps make of the training data.

    Attributes
    ----------
    captured_run_ : CapturedRun
        The version under which the last fit was captured. Only after a fit that was.
    """


def make_pipeline(*steps: Any, **options: Any) -> Pipeline:
    """A `Pipeline` of these estimators, named after their types, as ``imblearn.pipeline.make_pipeline``."""
    return Pipeline(imblearn.pipeline.make_pipeline(*steps).steps, **options)
