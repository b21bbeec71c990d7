"""A fault at each storage operation in turn: afterwards nothing is lost, nothing is half shown, nothing dangles."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import mistique
from mistique.errors import CaptureWarning, MistiqueError
from mistique.planner.budget import in_use_nbytes
from mistique.sklearn import Pipeline
from mistique.storage.artifacts import Artifact
from mistique.storage.usage import Demand
from mistique.store import Store
from tests.capturing import capturing, put, put_layer
from tests.storage.faults import Faults, failing, unreadable
from tests.storage.invariants import assert_answers, assert_whole

# In turn means all of them: MISTIQUE_ALL_FAULTS=1. Otherwise every so many, another one for each kind of work.
STEP = 1 if os.environ.get("MISTIQUE_ALL_FAULTS") else 29
RNG = np.random.default_rng(0)
TABLE, LAYER = RNG.normal(size=(500, 2)), RNG.normal(size=(500, 70)).astype(np.float32)
NAMES = {"lab/new": {"table", "layer"}}
KEPT = {"lab/table@1/train/stage": TABLE, "lab/layer@1/train/layer": LAYER}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "s.mistique"
    with mistique.open(path) as store:
        put(store, TABLE, model="lab/table")
        put_layer(store, LAYER, model="lab/layer")
        put(store, TABLE + 1, model="lab/dropped")
        put_layer(store, LAYER + 1, model="lab/dropped")
        store.drop("lab/dropped@1/train/stage")
        pipe = Pipeline([("poly", PolynomialFeatures(2)), ("scale", StandardScaler()), ("ridge", Ridge())])
        pipe.set_capture(store, model="lab/pipe").fit(TABLE, TABLE[:, 0])
        store.drop("lab/pipe@1/train/scale")
    return path


def capture(store: Store) -> None:
    with capturing(store, model="lab/new", on_error="warn") as captured:
        captured.add("table", np.concatenate([TABLE[:, :1], TABLE[:, :1] * 3], axis=1))
        captured.append("layer", LAYER * 3)
        captured.keep_model(Artifact("pickle", b"model" * 10))
    if captured.committed:
        assert_answers(store, {f"{captured.committed}/train/layer": LAYER * 3})


def drop(store: Store) -> None:
    store.drop("lab/dropped@2/train/layer")


def compact(store: Store) -> None:
    store.compact(grace_seconds=0)


def collect(store: Store) -> None:
    store.gc(grace_seconds=0)


def repair(store: Store) -> None:
    store.check(repair=True)


def delete(store: Store) -> None:
    store.delete("lab/dropped@2")


def rename(store: Store) -> None:
    store.rename("lab/dropped", to="lab/renamed")


def store_beside(store: Store) -> None:
    """An answer that is recomputed and stored, as it is said to be asked for often."""
    key = "lab/pipe@1/train/scale"
    captured, node = store.catalog.find(key)
    store.worth._demands[captured.id, node.name] = Demand(1000, 1e6)
    found = mistique.get(store, key).values
    assert np.array_equal(found, StandardScaler().fit_transform(PolynomialFeatures(2).fit_transform(TABLE)))


def evict(store: Store) -> None:
    store.evict(max_nbytes=int(in_use_nbytes(store)) - 1)


WORK = [capture, drop, compact, collect, repair, delete, rename, store_beside, evict]
KINDS = {"before": {}, "after": {"is_after": True}, "from then on": {"is_lasting": True}}


def run(
    work: Callable[[Store], None],
    path: Path,
    fail: Callable[..., AbstractContextManager[Faults]] = failing,
    **faults: Any,
) -> list[str]:
    """Do some work with faults; the names of the operations of it. Only errors and warnings of ours may come out."""
    store = mistique.open(path, gamma_min=0.0 if work is store_beside else 1e15)
    with fail(**faults) as found, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(MistiqueError):
            work(store)
    assert [warning.category for warning in caught] in ([], [CaptureWarning]), [str(w.message) for w in caught]
    return found.names


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("work", WORK)
def test_a_fault_at_any_operation_loses_nothing(
    filled: Path, tmp_path: Path, work: Callable[[Store], None], kind: str
) -> None:
    source = filled
    if work is repair:
        source = Path(shutil.copytree(filled, tmp_path / "damaged"))
        with mistique.open(source, mode="r") as store:
            name, _ = store.catalog.find("lab/dropped@2/train/layer")
            segment = store.catalog.references(name)["layer"].segments[0].id
        shutil.rmtree(source / "segments" / segment)
    names = run(work, Path(shutil.copytree(source, tmp_path / "counted")))
    assert len(names) > 3
    first = list(KINDS).index(kind) + WORK.index(work)
    for at in range(1 + first % min(STEP, len(names)), len(names) + 1, STEP):
        path = Path(shutil.copytree(source, tmp_path / f"at-{at}"))
        run(work, path, at=at, **KINDS[kind])
        if work is repair:
            with mistique.open(path) as store:
                store.check(repair=True)
        assert_whole(path, KEPT, NAMES)
        shutil.rmtree(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_while_a_store_is_made_leaves_one_that_the_next_makes_whole(tmp_path: Path, kind: str) -> None:
    with failing() as counted:
        mistique.open(tmp_path / "counted").close()
    names = counted.names
    assert {"group_create", "Array.create", "Group.add", "Group.close"} <= {*names}
    for at in range(1 + list(KINDS).index(kind), len(names) + 1, 1 if STEP == 1 else 4):
        path = tmp_path / f"at-{at}"
        with failing(at=at, **KINDS[kind]), suppress(MistiqueError):
            mistique.open(path).close()
        with mistique.open(path) as store:
            key = put(store, TABLE)
        assert_whole(path, {key: TABLE}, NAMES)
        shutil.rmtree(path)


@pytest.mark.slow
@pytest.mark.parametrize("work", [capture, store_beside])
def test_a_file_that_may_not_be_looked_at_loses_nothing(
    filled: Path, tmp_path: Path, work: Callable[[Store], None]
) -> None:
    n = len(run(work, Path(shutil.copytree(filled, tmp_path / "counted")), unreadable))
    for at in range(1, n + 1, 1 if STEP == 1 else n // 4):
        path = Path(shutil.copytree(filled, tmp_path / f"at-{at}"))
        run(work, path, unreadable, at=at)
        assert_whole(path, KEPT, NAMES)
