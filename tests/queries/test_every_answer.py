"""What every answer has, whatever was asked: other forms, a picture that says of what it is, and what its error is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow
import pytest

import mistique
from mistique import queries
from mistique.errors import QueryError
from mistique.queries.answer import Answer
from mistique.store import Store
from tests.capturing import capturing

N_ROWS = 80
RUN, LAYERS = "lab/net@1/valid", "lab/net@1.2/valid"
NO_PIXELS = np.zeros((N_ROWS, 0, 0), int)


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """No figure outlives its test."""
    yield
    plt.close("all")


def captured(store: Store, codec: str) -> None:
    """A table with a target and predictions over two datasets; a network of two epochs, its maps by some codec."""
    rng = np.random.default_rng(0)
    for dataset in ("train", "valid"):
        given = pd.DataFrame({"sqft": rng.normal(size=N_ROWS), "zone": pd.array(["n", "s"] * 40, dtype="str")})
        with capturing(store, dataset=dataset, model="lab/table", run_id="one") as capture:
            capture.set_labels([f"r{i}" for i in range(N_ROWS)])
            capture.add("input", given, role="input")
            capture.add("target", rng.normal(size=N_ROWS), role="target")
            capture.append(
                "prediction", rng.normal(size=(N_ROWS, 1)).astype(np.float32), role="prediction", codec=codec
            )
    for epoch in (1, 2):
        with capturing(store, dataset="valid", model="lab/net", run_id="one", epoch=epoch) as capture:
            capture.append("input", rng.random((N_ROWS, 8, 8, 1), np.float32), role="input")
            for name in ("conv1", "conv2"):
                capture.append(name, rng.normal(size=(N_ROWS, 4, 4, 3)).astype(np.float32), codec=codec)


def every_answer(store: Store) -> dict[str, Answer]:
    """An answer of each question, by its name."""
    layer, other, groups = f"{LAYERS}/conv1", f"{LAYERS}/conv2", np.arange(N_ROWS) % 2
    return {
        "get": mistique.get(store, layer),
        "topk": mistique.topk(store, layer, unit=1),
        "knn": mistique.knn(store, layer, row=3),
        "col_dist": mistique.col_dist(store, layer, unit=1, by=groups),
        "col_diff": mistique.col_diff(store, layer, other=other, column=5, by=groups),
        "row_diff": mistique.row_diff(store, layer, rows=[3, 4], reduce="mean"),
        "class_means": mistique.class_means(store, layer, by=groups),
        "svcca": mistique.svcca(store, layer, other=other, reduce="mean"),
        "cka": mistique.cka(store, LAYERS),
        "corr": mistique.corr(store, layer, other=other),
        "netdissect": mistique.netdissect(store, layer, concepts=np.arange(N_ROWS * 64).reshape(-1, 8, 8) % 3),
        "slices": mistique.slices(store, "lab/table@1/train", min_rows=10),
        "drift": mistique.drift(store, layer, other="lab/net@1.1/valid/conv1"),
        "trace": mistique.trace(store, LAYERS, row=3, other_row=4),
        "dead_units": mistique.dead_units(store, LAYERS),
        "epochs": mistique.epochs(store, RUN),
    }


@pytest.fixture(params=["raw", "power"])
def answers(store: Store, request: pytest.FixtureRequest) -> dict[str, Answer]:
    captured(store, request.param)
    return every_answer(store)


def test_there_is_an_answer_of_every_class_here(store: Store) -> None:
    captured(store, "raw")
    classes = {value for value in vars(queries).values() if isinstance(value, type) and issubclass(value, Answer)}
    assert {type(answer) for answer in every_answer(store).values()} == classes


def test_every_answer_has_each_form_a_picture_and_its_error(answers: dict[str, Answer], store: Store) -> None:
    for name, answer in answers.items():
        frame, table = answer.to_frame(), pyarrow.table(answer)
        assert len(frame) == table.num_rows == len(answer.values), name
        assert answer.to_numpy() is answer.values, name
        assert table.column_names[-frame.shape[1] :] == [str(c) for c in frame.columns], name
        array = answer.to_xarray()
        assert array.shape == answer.values.shape, name
        assert array.attrs["key"] == answer.key, name
        assert "<table>" in answer._repr_html_(), name
        assert max(map(len, repr(answer).splitlines())) <= 80, name
        assert not re.match("[A-Z][a-z]+[A-Z]", repr(answer)), name  # words, not the name of a class
        assert len(answer.rows) == len(answer.values), name
        assert answer.plan.candidates, name
        # Where it is not bounded, the answer says so.
        if not answer.max_abs_error:
            says = "exact"
        else:
            says = "without a bound" if np.isinf(answer.max_abs_error) else f"within {answer.max_abs_error:.3g}"
        assert says in " ".join(repr(answer).split()), name
        first = np.asarray(answer.plot()).reshape(-1)[0]  # type: ignore[attr-defined]
        titles = [first.get_title(loc="left"), *[text.get_text() for text in first.figure.texts]]
        assert answer.key.partition("/valid")[0].partition("/train")[0] in " ".join(titles), name


def test_what_quantized_values_make_of_a_figure_is_never_called_exact(store: Store) -> None:
    captured(store, "power")
    found = {name: answer.max_abs_error for name, answer in every_answer(store).items()}
    bound = mistique.get(store, f"{LAYERS}/conv1").max_abs_error
    assert bound > 0
    for name in ("get", "topk", "knn", "col_dist", "col_diff", "row_diff", "class_means", "trace"):
        assert 0 < found[name] < np.inf, name
    for name in ("svcca", "cka", "corr", "netdissect", "drift", "epochs"):
        assert np.isinf(found[name]), name
    assert found["slices"] == 0  # predictions are kept exactly
    assert found["dead_units"] == 0  # the codec keeps zero and sign
    assert mistique.dead_units(store, LAYERS, threshold=0.5).max_abs_error == np.inf
    bounds = [mistique.get(store, f"{LAYERS}/{name}", columns=[5]).max_abs_error for name in ("conv1", "conv2")]
    assert found["col_diff"] == sum(bounds)


@pytest.mark.parametrize(
    ("question", "says", "asked"),
    [
        ("dead_units", "threshold: expected a number, got 'a'", {"key": LAYERS, "threshold": "a"}),
        ("dead_units", "threshold: expected a number, got nan", {"key": LAYERS, "threshold": float("nan")}),
        (
            "epochs",
            "threshold: expected a number over 0 and up to 1, got 3",
            {"key": "lab/net@1/valid", "threshold": 3},
        ),
        ("drift", "threshold: expected a number over 0, got -1", {"key": LAYERS, "other": LAYERS, "threshold": -1}),
        ("slices", "alpha: expected a number over 0 and up to 1, got 2", {"key": "lab/table@1/train", "alpha": 2}),
        ("trace", "row: expected the label of a row, got None", {"key": LAYERS, "row": None}),
        (
            "netdissect",
            "concepts: expected whole numbers",
            {"key": f"{LAYERS}/conv1", "concepts": np.zeros((80, 0, 0), int)},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
def test_a_number_out_of_its_range_is_one_clear_error(
    store: Store, question: str, says: str, asked: dict[str, object]
) -> None:
    captured(store, "raw")
    key = asked.pop("key")
    with pytest.raises(QueryError, match=re.escape(says)):
        getattr(mistique, question)(store, key, **asked)


def test_values_without_numbers_or_rows_have_no_picture(store: Store) -> None:
    captured(store, "raw")
    given = "lab/table@1/train/input"
    assert mistique.get(store, given).plot().images[0].get_array().shape == (40, 1)  # the text has no shade
    for asked in ({"columns": ["zone"]}, {"rows": []}):
        with pytest.raises(QueryError, match="nothing to draw"):
            mistique.get(store, given, **asked).plot()


def test_images_and_maps_are_drawn_as_such(store: Store) -> None:
    captured(store, "raw")
    images = mistique.get(store, f"{LAYERS}/input", rows=slice(0, 7))
    assert [cell.get_title() for cell in images.plot().reshape(-1)[:7]] == list("0123456")
    maps = mistique.get(store, f"{LAYERS}/conv1", rows=[5, 2], unit=[2, 0])
    cells = maps.plot()
    assert [cell.get_title() for cell in cells[0]] == ["unit 2", "unit 0"]
    assert [row[0].get_ylabel() for row in cells] == ["5", "2"]
    np.testing.assert_array_equal(cells[1, 0].images[0].get_array(), maps.values[1, ..., 0])
