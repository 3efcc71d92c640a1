"""Numbers in messages, comments and tables are the numbers themselves."""

import math
import re
from typing import Any

import numpy as np
import pytest

from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.schema import Choices, Interval, Parameter, ParameterError, exactly
from lossd.serving.config import settings

DECLARED: list[Any] = [*LOSSES.values(), *METRICS.values()]
PARAMETERS = [
    pytest.param(parameter, id=f"{declared.name}-{parameter.name}")
    for declared in DECLARED
    for parameter in declared.all_parameters
    if parameter.bounds is not None
]


def numbers(text: str) -> list[float]:
    """The numbers in brackets, read back."""
    return [number(part) for part in re.sub(r"[\[\](){}]", "", text).split(", ")]


def number(text: str) -> float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


@pytest.mark.parametrize(
    "value", [0, 1, 1_000_001, 2**63 - 1, -(2**63), 0.1, 1e-8, 1e100, math.inf]
)
def test_a_number_is_read_back_as_it_was(value: float) -> None:
    assert number(exactly(value)) == value
    if math.isfinite(value) and abs(value) < 2**53:
        assert exactly(np.float64(value)) == exactly(float(value))
        assert number(exactly(math.nextafter(value, math.inf))) == math.nextafter(value, math.inf)


def test_whole_numbers_are_written_in_full() -> None:
    whole: list[Any] = [1.0, 1e6, np.float32(3), np.int64(2**31 - 1)]
    assert [*map(exactly, whole)] == ["1", "1000000", "3", "2147483647"]
    assert str(Interval(0, 2**31 - 1, high_open=True)) == "[0, 2147483647)"
    assert str(Choices((-1.0, 0.5))) == "{-1, 0.5}"


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_number_just_beyond_a_limit_is_not_told_as_the_limit(parameter: Parameter) -> None:
    bounds = parameter.bounds
    assert bounds is not None
    for end, way in ((bounds.low, -1), (bounds.high, 1)):
        if math.isinf(end):
            continue
        is_whole = parameter.type is int
        beyond = int(end) + way if is_whole else math.nextafter(end, way * math.inf)
        with pytest.raises(ParameterError) as caught:
            parameter.checked([beyond] if parameter.is_vector else beyond)
        told = str(caught.value).partition(" must be in ")[2].split(", got ")
        assert numbers(told[0]) == [bounds.low, bounds.high]
        assert number(told[1]) == beyond


def test_the_limits_of_settings_are_told_as_they_are() -> None:
    for setting in settings():
        if isinstance(setting.bounds, Interval):
            assert numbers(str(setting.bounds)) == [setting.bounds.low, setting.bounds.high]
