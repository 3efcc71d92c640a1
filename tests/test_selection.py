"""The sample of tests that runs by default leaves out no value, and is always the same."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lossd.losses import LOSSES
from tests.selection import covering, one_of_each_function


class Item:
    """A test with parameters, as pytest collects it."""

    def __init__(self, name: str, parameters: Mapping[str, Any], *marks: pytest.Mark) -> None:
        self.nodeid = f"{name}[{'-'.join(str(value) for value in parameters.values())}]"
        self.callspec = type("CallSpec", (), {"params": parameters})
        self._marks = marks

    def mark(self, mark: pytest.Mark) -> None:
        self._marks = (*self._marks, mark)

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [mark for mark in self._marks if mark.name == name]

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(iter(self.iter_markers(name)), None)


TABLE = pytest.mark.parametrize(("number", "wanted"), []).mark
GPU = pytest.mark.gpu.mark
EVERY_ENGINE = pytest.mark.every_engine.mark
ENGINES = ("numpy", "compiled")
NUMBERS = ((1, "one"), (2, "two"), (1, "une"), (2, "deux"))


def collected(name: str) -> list[Any]:
    """Each loss on each engine with each row of a table."""
    return [
        Item(name, {"engine": engine, "loss": loss, "number": row[0], "wanted": row[1]}, TABLE)
        for engine, loss, row in itertools.product(ENGINES, LOSSES, NUMBERS)
    ]


def kept(items: list[Any]) -> list[Any]:
    return sorted(covering(items), key=lambda item: item.nodeid)


def test_every_value_of_every_parameter_of_every_test_is_kept() -> None:
    items = [*collected("first"), *collected("second")]
    for name in ("first", "second"):
        own = [item.callspec.params for item in kept(items) if item.nodeid.startswith(name)]
        assert {given["engine"] for given in own} == set(ENGINES)
        assert {given["loss"] for given in own} == set(LOSSES)
        assert {(given["number"], given["wanted"]) for given in own} == set(NUMBERS)
        assert len(own) < len(LOSSES) + len(NUMBERS) + len(ENGINES)


def test_what_asks_for_every_engine_has_each_value_on_each() -> None:
    for item in (items := collected("test")):
        item.mark(EVERY_ENGINE)
    own = [item.callspec.params for item in kept(items)]
    tables: dict[str, list[Any]] = {"loss": list(LOSSES), "number": [row[0] for row in NUMBERS]}
    for name, values in tables.items():
        wanted = set(itertools.product(ENGINES, values))
        assert {(given["engine"], given[name]) for given in own} == wanted
    assert len(own) < len(ENGINES) * (len(LOSSES) + len(NUMBERS))


def test_neither_the_order_nor_another_test_changes_what_is_kept() -> None:
    items = collected("first")
    more = [*collected("second"), *items]
    shuffled = [more[place] for place in np.random.default_rng(1).permutation(len(more))]
    assert kept(items) == [item for item in kept(shuffled) if item.nodeid.startswith("first")]


def test_what_was_asked_for_by_name_is_kept() -> None:
    for item in collected("first")[::17]:
        assert kept([item]) == [item]


def test_a_test_on_a_gpu_stands_for_none_elsewhere() -> None:
    """Where there is no GPU it is skipped, and nothing would be left of its loss."""
    here = [Item("test", {"engine": "numpy", "loss": loss}) for loss in LOSSES]
    there = [Item("test", {"engine": "cupy", "loss": loss}, GPU) for loss in LOSSES]
    assert len(kept([*here, *there])) == 2 * len(LOSSES)


def test_one_of_each_function_is_the_same_in_any_order() -> None:
    items = [*collected("first"), *collected("second")]
    found = one_of_each_function(items)
    assert sorted(item.nodeid.partition("[")[0] for item in found) == ["first", "second"]
    assert one_of_each_function(items[::-1]) == found
