"""MLflow's autologging beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from mistique.sklearn import Pipeline
from mistique.store import Store

if TYPE_CHECKING:
    import pandas as pd


@pytest.mark.supported("MLflow's autologging", "logs as without capture")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_autologging_goes_on_beside_and_its_run_can_be_linked(
    store: Store, homes: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)  # MLflow writes beside the runs as well
    mlflow = pytest.importorskip("mlflow")
    sklearn_flavour = pytest.importorskip("mlflow.sklearn")
    X, y = homes[["sqft_living", "grade", "lat"]], homes["price"]
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    sklearn_flavour.autolog(log_models=False, silent=True)
    try:
        with mlflow.start_run() as run:
            pipe = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).set_capture(store, model="homes/ridge")
            pipe.fit(X, y)
    finally:
        sklearn_flavour.autolog(disable=True)
    logged = mlflow.get_run(run.info.run_id).data
    assert logged.params["ridge__alpha"] == "1.0"
    assert "training_r2_score" in logged.metrics
    plain = Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).fit(X, y)
    assert np.array_equal(plain["ridge"].coef_, pipe["ridge"].coef_)
    store.link("homes/ridge@1", mlflow=run.info.run_id)
    assert [one.name for one in store.models()] == ["homes/ridge@1"]
    assert store.models()[0].about.links == {"mlflow": run.info.run_id}
