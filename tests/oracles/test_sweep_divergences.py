"""Divergences of rows from near to far, against 60 digits.

The less two distributions differ, the less is left of their divergence, and all its digits are
wanted as long as float64 can tell the two apart.
"""

import itertools
from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import LOSSES
from lossd.losses._inputs import DistributionKind
from lossd.reduction import Reduction
from tests.losses.case import values

LOGS = DistributionKind.LOG_PROBABILITIES
TOLERANCE = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-11}
WIDTHS = (2, 3, 17, 40)
# How far logits of a row are apart, and how far the target is from them.
SCALES = (0.0, 1.0, 8.0)
APART = (1e-7, 1e-5, 1e-3, 0.03, 0.3, 1.0, 4.0)
# What float64 rounds of a share whose logarithm is large.
UNIT = 2.0**-46


def _softmax(logits: Any) -> Any:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def _rows(width: int, kind: DistributionKind, dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(width)
    logits, aims = [], []
    for scale, apart in itertools.product(SCALES, APART):
        logits.append((scale * rng.standard_normal(width)).astype(dtype))
        own = apart * rng.standard_normal(width)
        own[rng.integers(width)] += rng.choice([0, 2])  # one class may be far where others are near
        aims.append(logits[-1].astype(np.float64) + own)
    given, wanted = np.array(logits), np.array(aims)
    if kind is DistributionKind.PROBABILITIES:
        wanted = _softmax(wanted)
    if kind is DistributionKind.LOG_PROBABILITIES:
        wanted = np.log(_softmax(wanted))
    return given, wanted.astype(dtype)


def _logs(logits: Any) -> list[Any]:
    numbers = [mpmath.mpf(float(x)) for x in logits]
    total = mpmath.log(mpmath.fsum(map(mpmath.exp, numbers)))
    return [x - total for x in numbers]


def _target(row: Any, kind: DistributionKind) -> list[Any]:
    """The shares of the classes."""
    if kind is DistributionKind.LOGITS:
        return [mpmath.exp(log) for log in _logs(row)]
    numbers = [mpmath.mpf(float(x)) for x in row]
    is_log = kind is DistributionKind.LOG_PROBABILITIES
    return [mpmath.exp(x) for x in numbers] if is_log else numbers


def _exact(logits: Any, row: Any, kind: DistributionKind) -> tuple[Any, Any, list[Any], Any]:
    """The value, the size of its terms, the gradient, and the size of a derivative a share."""
    p, log_q = _target(row, kind), _logs(logits)
    q, mass = list(map(mpmath.exp, log_q)), mpmath.fsum(p)
    value = mpmath.fsum(a * (mpmath.log(a) - b) for a, b in zip(p, log_q, strict=True))
    gradient = [mass * b - a for a, b in zip(p, q, strict=True)]
    typical = mpmath.sqrt(mpmath.fsum(g * g / a for g, a in zip(gradient, p, strict=True)))
    return value, value + 2 * abs(mass - 1), gradient, typical


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", DistributionKind)
def test_rows_from_near_to_far_keep_their_digits(
    engine: Engine, kind: DistributionKind, dtype: np.dtype[Any]
) -> None:
    tolerance = TOLERANCE[dtype]
    for width in WIDTHS:
        given, aims = _rows(width, kind, dtype)
        found = engine.run(
            Job(
                loss=LOSSES["kl_divergence"],
                parameters={"target_kind": kind},
                inputs={"predictions": [given], "targets": [aims]},
                reduction=Reduction.NONE,
                gradients=("predictions",),
            )
        )
        assert found.per_example is not None
        with mpmath.workdps(60):
            for row, (logits, aim) in enumerate(zip(given, aims, strict=True)):
                value, size, gradient, typical = _exact(logits, aim, kind)
                about = (width, row, float(value))
                wrong = abs(mpmath.mpf(float(found.per_example[row])) - value)
                assert wrong <= tolerance * size + UNIT, about
                for p, wanted, got in zip(
                    _target(aim, kind), gradient, found.gradients["predictions"][row], strict=True
                ):
                    # One that happens to be nearly 0 is right beside the others.
                    allowed = tolerance * max(abs(wanted), p * typical / 5) + UNIT * (
                        p + abs(wanted)
                    )
                    assert abs(mpmath.mpf(float(got)) - wanted) <= allowed, about


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", DistributionKind)
@pytest.mark.parametrize("given_kind", [DistributionKind.PROBABILITIES, LOGS])
def test_log_probabilities_and_probabilities_from_near_to_far_keep_their_digits(
    engine: Engine, given_kind: DistributionKind, kind: DistributionKind, dtype: np.dtype[Any]
) -> None:
    """As the sum of p (log p - log q) of the numbers given, whatever they sum to."""
    for width in WIDTHS:
        logits, aims = _rows(width, kind, dtype)
        shares_given = _softmax(logits.astype(np.float64))
        given = (np.log(shares_given) if given_kind is LOGS else shares_given).astype(dtype)
        found = _from_given(engine, given, aims, (given_kind, kind))
        with mpmath.workdps(60):
            for row, (own, aim) in enumerate(zip(given, aims, strict=True)):
                shares, log_q = _target(aim, kind), _given_logs(own, given_kind)
                terms = [p * (mpmath.log(p) - x) for p, x in zip(shares, log_q, strict=True)]
                value, size = mpmath.fsum(terms), mpmath.fsum(map(abs, terms))
                wrong = abs(mpmath.mpf(float(values(found)[row])) - value)
                about = (width, row, float(value))
                assert wrong <= TOLERANCE[dtype] * abs(value) + UNIT * (size + 1), about
                over = [1.0] * width if given_kind is LOGS else own
                slopes = [-float(p / float(q)) for p, q in zip(shares, over, strict=True)]
                # A softmax has the error of a difference of logits, which goes to 20 here.
                tolerance = 2e-6 if kind is DistributionKind.LOGITS else 6e-7
                np.testing.assert_allclose(found.gradients["predictions"][row], slopes, tolerance)


def _given_logs(row: Any, kind: DistributionKind) -> list[Any]:
    numbers = [mpmath.mpf(float(x)) for x in row]
    return numbers if kind is LOGS else list(map(mpmath.log, numbers))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_share_below_the_smallest_float_counts(engine: Engine, dtype: np.dtype[Any]) -> None:
    """Beside a prediction that is next to impossible it is most of the value."""
    tiny = -110.0  # a share of 2e-48
    impossible, far = [-np.inf, 0.0], [-1e30, 0.0]
    logs = np.array([impossible, impossible, far, [-3e38, 0.0]], dtype)
    aims = np.array([[tiny, 0], [-np.inf, 0], [-80, 0], [tiny, 0]], dtype)
    expected = [np.inf, 0, np.exp(-80.0) * 1e30, np.exp(tiny) * 3e38]
    for kind in (LOGS, DistributionKind.LOGITS):  # shares of e^-110 leave 1 what it is
        found = values(_from_given(engine, logs, aims, (LOGS, kind)))
        np.testing.assert_allclose(found, expected, 1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", DistributionKind)
def test_a_probability_of_0_costs_as_much_as_is_wanted_of_it(
    engine: Engine, kind: DistributionKind, dtype: np.dtype[Any]
) -> None:
    """Nothing where the target holds it impossible too; else its value is infinite."""
    shares = np.array([[0.0, 1.0], [0.25, 0.75]], dtype)
    with np.errstate(divide="ignore"):
        aims = shares if kind is DistributionKind.PROBABILITIES else np.log(shares)
    given = np.array([[0.0, 1.0], [0.0, 1.0]], dtype)
    found = _from_given(engine, given, aims, (DistributionKind.PROBABILITIES, kind))
    assert values(found).tolist() == [0, np.inf]
    assert found.gradients["predictions"][0].tolist() == [0, -1]
    np.testing.assert_allclose(found.gradients["predictions"][1], [-np.inf, -0.75], 1e-6)


def _from_given(
    engine: Engine, given: Any, aims: Any, kinds: tuple[DistributionKind, DistributionKind]
) -> Result:
    """The divergence of (log-)probabilities from a target, of two kinds."""
    job = Job(
        loss=LOSSES["kl_divergence"],
        parameters=dict(zip(("prediction_kind", "target_kind"), kinds, strict=True)),
        inputs={"predictions": [given], "targets": [aims]},
        reduction=Reduction.NONE,
        gradients=("predictions",),
    )
    return engine.run(job)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", DistributionKind)
@pytest.mark.parametrize("power", [0.5, 0.9, 1.01, 1.04])
def test_probabilities_next_to_impossible_keep_the_digits_of_their_ratios(
    engine: Engine, kind: DistributionKind, dtype: np.dtype[Any], power: float
) -> None:
    """The ratio of a share to one may be more than the type holds, or a share less than it."""
    if power > 1 and engine.backend.name == "cupy":
        pytest.skip("its kernels take numbers below the least normal one for 0")
    tiny = dtype.type(float(np.finfo(dtype).tiny) ** power)  # subnormal beyond a power of 1
    logs = [np.log(0.5), float(np.log(tiny)) * 1.1, float(np.log(tiny)) * 1.2, np.log(0.5)]
    is_log = kind is not DistributionKind.PROBABILITIES
    aims = np.array([logs if is_log else np.exp(logs)], dtype)
    given = np.array([[tiny, tiny, 0.25, 0.75]], dtype)
    found = _from_given(engine, given, aims, (DistributionKind.PROBABILITIES, kind))
    with mpmath.workdps(60):
        shares, log_q = (
            _target(aims[0], kind),
            _given_logs(given[0], DistributionKind.PROBABILITIES),
        )
        terms = [
            p * (mpmath.log(p) - x) if p else mpmath.mpf(0)
            for p, x in zip(shares, log_q, strict=True)
        ]
        slopes = [-float(p / mpmath.mpf(float(q))) for p, q in zip(shares, given[0], strict=True)]
        with np.errstate(over="ignore"):
            slopes = np.array(slopes).astype(dtype).tolist()  # of which one may be too large
        np.testing.assert_allclose(values(found)[0], float(mpmath.fsum(terms)), 1e-6)
        # The error of a logarithm of 100 is that of its exponential, 100 times over.
        np.testing.assert_allclose(found.gradients["predictions"][0], slopes, 2e-5, 1e-30)
