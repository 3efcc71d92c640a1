"""A request without rows costs nothing, however long its rows would be."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lossd import v1
from tests.fuzz.inside import inside
from tests.fuzz.seeds import COMPUTE, EVALUATE, Seed, seeds

_LONG = (1 << 20, 1 << 40)  # of what a message has bytes for, and beyond any memory
_PARSED: dict[str, Any] = {COMPUTE: v1.ComputeLossRequest, EVALUATE: v1.EvaluateRequest}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what takes longer."""

    def late(*_: object) -> None:
        pytest.fail(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def without_rows(seed: Seed) -> Iterator[Seed]:
    """Yields a call with each of its sizes set to 0 and all others to long ones."""
    made = _PARSED[seed.method].FromString(seed.messages[0])
    batch = made if seed.method == COMPUTE else made.batch
    for name in ("weights", "mask", "cotangent"):
        if name in batch.DESCRIPTOR.fields_by_name:
            batch.ClearField(name)
    given = [tensor for one in batch.inputs for tensor in one.tensors]
    shapes = [tuple(tensor.shape) for tensor in given]
    for none in {size for shape in shapes for size in shape}:
        for long in _LONG:
            for tensor, shape in zip(given, shapes, strict=True):
                tensor.shape[:] = [0 if size == none else long for size in shape]
                if math.prod(tensor.shape) == 0:
                    tensor.data = b""
            yield replace(seed, messages=(made.SerializeToString(),))


def test_it_is_answered_at_once() -> None:
    calls = [seed for seed in seeds() if seed.method in _PARSED]
    codes = set()
    with inside() as server:
        for seed in calls:
            for changed in without_rows(seed):
                with within(5):
                    codes.add(server.call(changed)[0])

    assert codes == {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
