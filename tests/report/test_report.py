"""The report: one file that needs nothing else, in which every name is text, and every section says something."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import mistique
from mistique.errors import IntermediateNotFoundError, StoreError
from mistique.report import write_report
from mistique.report.sections import SECTIONS
from mistique.store import Store
from tests.capturing import capturing

HOSTILE = "</td></table><script>alert('x')</script><img src=x onerror=alert(1)>$\\frac&amp;\""


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text of each section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self._is_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_title = tag == "h2"

    def handle_data(self, data: str) -> None:
        if self._is_title:
            self.sections[data], self._is_title = "", False
        elif self.sections:
            self.sections[list(self.sections)[-1]] += data


def homes_like(store: Store, name: str = "sqft") -> None:
    """A model over two datasets, one of which has drifted, with a slice that is wrong; names may be hostile."""
    rng = np.random.default_rng(0)
    for dataset in ("train", "valid"):
        given = pd.DataFrame({name: rng.normal(size=300), "zone": pd.array(rng.choice([name, "s"], 300), dtype="str")})
        truth = given[name].to_numpy() + 4 * (given["zone"] == name).to_numpy()
        with capturing(store, model=f"lab/{name}", dataset=dataset, run_id="one") as capture:
            capture.set_labels([f"{name}{i}" for i in range(300)])
            capture.add("input", given, role="input")
            capture.add(name, given[[name]] + (dataset == "valid"), parents=("input",), detail=name)
            capture.add("prediction", given[name].to_numpy(), role="prediction")
            capture.add("target", truth, role="target")


def network(store: Store) -> None:
    """Three epochs of a network over images."""
    rng = np.random.default_rng(0)
    images, target = rng.random((120, 8, 8, 1), np.float32), rng.integers(0, 3, 120)
    for epoch in (1, 2, 3):
        with capturing(store, model="lab/net", dataset="valid", run_id="one", epoch=epoch) as capture:
            capture.append("input", images, role="input")
            maps = np.maximum(rng.normal(size=(120, 4, 4, 6)), 0).astype(np.float32)
            maps[..., 0] = 0
            capture.append("conv", maps, parents=("input",))
            capture.append("prediction", np.eye(3, dtype=np.float32)[(target + (target == 1)) % 3], role="prediction")
            capture.append("target", target, role="target")


def test_a_report_of_tables_names_the_slice_and_the_stage_that_parts(store: Store, tmp_path: Path) -> None:
    homes_like(store)
    told: list[str] = []
    open_before = plt.get_fignums()  # of other tests
    path = write_report(store, "lab/sqft", path=tmp_path / "r.html", on_section=told.append)
    page = Page(path.read_text(encoding="utf-8"))
    assert list(page.sections) == told == [title for title, _ in SECTIONS]
    assert "zone sqft" in page.sections["Where the model is wrong"]
    assert "they part at sqft" in page.sections["Drift between the datasets"]
    assert "is no images" in page.sections["What fires units"]
    assert "no layers with units" in page.sections["Dead units"]
    assert "One epoch" in page.sections["Training"]
    assert sum(tag == "img" for tag, _ in page.tags) == 3
    assert plt.get_fignums() == open_before
    assert [item.name for item in tmp_path.iterdir() if "r.html" in item.name] == ["r.html"]


def test_a_report_of_a_network_shows_images_dead_units_and_epochs(store: Store, tmp_path: Path) -> None:
    network(store)
    page = Page(write_report(store, "lab/net@1", path=tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "target 1" in page.sections["Where the model is wrong"]
    assert "over one dataset only" in page.sections["Drift between the datasets"]
    assert "conv: the images" in page.sections["What fires units"]
    assert "conv1.3610" in page.sections["Dead units"]  # cell by cell: of 6 units 1 never fires, 0 always do
    assert "Similarity (CKA)" in page.sections["Training"]


def test_nothing_is_loaded_and_no_name_becomes_markup(store: Store, tmp_path: Path) -> None:
    homes_like(store, HOSTILE)
    text = write_report(store, f"lab/{HOSTILE}", path=tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    assert HOSTILE in page.sections["Where the model is wrong"]
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form", "video", "audio"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#s", "data:image/png;base64,")), (tag, value)
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_a_section_that_fails_says_how_and_leaves_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes_like(store)

    def fails(*_: object, **__: object) -> None:
        raise StoreError("a <damaged> store")

    monkeypatch.setattr("mistique.report.sections.slices", fails)
    page = Page(write_report(store, "lab/sqft", path=tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "could not be answered: a <damaged> store" in page.sections["Where the model is wrong"]
    assert "they part at sqft" in page.sections["Drift between the datasets"]


@pytest.mark.parametrize("columns", [{"input": "input"}, {"prediction": "prediction"}])
def test_a_model_of_one_intermediate_still_has_every_section(
    store: Store, tmp_path: Path, columns: dict[str, str]
) -> None:
    with capturing(store) as capture:
        for name, role in columns.items():
            capture.add(name, np.arange(5.0), role=role)
    page = Page(write_report(store, "lab/model", path=tmp_path / "r.html").read_text(encoding="utf-8"))
    assert all(text.strip() for text in page.sections.values())
    assert "no target" in page.sections["Where the model is wrong"]


def test_datasets_can_be_chosen_and_what_is_unknown_is_named(store: Store, tmp_path: Path) -> None:
    homes_like(store)
    path = tmp_path / "r.html"
    store.tag("lab/sqft@1", "best")
    text = write_report(store, "lab/sqft@best", path=path, dataset="train", against="valid").read_text(encoding="utf-8")
    assert "Drift from lab/sqft@1/valid to lab/sqft@1/train" in text
    for arguments, says in (
        ({"model": "lab/sqfd"}, "no model 'lab/sqfd'; nearest: lab/sqft"),
        ({"model": "lab/sqft@7"}, "no version"),
        ({"model": "lab/sqft", "dataset": "vallid"}, "nearest: valid"),
        ({"model": "lab/sqft", "against": "trian"}, "nearest: train"),
    ):
        with pytest.raises(IntermediateNotFoundError, match=says):
            write_report(store, path=path, **arguments)  # type: ignore[arg-type]


def test_an_interrupted_report_leaves_the_old_file_and_no_other(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes_like(store)
    path = tmp_path / "r.html"
    path.write_text("old")

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(store, "lab/sqft", path=path, on_section=interrupted)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir() if "html" in item.name] == ["r.html"]
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(store, "lab/sqft", path=tmp_path / "nowhere" / "r.html")
    assert mistique.get(store, "lab/sqft@1/train/target").values.shape == (300,)
