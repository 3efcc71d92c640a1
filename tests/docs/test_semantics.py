"""The numbers of docs/semantics.md, held against the code."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.batch import compute_type
from lossd.losses import DOMAINS, LOSSES, DistributionKind, Shape

TEXT = (Path(__file__).resolve().parents[2] / "docs/semantics.md").read_text()
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def number(text: str) -> float:
    """Returns what stands in a text as 1e-12 or 2^-126."""
    base, _, exponent = text.partition("^")
    return float(base) ** int(exponent or 1)


def bounds(names: str) -> tuple[float, float]:
    """Returns below and above which numbers of parameters take float64."""
    numbers = r"below (\S*\d),? or above (\S*\d)"
    found = re.search(f"in {names} other than 0 that is {numbers}", TEXT)
    assert found
    return number(found[1]), number(found[2])


@pytest.mark.parametrize("name", ["class_weights", "class_priors", "positive_weights"])
def test_the_precision_changes_at_the_bounds_that_are_said(name: str) -> None:
    weights, others = "`class_weights`", "`class_priors` or `positive_weights`"
    low, high = bounds(weights if name == "class_weights" else others)
    within = (0.0, low, high)
    beyond = (np.nextafter(low, 0), np.nextafter(high, np.inf))

    assert [precision(name, n) for n in within] == [FLOAT32] * 3
    assert [precision(name, n) for n in beyond] == [FLOAT64] * 2


def test_a_temperature_below_one_lowers_the_bound() -> None:
    _, high = bounds("`class_weights`")

    for temperature, bound in ((0.5, high / 2), (2.0, high)):
        assert precision("class_weights", bound, temperature=temperature) == FLOAT32
        above = np.nextafter(bound, np.inf)
        assert precision("class_weights", above, temperature=temperature) == FLOAT64


def test_only_losses_of_tokens_take_log_probabilities_above_0() -> None:
    said = re.search(r"Log-probabilities of losses of tokens are not held to that", TEXT)
    free = {
        loss.shape
        for loss in LOSSES.values()
        for one in loss.inputs
        if one.name.endswith("log_probabilities")
        and one.domain != DOMAINS[DistributionKind.LOG_PROBABILITIES]
    }

    assert said
    assert free == {Shape.TOKENS}


def precision(name: str, number: float, **others: Any) -> np.dtype[Any]:
    """Returns the type that a batch of float32 is computed in."""
    arrays = {"predictions": np.zeros((2, 2), np.float32)}
    return compute_type(arrays, {name: [number, 1.0], **others})
