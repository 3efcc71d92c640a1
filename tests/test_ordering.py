"""Orders that can be stopped are those that NumPy sorts by in one go."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd import ordering
from lossd.checkpoints import never_stop
from lossd.ordering import (
    ascending,
    ascending_rows,
    dense_ranks,
    ordered,
    sort_in_place,
    sort_rows_in_place,
)

Array = npt.NDArray[Any]
KINDS = ("f2", "f4", "f8", "i1", "i4", "i8", "u1", "u4", "u8", "?")
SIZES = (0, 1, 2, 7, 8, 9, 200)


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """A checkpoint wants no more."""


@pytest.fixture(autouse=True, params=[1, 8])
def _run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "RUN", request.param)


def drawn(kind: str, size: int) -> Iterator[Array]:
    """Yields numbers with many equal ones, with few, and with both in the high digits alone."""
    random, dtype = np.random.default_rng(size), np.dtype(kind)
    for spread in (2, 100, 1e12):
        numbers = np.floor(random.standard_normal(size) * spread)
        if dtype.kind == "f":
            special = random.choice([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-7], size)
            yield np.where(random.random(size) < 0.2, special, numbers).astype(dtype)
        else:
            yield numbers.astype(np.int64).astype(dtype)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_equal_numbers_stay_in_their_order(kind: str, size: int) -> None:
    for numbers in drawn(kind, size):
        expected = np.argsort(numbers, kind="stable")
        np.testing.assert_array_equal(ascending(numbers, checkpoint=never_stop), expected)
        key = numbers.__getitem__
        np.testing.assert_array_equal(ordered(None, size, key, checkpoint=never_stop), expected)
        places = np.arange(size)[::-1].copy()
        np.testing.assert_array_equal(
            ordered(places, size, key, checkpoint=never_stop),
            places[np.argsort(numbers[::-1], kind="stable")],
        )


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kinds", list(itertools.permutations(("?", "f4", "f8", "i8"), 3)))
def test_the_last_key_counts_first(kinds: tuple[str, ...], size: int) -> None:
    for keys in zip(*(drawn(kind, size) for kind in kinds), strict=True):
        np.testing.assert_array_equal(ascending(*keys, checkpoint=never_stop), np.lexsort(keys))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (5, 2), (3, 40)])
def test_rows_are_ordered_by_themselves(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    keys = random.integers(0, 3, shape), random.integers(0, 3, shape).astype(np.float32)
    np.testing.assert_array_equal(ascending_rows(*keys, checkpoint=never_stop), np.lexsort(keys))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (5, 2), (3, 40), (100, 1)])
def test_rows_are_sorted_by_themselves_and_short_ones_together(shape: tuple[int, int]) -> None:
    numbers = np.random.default_rng(0).integers(0, 50, shape)
    expected = np.sort(numbers, axis=1)
    looks: list[None] = []
    sort_rows_in_place(numbers, lambda: looks.append(None))
    np.testing.assert_array_equal(numbers, expected)
    if shape[1] <= ordering.RUN:
        assert len(looks) <= -(-shape[0] // max(1, ordering.RUN // max(1, shape[1])))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["i4", "i8", "u8"])
def test_ranks_count_different_numbers(kind: str, size: int) -> None:
    for numbers in drawn(kind, size):
        less = {number: rank for rank, number in enumerate(sorted(set(numbers.tolist())))}
        assert dense_ranks(numbers, never_stop).tolist() == [
            less[number] for number in numbers.tolist()
        ]


@pytest.mark.parametrize("size", SIZES)
def test_numbers_are_sorted_where_they_are(size: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 50, size)
    expected = sorted(numbers.tolist())
    sort_in_place(numbers, never_stop)
    assert numbers.tolist() == expected


def test_every_part_is_a_place_to_stop() -> None:
    numbers = np.random.default_rng(0).standard_normal(400)
    for sort in (sort_in_place, ascending, dense_ranks):
        calls = itertools.count(1)

        def checkpoint(calls: "itertools.count[int]" = calls) -> None:
            if next(calls) == 40:
                raise Stopped

        with pytest.raises(Stopped):
            sort(numbers.copy(), checkpoint=checkpoint)
