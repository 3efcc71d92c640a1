"""Nothing is lost by calls that end in every way; and what would be lost is found."""

import sys
from pathlib import Path

import pytest

from tests import faulty_server
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.soak import count, leaks, soak


def found_in(process: Process) -> list[str]:
    soak(process.address, 200, seed=1)  # until its pools are full
    before = count(process)
    soak(process.address, 200, seed=2)
    return leaks(before, count(process))


def test_a_server_keeps_nothing_of_calls_that_are_over() -> None:
    with serve("--backend", "numpy") as process:
        assert found_in(process) == []


@pytest.mark.parametrize(
    ("fault", "leak"),
    [
        (faulty_server.keeps_memory, "memory"),
        (faulty_server.keeps_descriptors, "descriptors"),
        (faulty_server.forgets_that_calls_end, "calls"),
        (faulty_server.keeps_places, "gauge"),
    ],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_a_planted_leak_is_found(fault: object, leak: str) -> None:
    inside = (sys.executable, faulty_server.__file__, fault.__name__)  # type: ignore[attr-defined]
    assert Path(inside[1]).is_file()
    with serve("--backend", "numpy", inside=inside) as process:
        assert leak in found_in(process)
