"""The tests of a default run: of all combinations of parameters, a sample that is always the same.

In the sample of each test function every value of every parameter occurs: every loss, every type,
every engine.  Values that one ``parametrize`` gives together are one value, so that tables of
cases stay whole; a table that is long by multiplication is written as two ``parametrize``.
"""

import zlib
from collections.abc import Iterable, Iterator

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

    A test on a GPU stands for no test elsewhere, as it is skipped where there is none.
    """
    function = (item.nodeid.partition("[")[0], is_of_a_device(item))
    parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    yield function
    for mark in item.iter_markers("parametrize"):
        names = _names(mark.args[0])
        yield (*function, *names, *(id(parameters.pop(name)) for name in names))
    for name, value in parameters.items():
        yield (*function, name, id(value))


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else (*given,)
