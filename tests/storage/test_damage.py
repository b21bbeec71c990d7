"""A damaged store gives the right answer or one of our errors, never a wrong value."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import mistique
from mistique.errors import ChunkCorruptError, MistiqueError
from mistique.queries.listing import listing
from mistique.storage.encryption import KeySource
from mistique.storage.soundness import refuse_unsound
from mistique.store import Store
from tests.capturing import put, put_layer, references_of
from tests.storage.flip_bytes import ask
from tests.storage.hostile import N_ROWS, look, make_store, peak_nbytes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny store, at two epochs."""
    return make_store(tmp_path_factory.mktemp("damage") / "s.mistique")


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "copy.mistique"))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["segments", "artifacts", "catalog", "usage", "digests"])
def test_a_flipped_bit_gives_the_right_answer_or_an_error_of_ours(damaged: Path, part: str) -> None:
    command = [sys.executable, "-m", "tests.storage.flip_bytes", str(damaged), part, part, "15"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


@pytest.mark.parametrize("part", ["segments", "artifacts", "catalog"])
def test_files_cut_short_give_the_right_answer_or_an_error_of_ours(damaged: Path, part: str) -> None:
    right = ask(damaged)
    for path in sorted(path for path in (damaged / part).rglob("*.tdb") if path.stat().st_size)[:12]:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with suppress(MistiqueError):
            assert ask(damaged) == right, path
        path.write_bytes(content)


def test_one_damaged_segment_leaves_the_others_readable(damaged: Path) -> None:
    with mistique.open(damaged, mode="r") as store:
        references = references_of(store, "lab/model@1.1/train/layer")
    shutil.rmtree(damaged / "segments" / references.segments[0].id)
    with mistique.open(damaged, mode="r") as store:
        with pytest.raises(ChunkCorruptError, match="other intermediates can still be read"):
            mistique.get(store, "lab/model@1.1/train/layer")
        assert len(mistique.get(store, "lab/model@1.2/train/layer")) == N_ROWS


def test_a_segment_put_in_the_place_of_another_is_noticed(store: Store) -> None:
    ids = []
    for value in (1.0, 2.0):
        key = put_layer(store, np.full((50, 4), value))
        ids.append(references_of(store, key).segments[0].id)
    store.close()
    segments = Path(store.uri) / "segments"
    shutil.rmtree(segments / ids[0])
    shutil.copytree(segments / ids[1], segments / ids[0])
    with pytest.raises(ChunkCorruptError):
        mistique.get(mistique.open(store.uri, mode="r"), "lab/model@1/train/layer")


def test_a_capture_beside_a_damaged_segment_stores_its_chunks_again(store: Store) -> None:
    values = np.arange(3000.0)
    put(store, values)
    store.close()
    shutil.rmtree(Path(store.uri) / "segments")
    (Path(store.uri) / "segments").mkdir()
    again = mistique.open(store.uri)
    key = put(again, values)
    assert mistique.get(again, key).values.tolist() == values.tolist()


@pytest.mark.slow
def test_a_store_damaged_at_random_gives_the_right_answer_or_an_error_of_ours(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.storage.hostile", str(tmp_path), "seed", "24"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


@pytest.mark.parametrize("part", ["segments", "catalog", "artifacts"])
def test_nothing_behind_a_link_is_read(damaged: Path, part: str) -> None:
    right, whole, n_refused = ask(damaged), damaged / part, 0
    for found in [whole, *(p for p in whole.iterdir() if len(p.name) > 16 or p.name == "__schema")]:
        outside = damaged.parent / "outside"
        found.rename(outside)
        found.symlink_to(outside)
        try:
            assert ask(damaged) == right  # of what is not asked for
        except MistiqueError as error:
            n_refused += "is a link" in str(error)
        found.unlink()
        outside.rename(found)
    assert n_refused >= 2
    assert ask(damaged) == right


@pytest.mark.parametrize("part", ["segments/*", "catalog", "digests"])
@pytest.mark.parametrize("n_bytes", [0, 5, 33])
def test_cells_of_an_array_whose_schema_ends_within_its_head_are_refused(
    damaged: Path, part: str, n_bytes: int
) -> None:
    # Whichever of its folders is looked at first.
    right = ask(damaged)
    for schema in damaged.glob(f"{part}/__schema/*"):
        if schema.is_file():
            schema.write_bytes(schema.read_bytes()[:n_bytes])
            with pytest.raises(ChunkCorruptError, match=f"tile of TileDB.*got {n_bytes} bytes"):
                refuse_unsound(str(schema.parents[1] / "__fragments"))
    with suppress(MistiqueError):
        assert ask(damaged) == right


@pytest.mark.parametrize("position", [2, 22, 26])  # numbers of chunks and of checksums
def test_a_size_that_no_checksum_covers_makes_nobody_ask_for_that_much_memory(tmp_path: Path, position: int) -> None:
    path = make_store(tmp_path / "s.mistique")
    look(path)
    file = min((path / "usage").rglob("a0.tdb"))
    content = bytearray(file.read_bytes())
    content[position] ^= 0x55
    file.write_bytes(content)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_nbytes()
    with mistique.open(path, mode="r") as store:
        assert {damage.kind for damage in store.check().damages} == {"usage"}
    assert peak_nbytes() - before < 128 * 2**20


def test_the_metadata_of_a_fragment_that_ends_early_is_refused_before_tiledb_believes_it(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s.mistique")
    file = min((path / "usage").rglob("__fragment_metadata.tdb"))
    content = file.read_bytes()
    for n_bytes in range(0, len(content), 7):
        file.write_bytes(content[:n_bytes])
        with pytest.raises(ChunkCorruptError, match="metadata of a fragment"):
            refuse_unsound(str(path / "usage"))
    n_footer = int.from_bytes(content[-8:], "little")
    # The size of a name, a number of tiles, the size of a file, the place of a tile.
    for place in (7, -8 * 43 - 24 * 5 - 15, -8 * 43 - 24 * 5, -8):
        flipped = bytearray(content)
        flipped[len(content) - 8 + place - (n_footer if place > 0 else 0)] ^= 0x55
        file.write_bytes(flipped)
        with pytest.raises(ChunkCorruptError, match="metadata of a fragment"):
            refuse_unsound(str(path / "usage"))
    # The bounds of the dimensions, the cells of the last tile, the version: as close to what was written as can be.
    for place in (12 + 62 + 2, 12 + 62 + 2 + 24, 12 + 62 + 2 + 48 + 8, 0):
        flipped = bytearray(content)
        flipped[len(content) - 8 - n_footer + place] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(ChunkCorruptError, match="metadata of a fragment"):
            refuse_unsound(str(path / "usage"))
    (commit,) = (path / "usage" / "__commits").glob(f"{file.parent.name}.*")
    commit.unlink()
    refuse_unsound(str(path / "usage"))  # a writer may be in the middle of it


@pytest.mark.parametrize("key", [None, lambda: b"0" * 32], ids=["plain", "encrypted"])
def test_records_whose_fragment_says_other_bounds_are_not_passed_over(tmp_path: Path, key: KeySource | None) -> None:
    path = tmp_path / "s.mistique"
    with mistique.open(path, key=key) as store:
        for number in range(3):
            put(store, np.arange(9.0), model=f"lab/{number}")
        right = repr(listing(store))
    for file in (path / "catalog").rglob("__fragment_metadata.tdb"):
        before = file.read_bytes()
        # The highest bytes of the bounds of the second dimension: behind version, name of the schema and flags.
        second = len(before) - 8 - int.from_bytes(before[-8:], "little") + 12 + 62 + 2 + 16
        for place in (second + 7, second + 8 + 7):
            content = bytearray(before)
            content[place] ^= 0x7F
            file.write_bytes(content)
            with mistique.open(path, mode="r", key=key) as store:
                with pytest.raises(ChunkCorruptError, match="bounds"):
                    listing(store)
                assert {damage.kind for damage in store.check().damages} >= {"records"}
        file.write_bytes(before)
    with mistique.open(path, mode="r", key=key) as store:
        assert repr(listing(store)) == right


@pytest.mark.parametrize("key", [None, lambda: b"0" * 32], ids=["plain", "encrypted"])
def test_the_head_of_a_tile_is_refused_that_says_other_filters(tmp_path: Path, key: KeySource | None) -> None:
    path = tmp_path / "s.mistique"
    with mistique.open(path, key=key) as store:
        put(store, np.arange(9.0))
    refuse_unsound(str(path))
    tiles = [
        next(f for f in folder.iterdir() if f.is_file())
        for folder in path.rglob("__*")
        if folder.is_dir()
        and folder.name in ("__schema", "__meta", "__group")
        and any(f.is_file() for f in folder.iterdir())
    ]
    tiles += path.rglob("__fragment_metadata.tdb")
    assert len(tiles) > 8
    for file in tiles:
        content = file.read_bytes()
        # Its type, the bytes of a cell, whether it is encrypted, how many filters there are, and of what kind.
        places = [20, 21, 29, 34 + 6, 34 + 8]
        if key is not None:
            places += [34 + 23 + 8 + 8, 34 + 23 + 8 + 12 + 2, 34 + 23 + 8 + 12 + 8 + 2]  # sizes that no tag covers
        for place in places:
            flipped = bytearray(content)
            flipped[place] ^= 0x7F
            file.write_bytes(flipped)
            with pytest.raises(ChunkCorruptError):
                refuse_unsound(str(path))
        file.write_bytes(content)
    refuse_unsound(str(path))


@pytest.mark.parametrize("key", [None, lambda: b"0" * 32], ids=["plain", "encrypted"])
def test_sizes_in_the_times_of_a_merged_log_are_looked_at(tmp_path: Path, key: KeySource | None) -> None:
    path = tmp_path / "s.mistique"
    with mistique.open(path, key=key) as store:
        for number in range(3):
            put(store, np.arange(9.0), model=f"lab/{number}")
        store._catalog.compact()
    refuse_unsound(str(path))
    (file,) = path.rglob("t.tdb")
    content = file.read_bytes()
    # How many chunks there are, the sizes of the first, and what its filters say: of 64 KiB it took 320 MiB.
    for place in (0, 2, 7, 11, 12, 15, 16, 19, 20, 24):
        flipped = bytearray(content)
        flipped[place] ^= 0x7F
        file.write_bytes(flipped)
        with pytest.raises(ChunkCorruptError, match="cells in chunks"):
            refuse_unsound(str(path))
    file.write_bytes(content)
    with mistique.open(path, mode="r", key=key) as store:
        assert len(store.catalog.captures()) == 3
