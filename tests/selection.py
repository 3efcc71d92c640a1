"""The tests of a default run: of all combinations of parameters, a sample that is always the same.

In the sample of each test function every value of every parameter occurs: every loss, every type,
every engine; and on both clients, where a test is of both.  Values that one ``parametrize`` gives
together are one value, so that tables of cases stay whole; a table that is long by multiplication
is written as two ``parametrize``.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping

import pytest

Value = tuple[object, ...]


def is_of_a_device(item: pytest.Item) -> bool:
    """Returns whether a test runs on a GPU, real or fake."""
    return item.get_closest_marker("gpu") is not None


def covering(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Returns tests in which each value of a parameter occurs that occurs in the given ones.

    Neither the order of tests nor the order of parameters matters: names of tests decide.
    """
    kept: set[pytest.Item] = set()
    seen: set[Value] = set()
    for item in sorted(items, key=number):
        values = set(_values(item))
        if not values <= seen:
            seen |= values
            kept.add(item)
    return kept


def one_of_each_function(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Returns the first test of each function, always the same, in any order of tests."""
    found: dict[str, pytest.Item] = {}
    for item in sorted(items, key=number):
        found.setdefault(item.nodeid.partition("[")[0], item)
    return set(found.values())


def number(item: pytest.Item) -> int:
    """Returns a number that is drawn for a test, always the same."""
    return zlib.crc32(item.nodeid.encode())


def _values(item: pytest.Item) -> Iterator[Value]:
    """Yields the values of the parameters of a test, each with what it is a value of.

    Each of them also with each client, so that a table runs on both; and with each engine if the
    test asks for it.
    """
    places = [name for name in _places(item) if name in _parameters(item)]
    for value in _single(item):
        yield value
        yield from ((*value, name, id(_parameters(item)[name])) for name in places)


def _places(item: pytest.Item) -> tuple[str, ...]:
    """Returns the parameters that say where a test runs, if one place does not stand for others."""
    return ("flavour", "engine") if item.get_closest_marker("every_engine") else ("flavour",)


def _single(item: pytest.Item) -> Iterator[Value]:
    """Yields each value by itself.

    A test on a GPU stands for no test elsewhere, as it is skipped where there is none.
    """
    function = (item.nodeid.partition("[")[0], is_of_a_device(item))
    parameters = dict(_parameters(item))
    yield function
    for mark in item.iter_markers("parametrize"):
        names = _names(mark.args[0])
        yield (*function, *names, *(id(parameters.pop(name)) for name in names))
    for name, value in parameters.items():
        yield (*function, name, id(value))


def _parameters(item: pytest.Item) -> Mapping[str, object]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else (*given,)
