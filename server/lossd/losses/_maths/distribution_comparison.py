"""The Kullback-Leibler divergence of two distributions, with the digits of a small one.

Everything is computed in float64.  Classes lie along the last axis.
"""

import math
from dataclasses import dataclass
from typing import Any

from lossd.losses._inputs import DistributionKind
from lossd.losses._maths.divergences import slopes_to_infinity
from lossd.losses._maths.masked_products import quotients, weighted
from lossd.losses._maths.softmax import Softmax, softmax
from lossd.schema import Array, Interval

# Where the square of a logarithm times the temperature is neither too small nor too large.
_MODERATE = Interval(1e-100, 1e100)

# 1 / n! for n from 11 down to 2: (exp(-x) - 1 + x) / x^2 in powers of -x, for logarithms below
# 1/16.
_NEAR = 1 / 16
_SERIES = tuple(1 / math.factorial(n) for n in range(11, 1, -1))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A target distribution p compared with a prediction q, in float64."""

    shares: Array  # p
    logs: Array  # log p - log q
    derivative: Array  # derivative with respect to the given predictions, for a temperature of 1
    excess: Array | None = None  # q - p, where q sums to 1
    beyond: Any = 0  # by how much p then sums to more than 1
    temperature: float = 1.0
    # The logarithms times the temperature where that is extreme: they may then be infinite, or have
    # squares that vanish, where this product is ordinary.
    extreme_ways: Array | None = None

    @property
    def ways(self) -> Array:
        """The logarithms times the temperature, in units of the logits."""
        return self.temperature * self.logs if self.extreme_ways is None else self.extreme_ways

    def value(self, xp: Any, scale: float | None) -> Array:
        """Returns the divergence, times the square of ``scale``.

        Where q sums to 1, so does p except for rounding, and p log(p / q) + q - p is never
        negative: its sum keeps the digits that the sum of p log(p / q) loses.
        """
        products = self._products(xp, scale)
        plain = products.sum(axis=-1)
        if self.excess is None:
            return plain
        excess, beyond = self.excess, self.beyond
        if scale is not None:
            excess, beyond = (scale * (scale * x) for x in (excess, beyond))
        products += excess
        terms = xp.where(abs(self.logs) < _NEAR, self._of_near(xp, scale), products)
        return xp.where(xp.asarray(abs(self.beyond) < 0.125), terms.sum(axis=-1) + beyond, plain)

    def _of_near(self, xp: Any, scale: float | None) -> Array:
        """Returns terms p log(p / q) + q - p from their series, for small logarithms."""
        series = self.logs * -_SERIES[0]
        for coefficient in _SERIES[1:-1]:
            series += coefficient
            series *= self.logs
            xp.negative(series, out=series)
        series += _SERIES[-1]
        lengths = self.logs if scale is None else self.ways
        series *= lengths
        series *= lengths
        series *= self.shares
        return series

    def _products(self, xp: Any, scale: float | None) -> Array:
        """Returns terms p log(p / q), also where the logarithm is infinite but the term is not."""
        if scale is not None:
            return scale * weighted(xp, self.shares, self.ways)
        if self.extreme_ways is None:
            return weighted(xp, self.shares, self.logs)
        of_ways = weighted(xp, self.shares, self.ways) / self.temperature
        return xp.where(xp.isinf(self.logs), of_ways, weighted(xp, self.shares, self.logs))

    def by_predictions(self, scale: float | None) -> Array:
        """Returns the derivative with respect to the given predictions."""
        if scale is not None:
            return self.derivative * scale
        return self.derivative if self.temperature == 1 else self.derivative / self.temperature

    def by_targets(self, xp: Any, kind: DistributionKind, scale: float | None) -> Array:
        """Returns the derivative with respect to the given targets."""
        if kind is DistributionKind.LOGITS:
            derivative = self._by_target_logits(xp)
            return derivative / self.temperature / self.temperature if scale is None else derivative
        square = 1 if scale is None else scale * scale
        if kind is DistributionKind.LOG_PROBABILITIES:
            return self._products(xp, scale) + self.shares * square
        more = (self.logs if scale is None else scale * self.ways) + square
        return xp.where(self.shares == 0, 0, more)

    def _by_target_logits(self, xp: Any) -> Array:
        """Returns shares times how far the logarithms are from their mean, in units of logits."""
        # Relative to the likeliest class, whose own difference is then exactly 0.
        rows, best = xp.arange(len(self.logs)), self.shares.argmax(axis=-1)
        ways = self.ways
        apart = ways - ways[rows, best][:, None]
        mean = weighted(xp, self.shares, apart).sum(axis=-1)
        derivative = weighted(xp, self.shares, apart - mean[:, None])
        is_impossible = (ways == xp.inf) & (self.shares > 0)
        infinite = xp.flatnonzero(is_impossible.any(axis=-1))
        if len(infinite):
            shares, impossible = self.shares[infinite], is_impossible[infinite]
            slopes = slopes_to_infinity(xp, shares, impossible)
            slopes[(xp.isnan(ways[infinite]) & (shares != 0)).any(axis=-1)] = xp.nan
            derivative[infinite] = slopes
        return derivative


def compare(
    xp: Any,
    given: Array,
    aims: Array,
    kinds: tuple[DistributionKind, DistributionKind],
    temperature: float,
) -> Comparison:
    """Compares predictions and targets of these kinds; only logits take a temperature."""
    given_kind, kind = kinds
    if given_kind is not DistributionKind.LOGITS:
        return _to_given(xp, given, aims, given_kind, kind)
    if kind is DistributionKind.LOGITS:
        return _to_logits(xp, given, aims, temperature)
    return _to_shares(xp, given, aims, kind, temperature)


def _to_logits(xp: Any, logits: Array, aims: Array, temperature: float) -> Comparison:
    """Compares logits: log(p / q) is their difference minus the log of its mean under q."""
    target = softmax(xp, aims, temperature=temperature)
    parts = softmax(xp, logits, temperature=temperature)
    p, q, rows = target.probabilities(), parts.probabilities(), parts.rows
    ways, lost = _apart(xp, aims, logits)
    ways -= ways[rows, parts.best][:, None]
    ways += lost - lost[rows, parts.best][:, None]
    logs = ways / temperature if temperature != 1 else ways.copy()
    furthest = logs.max(axis=-1)
    grown = xp.expm1(logs)
    grown *= q
    mean = xp.log1p(grown.sum(axis=-1))
    logs -= mean[:, None]
    # A larger exponential may be infinite; then the small loss in the logarithms does not matter.
    far = ~((furthest < 600) & xp.isfinite(logs).all(axis=-1))
    if far.any():
        direct = parts.negative_logs(xp)[far]
        direct -= target.negative_logs(xp)[far]
        logs[far] = direct
    if temperature in _MODERATE:
        extreme_ways = None
    else:
        extreme_ways = ways - temperature * mean[:, None]
        direct = _distances(logits, parts) - _distances(aims, target)
        direct += temperature * (xp.log1p(parts.rest) - xp.log1p(target.rest))[:, None]
        extreme_ways[far] = direct[far]
    excess = _excess(xp, p, q, parts, logs=logs, far=far)
    return Comparison(p, logs, excess, excess, 0, temperature, extreme_ways)


def _excess(xp: Any, p: Array, q: Array, parts: Softmax, *, logs: Array, far: Array) -> Array:
    """Returns q - p with the digits that their difference would lose.

    ``parts`` is the softmax that gives q, ``logs`` are log(p / q), and ``far`` tells the rows in
    which some of these are not finite, or so large that their exponential may not be.
    """
    # q - p is p (q / p - 1), or q (1 - p / q): the one whose exponential is at most 1.
    excess = abs(logs)
    xp.negative(excess, out=excess)
    xp.expm1(excess, out=excess)
    excess *= xp.maximum(p, q)
    xp.copysign(excess, -logs, out=excess)
    if far.any():  # for classes that both hold impossible, too
        excess[far] = xp.where(xp.isnan(excess[far]), q[far] - p[far], excess[far])
    likeliest = parts.rows, parts.best
    # They sum to 0: a class that is likely in both has the negative sum of the others.
    own = excess[likeliest]
    is_likely = (parts.rest < 1) & (p[likeliest] > 0.5)
    excess[likeliest] = 0
    excess[likeliest] = xp.where(is_likely, -excess.sum(axis=-1), own)
    return excess


def _apart(xp: Any, aims: Array, logits: Array) -> tuple[Array, Array]:
    """Returns aims minus logits, and what this loses where one of them swallows the other."""
    ways = aims - logits
    back = ways + logits
    lost = (aims - back) - (logits - (back - ways))
    return ways, xp.where(xp.isfinite(ways), lost, 0)


def _to_shares(
    xp: Any, logits: Array, aims: Array, kind: DistributionKind, temperature: float
) -> Comparison:
    """Compares a prediction of logits with a target of (log-)probabilities."""
    p, log_p = _distribution(xp, aims, kind)
    parts = softmax(xp, logits, temperature=temperature)
    q, logs = parts.probabilities(), parts.negative_logs(xp)
    logs += log_p
    logit_gradient, beyond = parts.logit_gradient(xp, p), p.sum(axis=-1) - 1
    excess = logit_gradient - beyond[:, None] * q
    part = excess / p  # q / p - 1
    near = xp.flatnonzero(abs(part).max(axis=-1) < 0.5)
    logs[near] = -xp.log1p(part[near])
    extreme_ways = None
    if temperature not in _MODERATE:
        extreme_ways = temperature * log_p + _distances(logits, parts)
        extreme_ways += temperature * xp.log1p(parts.rest)[:, None]
        extreme_ways[near] = temperature * logs[near]
    return Comparison(p, logs, logit_gradient, excess, beyond, temperature, extreme_ways)


def _to_given(
    xp: Any, given: Array, aims: Array, given_kind: DistributionKind, kind: DistributionKind
) -> Comparison:
    """Compares a prediction of (log-)probabilities, which need not sum to 1."""
    p, log_p = _distribution(xp, aims, kind)
    if given_kind is DistributionKind.LOG_PROBABILITIES:
        return Comparison(p, log_p - given, -p)
    part = (given - p) / p
    logs = xp.where(abs(part) < 0.5, -xp.log1p(part), log_p - xp.log(given))
    return Comparison(p, logs, quotients(xp, p, -given))


def _distances(logits: Array, parts: Softmax) -> Array:
    """Returns how far each logit is below the largest of its row."""
    distances = logits[parts.rows, parts.best][:, None] - logits
    distances[parts.rows, parts.best] = 0
    return distances


def _distribution(xp: Any, aims: Array, kind: DistributionKind) -> tuple[Array, Array]:
    """Returns the probability of each class, and its logarithm."""
    if kind is DistributionKind.PROBABILITIES:
        return aims, xp.log(aims)
    if kind is DistributionKind.LOG_PROBABILITIES:
        return xp.exp(aims), aims
    parts = softmax(xp, aims)
    return parts.probabilities(), -parts.negative_logs(xp)
