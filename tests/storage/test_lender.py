"""Memory that was lent is never written over while somebody holds it, and only so much of it is kept."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mistique.planner.reading import read
from mistique.storage.lender import Lender
from mistique.store import Store
from tests.capturing import capturing

MIB = 1 << 20


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_an_array_is_as_one_of_numpy() -> None:
    array = Lender(8 * MIB).array((512, 1024), "<f4")
    assert (array.shape, array.dtype) == ((512, 1024), "<f4")
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[:] = 1.5
    assert array.sum() == 1.5 * array.size


def test_memory_that_nobody_holds_is_lent_again() -> None:
    lender = Lender(8 * MIB)
    array = lender.array((MIB,), "u1")
    first = _address(array)
    del array
    assert lender.kept_nbytes == MIB
    assert _address(lender.array((MIB // 4,), "<f4")) == first


def test_a_view_of_an_array_holds_its_memory() -> None:
    lender = Lender(8 * MIB)
    array = lender.array((1024, 1024), "<u2")
    array[:] = 7
    view = array.T[5:10, ::2].view("<i2")
    del array
    others = [lender.array((1024, 1024), "<u2") for _ in range(3)]
    for other in others:
        other[:] = 9
    assert (view == 7).all()
    assert lender.kept_nbytes == 0


def test_what_is_too_large_for_an_array_is_left_for_others() -> None:
    lender = Lender(64 * MIB)
    large = lender.array((9 * MIB,), "u1")
    first = _address(large)
    del large
    small = lender.array((2 * MIB,), "u1")
    assert _address(small) != first
    assert _address(lender.array((5 * MIB,), "u1")) == first


def test_small_arrays_are_not_its_concern() -> None:
    lender = Lender(8 * MIB)
    array = lender.array((100,), "<f8")
    assert array.base is None
    del array
    assert lender.kept_nbytes == 0


def test_no_more_is_kept_than_was_said() -> None:
    lender = Lender(4 * MIB)
    arrays = [lender.array((MIB,), "u1") for _ in range(7)]
    last = {_address(array) for array in arrays[-4:]}
    while arrays:
        arrays.pop(0)
    assert lender.kept_nbytes == 4 * MIB
    assert {_address(array) for array in [lender.array((MIB,), "u1") for _ in range(4)]} <= last
    too_large = lender.array((5 * MIB,), "u1")
    del too_large
    assert lender.kept_nbytes <= 4 * MIB


def test_closed_it_keeps_nothing() -> None:
    lender = Lender(8 * MIB)
    held = lender.array((MIB,), "u1")
    lender.array((MIB,), "u1")
    lender.close()
    assert lender.kept_nbytes == 0
    held[:] = 3
    del held
    assert lender.kept_nbytes == 0


@given(st.lists(st.tuples(st.integers(MIB, 3 * MIB), st.integers(0, 5)), max_size=25))
def test_whatever_is_held_keeps_its_values(asked: list[tuple[int, int]]) -> None:
    lender, held = Lender(4 * MIB), dict[int, np.ndarray]()
    for number, (size, place) in enumerate(asked):
        held[place] = lender.array((size,), "u1")
        held[place][[0, -1]] = number
        assert lender.kept_nbytes <= 4 * MIB
        for array in held.values():
            assert array[0] == array[-1]
    assert len({int(array[0]) for array in held.values()}) == len(held)


def test_threads_never_share_memory() -> None:
    lender = Lender(6 * MIB)

    def work(number: int) -> bool:
        is_whole = True
        for i in range(200):
            array = lender.array((MIB + number,), "u1")
            array[::4096] = (number + i) % 251
            gc.collect(0)
            is_whole &= bool((array[::4096] == (number + i) % 251).all())
        return is_whole

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
    assert lender.kept_nbytes <= 6 * MIB


def test_one_read_never_writes_over_the_values_of_another(store: Store) -> None:
    x = np.random.default_rng(0).normal(size=(2_000, 300)).astype(np.float32)
    with capturing(store) as capture:
        capture.append("x", x)
    capture_, node = store.catalog.find("lab/model@1/train/x")
    node = store.graph(capture_).nodes["x"]
    parts = [np.arange(low, low + 1_000) for low in (0, 500, 1_000)]
    columns = np.arange(300)
    found = [read(store.segments, node, rows, columns, by_column=True)[0].to_numpy() for rows in parts]
    for rows, values in zip(parts, found, strict=True):
        np.testing.assert_array_equal(values, x[rows])
    del found, values
    assert MIB < store.segments.lender.kept_nbytes <= 64 * MIB
    store.close()
    assert store.segments.lender.kept_nbytes == 0
