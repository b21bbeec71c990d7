"""Keys and the geometry of chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistique.errors import InvalidKeyError
from mistique.schema import CHUNK_CELLS, ColumnType, Intermediate, Key, escape, join_path

NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PATH = st.lists(NAME, min_size=1, max_size=3).map(lambda names: join_path(*names))


@given(model=PATH, version=st.sampled_from(["1", "2.10", "latest"]), dataset=NAME, intermediate=PATH)
def test_a_key_is_the_key_that_its_text_spells(model: str, version: str, dataset: str, intermediate: str) -> None:
    key = Key(model, version, dataset, intermediate)
    assert Key.parse(str(key)) == key
    assert Key.parse(key) is key


@given(NAME)
def test_an_escaped_name_has_none_of_the_signs_of_a_key(name: str) -> None:
    assert not set("/@ ") & set(escape(name))
    assert escape(name).isascii()


@given(st.lists(NAME, min_size=1, max_size=3), st.lists(NAME, min_size=1, max_size=3))
def test_two_paths_are_equal_only_if_their_names_are(left: list[str], right: list[str]) -> None:
    assert (join_path(*left) == join_path(*right)) == (left == right)


@pytest.mark.parametrize(
    "text", ["", "a", "a/b", "a@1", "a@1/b", "@1/b/c", "a@/b/c", "a@1//c", "a@b@1/c/d", None, 5, b"a@1/b/c"]
)
def test_what_spells_no_key_is_refused(text: object) -> None:
    with pytest.raises(InvalidKeyError, match="for example homes/ridge@latest/train/scale"):
        Key.parse(text)  # type: ignore[arg-type]


def layer(shape: tuple[int, ...], n_rows: int = 5000) -> Intermediate:
    return Intermediate("x", "stage", n_rows, shape, (ColumnType("float32", "<f4"),))


@given(st.lists(st.integers(1, 64), max_size=3).map(tuple), st.integers(1, 10_000))
def test_blocks_and_groups_cover_every_cell_once(shape: tuple[int, ...], n_rows: int) -> None:
    node = layer(shape, n_rows)
    assert (node.n_blocks - 1) * node.block_rows < n_rows <= node.n_blocks * node.block_rows
    assert (node.n_groups - 1) * node.group_columns < node.n_columns <= node.n_groups * node.group_columns
    assert node.n_units * node.positions == node.n_columns


@given(st.lists(st.integers(1, 64), max_size=3).map(tuple))
def test_a_chunk_of_a_layer_is_about_a_tile_and_ends_where_units_do(shape: tuple[int, ...]) -> None:
    node = layer(shape)
    assert node.block_rows * node.group_columns <= 2 * CHUNK_CELLS
    is_whole_units = node.group_columns % node.positions == 0 or node.group_columns == node.n_columns
    is_part_of_one = node.positions % node.group_columns == 0
    assert is_whole_units or is_part_of_one or node.positions > CHUNK_CELLS // node.block_rows


@pytest.mark.parametrize(("n_columns", "rows"), [(1, 1024), (4096, 1024), (4097, 512), (65_536, 64), (10**6, 64)])
def test_wide_layers_have_shorter_blocks(n_columns: int, rows: int) -> None:
    assert layer((n_columns,)).block_rows == rows


def test_masks_follow_the_values() -> None:
    types = tuple(ColumnType("Int64", "<i8", is_nullable) for is_nullable in (True, False, True))
    table = Intermediate("x", "stage", 10, (3,), types, container="frame")
    assert (table.n_groups, dict(table.mask_groups)) == (3, {0: 3, 2: 4})
