"""A store in an object store that is far away, comes and goes; its writers killed; its credentials nowhere."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator

import numpy as np
import pytest
import tiledb
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import mistique
from mistique.errors import CaptureWarning, StoreError
from mistique.sklearn import Pipeline
from mistique.storage.options import StorageOptions
from tests.capturing import capturing, put, put_layer
from tests.integration.loopback import BUCKET, CREDENTIALS, Proxy, config_for, s3_server
from tests.storage.invariants import assert_answers
from tests.storage.test_compaction import ask

pytest.importorskip("moto.server", reason="moto[server] is not installed")
pytestmark = pytest.mark.slow
WRITER = """
import sys, json
import numpy as np
import mistique
from tests.capturing import capturing
with mistique.open(sys.argv[1], config=json.loads(sys.argv[2])) as store:
    for i in range(int(sys.argv[4])):
        with capturing(store, model=sys.argv[3]) as capture:
            capture.add("table", np.arange(900.0).reshape(300, 3) + i)
        print(capture.committed, i, flush=True)
"""


# Writes much of a capture and is killed before any of it is committed.
HALF_WRITER = """
import sys, json, time
import numpy as np
import mistique
store = mistique.open(sys.argv[1], config=json.loads(sys.argv[2]), max_buffer_nbytes=100_000)
with store.capture(model="lab/half", dataset="train", framework="none", codec="raw") as capture:
    for start in range(0, 4096, 1024):
        capture.append("layer", np.random.default_rng(start).normal(size=(1024, 200)))
    print("written", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def config(server: str) -> dict[str, str]:
    return config_for(server)


def start(script: str, uri: str, config: dict[str, str], *rest: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, uri, json.dumps(config), *rest]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def n_bytes_at(uri: str, config: dict[str, str]) -> int:
    vfs = tiledb.VFS(ctx=StorageOptions(config).context())
    return sum(vfs.file_size(name) for name in vfs.ls_recursive(uri) if vfs.is_file(name))


def expected(lines: list[str]) -> dict[str, np.ndarray]:
    """What writers reported, by key."""
    found = [line.split() for line in lines]
    return {f"{version}/train/table": np.arange(900.0).reshape(300, 3) + int(i) for version, i in found}


def test_a_network_that_goes_away_costs_what_was_captured_meanwhile_and_one_warning(server: str) -> None:
    values = np.arange(4000.0)
    uri = f"s3://{BUCKET}/away.mistique"
    with Proxy(server) as proxy, mistique.open(uri, config=config_for(proxy.address)) as store:
        key = put(store, values)
        with pytest.warns(CaptureWarning) as caught, capturing(store, model="lab/lost", on_error="warn") as capture:
            capture.add("first", values + 1)
            proxy.go_away()
            capture.add("second", values + 2)
        assert (len(caught), capture.committed) == (1, None)
        assert "nothing of lab/lost over dataset 'train' was stored" in str(caught[0].message)
        with pytest.raises(StoreError):
            mistique.get(mistique.open(uri, config=config_for(proxy.address)), key)
        proxy.come_back()
        assert_answers(store, {key: values, put(store, values + 3): values + 3})
        assert [c.version.model for c in store.catalog.captures()] == ["lab/model", "lab/model"]
        assert store.check(repair=True).is_whole
        store.gc(grace_seconds=0)
        assert_answers(store, {key: values})


def test_a_network_that_delays_is_waited_for_as_long_as_is_allowed(server: str) -> None:
    values, uri = np.arange(4000.0), f"s3://{BUCKET}/slow.mistique"
    config = config_for(server) | {"vfs.s3.request_timeout_ms": "500", "vfs.s3.connect_max_tries": "1"}
    with Proxy(server) as proxy:
        config["vfs.s3.endpoint_override"] = proxy.address
        with mistique.open(uri, config=config) as store:
            proxy.delay(0.05)
            key = put(store, values)
            proxy.delay(1.5)
            with pytest.warns(CaptureWarning) as caught, capturing(store, model="lab/lost", on_error="warn") as capture:
                capture.add("first", values + 1)
            assert (len(caught), capture.committed) == (1, None)
            proxy.delay(0.05)
            assert_answers(store, {key: values, put(store, values + 2): values + 2})
            assert [c.version.model for c in store.catalog.captures()] == ["lab/model", "lab/model"]


def test_a_fit_goes_on_whose_network_goes_away_in_the_middle_and_comes_back(server: str) -> None:
    rows, target = np.random.default_rng(0).normal(size=(500, 3)), np.arange(500.0)
    uri = f"s3://{BUCKET}/fitted.mistique"
    with Proxy(server) as proxy, mistique.open(uri, config=config_for(proxy.address)) as store:

        def between(values: np.ndarray) -> np.ndarray:
            proxy.go_away()
            return values * 2

        middle = FunctionTransformer(between)
        steps = [("scale", StandardScaler()), ("middle", middle), ("ridge", Ridge())]
        pipe = Pipeline(steps).set_capture(store, model="lab/fitted")
        with pytest.warns(CaptureWarning) as caught:
            pipe.fit(rows, target)
        assert ["lab/fitted" in str(warning.message) for warning in caught] == [True]
        proxy.come_back()
        doubled = StandardScaler().fit_transform(rows) * 2
        assert pipe[-1].coef_.tolist() == Ridge().fit(doubled, target).coef_.tolist()
        middle.set_params(func=np.abs)
        pipe.fit(rows, target)
        assert [(c.version.model, c.number) for c in store.catalog.captures()] == [("lab/fitted", "1")]
        assert_answers(store, {"lab/fitted@1/train/middle": np.abs(StandardScaler().fit_transform(rows))})


def test_writers_killed_in_an_object_store_lose_nothing_that_they_reported(config: dict[str, str]) -> None:
    uri, reported = f"s3://{BUCKET}/killed.mistique", []
    mistique.open(uri, config=config).close()
    for round_ in range(2):
        writers = [start(WRITER, uri, config, f"lab/{round_}-{n}", "1000") for n in range(2)]
        for writer in writers:
            assert writer.stdout is not None
            reported.append(writer.stdout.readline())
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            reported += [line for line in writer.communicate()[0].splitlines() if len(line.split()) == 2]
    with mistique.open(uri, config=config) as store:
        assert_answers(store, expected(reported))
        before = ask(store)
        store.compact(grace_seconds=0)
        store.gc(grace_seconds=0)
        assert ask(store) == before
        assert store.check().is_whole


def test_two_writers_of_one_model_at_once_in_an_object_store_lose_nothing(config: dict[str, str]) -> None:
    uri = f"s3://{BUCKET}/both.mistique"
    mistique.open(uri, config=config).close()
    writers = [start(WRITER, uri, config, "lab/both", "4") for _ in range(2)]
    reported = [line for writer in writers for line in writer.communicate(timeout=120)[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0, 0]
    with mistique.open(uri, mode="r", config=config) as store:
        assert len(store.catalog.captures()) == len(expected(reported)) == 8
        assert_answers(store, expected(reported))


def test_gc_takes_from_an_object_store_what_a_killed_writer_left(config: dict[str, str]) -> None:
    uri, values = f"s3://{BUCKET}/left.mistique", np.arange(3000.0)
    with mistique.open(uri, config=config) as store:
        key = put(store, values)
        before = n_bytes_at(uri, config)
        writer = start(HALF_WRITER, uri, config)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        store.gc()
        left = n_bytes_at(uri, config)
        assert left > before + 3_000_000  # of a writer that may live nothing is touched
        writer.kill()
        writer.communicate()
        assert store.gc(grace_seconds=0).n_segments_removed > 0
        assert n_bytes_at(uri, config) < before + 100_000
        assert_answers(store, {key: values})
        assert store.check().is_whole


def test_a_store_that_is_copied_with_its_history_into_an_object_store_answers_the_same(
    config: dict[str, str], tmp_path: object
) -> None:
    with mistique.open(f"{tmp_path}/s.mistique") as store:
        for i in range(3):
            put(store, np.arange(3000.0) + i)
            put_layer(store, np.full((500, 70), i, np.float32), model="lab/layer")
            store.compact(grace_seconds=0)
        store.gc(grace_seconds=0)
        before = ask(store)
    vfs = tiledb.VFS(ctx=StorageOptions(config).context())
    for folder, _, files in os.walk(f"{tmp_path}/s.mistique"):
        for name in files:
            path = f"{folder}/{name}"
            with open(path, "rb") as source, vfs.open(f"s3://{BUCKET}{path[len(str(tmp_path)) :]}", "wb") as target:
                target.write(source.read())
    with mistique.open(f"s3://{BUCKET}/s.mistique", mode="r", config=config) as copy:
        assert ask(copy) == before
        assert copy.check().is_whole


def test_credentials_are_in_no_store_error_log_or_pickle(
    server: str, config: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "another-secret-of-tests"
    given = {**config, "vfs.s3.aws_access_key_id": "an-id", "vfs.s3.aws_secret_access_key": secret}
    uri, said = f"s3://{BUCKET}/secret.mistique", []
    with caplog.at_level(logging.DEBUG), mistique.open(uri, config=given) as store:
        put(store, np.arange(9.0))
        ask(store)
        said += [repr(store), repr(vars(store)), pickle.dumps(store).decode("latin-1")]
    with Proxy(server) as proxy:
        proxy.go_away()
        try:
            mistique.open(uri, config={**given, "vfs.s3.endpoint_override": proxy.address})
        except StoreError:
            said.append(traceback.format_exc())
    vfs = tiledb.VFS(ctx=StorageOptions(config).context())
    for path in vfs.ls(uri, recursive=True):
        with vfs.open(path, "rb") as file:
            said.append(path + (file.read().decode("latin-1") if vfs.file_size(path) else ""))
    assert len(said) > 20
    secrets = [secret, "an-id", *list(CREDENTIALS.values())[:2]]
    assert [name for name in secrets for text in [*said, caplog.text] if name in text] == []
