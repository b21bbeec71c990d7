"""`Pipeline`, scikit-learn's, with one method more: `set_capture`."""

from __future__ import annotations

from typing import Any

import sklearn.pipeline

from mistique.sklearn.capturing import Capturing


class Pipeline(Capturing, sklearn.pipeline.Pipeline):
    """scikit-learn's Pipeline, which captures what its steps make of the training data.

    Without `set_capture` it is an ordinary pipeline. The constructor, the parameters and the results are
    scikit-learn's; see ``sklearn.pipeline.Pipeline``.

    Attributes
    ----------
    captured_run_ : CapturedRun
        The version under which the last fit was captured. Only after a fit that was.

    Examples
    --------
    >>> import mistique, tempfile
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import StandardScaler
    >>> store = mistique.open(tempfile.mkdtemp() + "/homes.mistique")
    >>> pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())])
    >>> pipe.set_capture(store, model="homes/ridge").fit([[1.0], [2.0], [4.0]], [1.0, 2.0, 4.0])
    Pipeline(steps=[('scale', StandardScaler()), ('ridge', Ridge())])
    >>> mistique.get(store, "homes/ridge@latest/train/scale").values[:, 0].round(2)
    array([-1.07, -0.27,  1.34])
    """


def make_pipeline(
    *steps: Any, memory: Any = None, transform_input: list[str] | None = None, verbose: bool = False
) -> Pipeline:
    """A `Pipeline` of these estimators, named after their types, as ``sklearn.pipeline.make_pipeline``.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> make_pipeline("passthrough", Ridge())
    Pipeline(steps=[('passthrough', 'passthrough'), ('ridge', Ridge())])
    >>> make_pipeline(Ridge(), Ridge()).fit([[1.0]], [1.0])
    Traceback (most recent call last):
    ...
    TypeError: All intermediate steps should be transformers and implement fit and transform ...
    """
    named = sklearn.pipeline.make_pipeline(*steps)
    return Pipeline(named.steps, transform_input=transform_input, memory=memory, verbose=verbose)
