"""Preferences of pairs from alike to 1,000 apart, and of answers that are impossible.

A number is right if it is so beside the terms of which it is a difference.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import LOSSES
from lossd.losses._maths.preferences import WITHOUT_REFERENCE, PreferenceObjective
from lossd.reduction import Reduction
from tests.losses.case import values
from tests.oracles.margins import FEW_MARGINS
from tests.oracles.preferences import preference

TOLERANCES: Mapping[Any, float] = {np.float32: 3e-6, np.float64: 1e-11}
SMALLEST: Mapping[Any, float] = {np.float32: 1e-38, np.float64: 1e-300}
STEP, DIGITS = mpmath.mpf(10) ** -600, 2000
SIDES = ("chosen_log_probabilities", "rejected_log_probabilities")
P = PreferenceObjective
# Half and nearly half of the labels are flipped: all that is left of the slope is a difference.
NUMBERS: Mapping[P, tuple[Mapping[str, float], ...]] = {
    P.SIGMOID: ({}, {"label_smoothing": 0.5}, {"label_smoothing": 0.4987}, {"label_smoothing": 1}),
    P.IPO: ({},),
    P.HINGE: ({},),
    P.ROBUST: ({}, {"label_smoothing": 0.25}, {"label_smoothing": 0.5 - 2.0**-30}),
    P.APO_ZERO: ({},),
    P.APO_DOWN: ({},),
    P.EXO: ({"label_smoothing": 1e-3}, {"label_smoothing": 0.75}),
    P.NCA: ({},),
    P.DISCOPOP: ({"temperature": 0.0625}, {"temperature": 3.0}),
    P.SIMPO: ({"margin": 0.5},),
    P.ORPO: ({},),
    P.CPO: ({"likelihood_weight": 0.25}, {"likelihood_weight": 0.0, "label_smoothing": 0.5}),
}
PARAMETERS = [
    {"objective": objective, **numbers}
    for objective, several in NUMBERS.items()
    for numbers in several
]


def _told(parameters: Mapping[str, Any]) -> str:
    return "-".join(str(getattr(value, "name", value)) for value in parameters.values())


def _run(engine: Engine, pairs: Any, dtype: Any, parameters: Mapping[str, Any]) -> Result:
    """Each pair by itself; its scores are what is given."""
    inputs = {side: [pairs[:, i].astype(dtype)] for i, side in enumerate(SIDES)}
    given = dict(parameters)
    if parameters["objective"] in WITHOUT_REFERENCE:
        given["average"] = False
    else:
        nothing = np.zeros(len(pairs), dtype)
        inputs |= {side.replace("_log", "_reference_log"): [nothing] for side in SIDES}
    return engine.run(
        Job(
            loss=LOSSES["preference"],
            parameters=given,
            inputs=inputs,
            reduction=Reduction.NONE,
            gradients=SIDES,
        )
    )


def _right(pair: Any, parameters: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """The value and its derivatives."""

    def value(c: Any, r: Any) -> Any:
        sides = dict(zip(SIDES, ((c,), (r,)), strict=True))
        lengths = {"chosen_lengths": (1,), "rejected_lengths": (1,)}
        return preference(**sides, **lengths, **parameters, average=False)[0]

    c, r = map(mpmath.mpf, map(float, pair))
    return value(c, r), [
        (value(c + STEP, r) - value(c - STEP, r)) / (2 * STEP),
        (value(c, r + STEP) - value(c, r - STEP)) / (2 * STEP),
    ]


def _pairs() -> Iterator[tuple[float, float]]:
    for margin in FEW_MARGINS:
        yield from ((-0.375 - margin, -0.375), (-0.375, -0.375 - margin))
    yield from ((-1e-6, -3.0), (-3.0, -0.0625), (-720.0, -1000.0))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("parameters", PARAMETERS, ids=_told)
def test_pairs_from_alike_to_far_apart_are_right(
    engine: Engine, parameters: Mapping[str, Any], dtype: type
) -> None:
    given, tolerance = {"beta": 0.75, **parameters}, TOLERANCES[dtype]
    pairs: Any = np.array(list(_pairs()), dtype)
    result = _run(engine, pairs, dtype, given)
    with mpmath.workdps(DIGITS):
        exact = {
            name: mpmath.mpf(number) if isinstance(number, int | float) else number
            for name, number in given.items()
        }
        for row, pair in enumerate(pairs):
            expected, slopes = _right(pair, exact)
            found = [values(result)[row], *(result.gradients[side][row] for side in SIDES)]
            for got, wanted in zip(found, (expected, *slopes), strict=True):
                with np.errstate(over="ignore"):
                    ends = np.isinf(np.float64(wanted).astype(dtype))
                wrong = 0 if ends and np.isinf(got) else abs(mpmath.mpf(float(got)) - wanted)
                assert wrong <= tolerance * abs(wanted) + SMALLEST[dtype], (pair, got, wanted)


NEVER = -np.inf
# The value and both derivatives with beta 0.5, where the rejected answer is impossible, and where
# the chosen one is, of scores that are otherwise -1.  None: not here.
LIMITS: Mapping[P, tuple[Any, Any]] = {
    P.SIGMOID: ((0, 0, 0), (np.inf, -0.5, 0.5)),
    P.HINGE: ((0, 0, 0), (np.inf, -0.5, 0.5)),
    P.ROBUST: ((0, 0, 0), (np.inf, -0.5, 0.5)),
    P.EXO: ((-np.log(0.75), 0, 0), (-np.log(0.25), 0, 0)),
    P.DISCOPOP: ((0, 0, 0), (np.inf, -0.5, 0.5)),
    P.SIMPO: ((0, 0, 0), (np.inf, -0.5, 0.5)),
    P.CPO: ((0, 0, 0), (np.inf, -0.5, 0.5)),
}
THEIRS: Mapping[P, Mapping[str, float]] = {
    P.EXO: {"label_smoothing": 0.25},
    P.DISCOPOP: {"temperature": 0.0625},
    P.SIMPO: {"margin": 0.5},
    P.CPO: {"likelihood_weight": 0.0},
}


@pytest.mark.parametrize("objective", LIMITS, ids=lambda one: one.name)
def test_an_impossible_answer_has_the_limits_of_unlikely_ones(engine: Engine, objective: P) -> None:
    given = {"objective": objective, "beta": 0.5, **THEIRS.get(objective, {})}
    pairs = np.array([[-1.0, NEVER], [NEVER, -1.0]])
    result = _run(engine, pairs, np.float64, given)
    found = np.stack([values(result), *(result.gradients[side] for side in SIDES)], axis=-1)
    np.testing.assert_allclose(found, LIMITS[objective], rtol=1e-12)
    near = _run(engine, np.maximum(pairs, -1e6), np.float64, given)
    for side in SIDES:
        np.testing.assert_allclose(result.gradients[side], near.gradients[side], rtol=1e-12)


def test_what_is_no_number_stays_none(engine: Engine) -> None:
    pairs = np.array([[-1.0, np.nan], [np.nan, -1.0]])
    for objective in LIMITS:
        given = {"objective": objective, "beta": 0.5, **THEIRS.get(objective, {})}
        result = _run(engine, pairs, np.float64, given)
        assert result.nonfinite_examples.tolist() == [0, 1]
        assert np.isnan(values(result)).all(), objective
        assert all(np.isnan(g).all() for g in result.gradients.values()), objective
