"""scikit-learn: a drop-in Pipeline that captures itself, and capture of any fitted model.

scikit-learn, skops and cloudpickle are imported in this folder alone. A fit goes through `pipeline` to
`recording`; a model that is fitted already goes through `fitted`. Both hand what each stage gave to
`stage_records`, which checks on a few rows (`sample`) whether it can be recomputed. What is kept of the model
is made in `artifact` and run again by `recomputer`.
"""

from mistique.sklearn.fitted import capture
from mistique.sklearn.pipeline import Pipeline, make_pipeline

__all__ = ["Pipeline", "capture", "make_pipeline"]
