"""Kullback-Leibler divergence of a prediction from a target distribution."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import DISTRIBUTION, DistributionKind, Input
from lossd.losses._maths.masked_products import weighted
from lossd.losses._maths.softmax import Softmax, softmax
from lossd.schema import (
    POSITIVE,
    Array,
    Differentiable,
    Interval,
    ParameterError,
)

LOG_2, LOG_3, LOG_4 = 0.6931471805599453, 1.0986122886681098, 1.3862943611198906

# A row whose distributions are apart keeps its digits in T: its value is no small difference.
# Terms are p log(p / q) + q - p, in which an error of q counts only as far as q is from p.  Where q
# has hardly any digits left, its logarithm has.
_APART = """
    const auto is_apart = [&]() {
        const auto softmax = SOFTMAX_OF_ROW(prediction);
        const long long best = softmax.best.column;
        const double mass = SUM_OVER_ROW(double(share(target)));
        const bool is_sure = softmax.rest < 1, sums_to_one = fabs(mass - 1) < 0.125;
        const T others = !is_sure ? T(0) : SUM_OVER_ROW(pick(column == best, T(0), share(target)));
        const T unit = T(mass) / softmax.total;
        const T at_best = others - T(mass) * (softmax.rest / softmax.total);
        const auto surplus = [&](long long column, T prediction, T target) {
            const T plain = unit * softmax.exponential(column, prediction) - share(target);
            return pick(is_sure && column == best, at_best, plain);
        };
        const T distance = SUM_OVER_ROW(fabs(surplus(column, prediction, target)));
        if (!(distance >= T(0.5) * T(mass))) return false;
        const T largest = softmax.best.value, log_total = log1p(softmax.rest);
        const auto term = [&](long long column, T prediction, T target) {
            const T p = share(target), e = softmax.exponential(column, prediction);
            const bool is_faint = e < T(1e-20);
            const T known = pick(is_faint, (largest - prediction) + log_total, T(0));
            const T log = log_ratio(target, is_faint, p * softmax.total / e) + known;
            return weighed(p, log) + pick(sums_to_one, e / softmax.total - p, T(0));
        };
        const T terms = SUM_OVER_ROW(term(column, prediction, target));
        value = sums_to_one ? T(terms + (mass - 1)) : terms;
        GRADIENT_OF_ROW(surplus(column, prediction, target));
        return true;
    };
"""
# The share p of a class in the target, and the logarithm of it or of what it is to q.
_APART_OF = {
    DistributionKind.PROBABILITIES: """
    const auto share = [&](T target) { return target; };
    const auto log_ratio = [&](T target, bool is_faint, T ratio) {
        return T(log(pick(is_faint, target, ratio)));
    };
""",
    DistributionKind.LOG_PROBABILITIES: """
    const auto share = [&](T target) { return T(exp(target)); };
    const auto log_ratio = [&](T target, bool is_faint, T ratio) {
        return pick(is_faint, target, T(log(ratio)));
    };
""",
}
# The share p of a class in the target, log(p / q), and sum(p) q - p.
_OF_SHARES = """
    const double beyond = SUM_OVER_ROW(p(column, prediction, target)) - 1;
    const auto surplus_at = surplus_of(
        row, softmax, AT_COLUMN(logit(prediction)), AT_COLUMN(p(column, prediction, target)));
    const auto surplus = [&](long long column, T prediction, T target) {
        return surplus_at(column, logit(prediction), p(column, prediction, target));
    };
    const auto log_at = [&](long long column, T prediction, T target) {
        const double q = softmax.exponential(column, logit(prediction)) / softmax.total;
        const double share = p(column, prediction, target);
        const double part = (surplus(column, prediction, target) - beyond * q) / share;
        const double log = log_share(target) + softmax.negative_log(column, logit(prediction));
        return pick(fabs(part) < 0.5, -log1p(part), log);
    };
"""
_SHARES = {
    DistributionKind.PROBABILITIES: """
    const auto p = AT_COLUMN(double(target));
    const auto log_share = [&](T target) { return log(double(target)); };
"""
    + _OF_SHARES,
    DistributionKind.LOG_PROBABILITIES: """
    const auto p = KEPT_OF_ROW(exp(double(target)));
    const auto log_share = [&](T target) { return double(target); };
"""
    + _OF_SHARES,
    DistributionKind.LOGITS: """
    const double beyond = 0;
    const auto aim = SOFTMAX_OF_ROW(logit(target));
    const long long best = softmax.best.column;
    const double common = double(TARGET_AT(best)) - double(PREDICTION_AT(best));
    const auto way = [&](T prediction, T target) {
        return (double(target) - double(prediction) - common) / temperature;
    };
    const auto p = KEPT_OF_ROW(aim.exponential(column, logit(target)) / aim.total);
    const bool is_direct = !(LARGEST_OF_ROW(way(prediction, target)).value < 600);
    const double mean = log1p(SUM_OVER_ROW(
        softmax.exponential(column, logit(prediction)) / softmax.total
        * expm1(way(prediction, target))));
    const auto log_at = [&](long long column, T prediction, T target) {
        if (!is_direct) return way(prediction, target) - mean;
        return softmax.negative_log(column, logit(prediction))
             - aim.negative_log(column, logit(target));
    };
    const auto difference = [&](double share, double log, double q) {
        return pick(fabs(log) < 0.5 && share > 0, share * expm1(-log), q - share);
    };
    const auto each = KEPT_OF_ROW(difference(
        p(column, prediction, target), log_at(column, prediction, target),
        softmax.exponential(column, logit(prediction)) / softmax.total));
    const bool is_likely =
        softmax.rest < 1 && p(best, PREDICTION_AT(best), TARGET_AT(best)) > 0.5;
    const double of_others =
        SUM_OVER_ROW(pick(column == best, 0.0, each(column, prediction, target)));
    const auto surplus = [&](long long column, T prediction, T target) {
        return pick(column == best && is_likely, -of_others, each(column, prediction, target));
    };
""",
}
# In double, as the body computes in float64.
_SOFTMAX = """
    const auto logit = [&](T given) { return double(given) / temperature; };
    const auto softmax = SOFTMAX_OF_ROW(logit(prediction));
"""
_DIVERGENCE = """
    const double factor = scale_by_squared_temperature ? temperature * temperature : 1;
    const auto logs = KEPT_OF_ROW(log_at(column, prediction, target));
    const auto term = [&](long long column, T prediction, T target) {
        const double share = p(column, prediction, target);
        const double log = logs(column, prediction, target);
        const double q = softmax.exponential(column, logit(prediction)) / softmax.total;
        double series = 1;  // of (exp(-x) - 1 + x) / x^2, times 2
        #pragma unroll
        for (int n = 15; n > 2; --n) series = 1 - log * (1.0 / n) * series;
        const double whole = weighed(share, log) + (q - share);
        return pick(fabs(log) < 0.5, share * log * log * series / 2, whole);
    };
    value = factor * (fabs(beyond) < 0.125
        ? SUM_OVER_ROW(term(column, prediction, target)) + beyond
        : SUM_OVER_ROW(weighed(
            p(column, prediction, target), logs(column, prediction, target))));
    GRADIENT_OF_ROW(factor / temperature * surplus(column, prediction, target));
"""


def _kernel_text(kind: DistributionKind) -> str:
    """Returns the text for targets of a kind: rows that are apart, and all others in double."""
    exact = _SOFTMAX + _SHARES[kind] + _DIVERGENCE
    if kind not in _APART_OF:
        return exact
    apart = f"""
    bool is_done = temperature == 1;
    if (is_done) {{
        {_APART_OF[kind]}{_APART}
        is_done = is_apart();
    }}
"""
    return f"{apart}    if (!is_done) {{{exact}    }}\n"


def _distance_to_nothing(
    predictions: Array,
    targets: Array,
    *,
    target_kind: DistributionKind = DistributionKind.PROBABILITIES,
    **_others: object,
) -> Array:
    """Returns how far probabilities are from 0, where the derivative is -inf."""
    del predictions
    is_smooth = target_kind is not DistributionKind.PROBABILITIES
    return abs(targets) + (float("inf") if is_smooth else 0)


@loss(
    Shape.ROWWISE,
    inputs=(
        DISTRIBUTION,
        Input(
            "targets",
            "the distribution that the predictions should have",
            differentiable=Differentiable.ON_REQUEST,
            kind="target_kind",
        ),
    ),
    cuda=tuple(
        CudaText(
            _kernel_text(kind),
            when={"prediction_kind": DistributionKind.LOGITS, "target_kind": kind},
            targets_are_classes=False,
        )
        for kind in _SHARES
    ),
    examples=(
        # Of (1/4, 3/4) from (1/2, 1/2): log 2 / 2 + log (2/3) / 2.
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [[0.5, 0.5]]},
            value=LOG_2 - LOG_3 / 2,
            gradients={
                "predictions": [[-0.25, 0.25]],
                "targets": [[1 + LOG_2, 1 + LOG_2 - LOG_3]],
            },
        ),
        # A class of share 0 costs nothing.
        Example(
            {"predictions": [[0.25, 0.75]], "targets": [[0.0, 1.0]]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=LOG_4 - LOG_3,
            gradients={"predictions": [[0.0, -4 / 3]], "targets": [[0.0, 1 + LOG_4 - LOG_3]]},
        ),
        Example(
            {"predictions": [[-LOG_4, LOG_3 - LOG_4]], "targets": [[-LOG_2, -LOG_2]]},
            parameters={
                "prediction_kind": DistributionKind.LOG_PROBABILITIES,
                "target_kind": DistributionKind.LOG_PROBABILITIES,
            },
            value=LOG_2 - LOG_3 / 2,
            gradients={
                "predictions": [[-0.5, -0.5]],
                "targets": [[(1 + LOG_2) / 2, (1 + LOG_2 - LOG_3) / 2]],
            },
        ),
        # Both are softened to the distributions of the first example.
        Example(
            {"predictions": [[0.0, 2 * LOG_3]], "targets": [[5.0, 5.0]]},
            parameters={
                "target_kind": DistributionKind.LOGITS,
                "temperature": 2.0,
                "scale_by_squared_temperature": True,
            },
            value=4 * (LOG_2 - LOG_3 / 2),
            gradients={"predictions": [[-0.5, 0.5]], "targets": [[LOG_3 / 2, -LOG_3 / 2]]},
        ),
    ),
    kinks={"targets": _distance_to_nothing},
)
def kl_divergence(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    target_kind: DistributionKind = DistributionKind.PROBABILITIES,
    temperature: Annotated[float, POSITIVE] = 1.0,
    scale_by_squared_temperature: bool = False,
) -> BodyResult:
    """Divergence of the prediction from the target distribution, in nats.

        value = sum_c p_c (log p_c - log q_c),  p the target, q the prediction
        logits x: q = softmax(x / temperature), and so for targets that are logits
        gradient = ((sum_c p_c) q - p) / temperature
        with respect to log-probabilities: -p;  probabilities: -p / q
        with respect to targets that are probabilities: log p - log q + 1
          log-probabilities: p (log p - log q + 1)
          logits: p (log p - log q - value) / temperature

    A class of target 0 contributes 0 to the value and to every gradient, its own included, although
    the derivative with respect to a probability is -inf there.  A target of a class that the
    prediction holds impossible gives an infinite value.  A temperature needs predictions that are
    logits; targets are divided by it only if they are logits too.  scale_by_squared_temperature
    multiplies value and gradients by its square, as in distillation.  The mean is PyTorch's
    "batchmean".  It is computed in float64, even for float32: at the end of a distillation the
    difference of the two distributions is tiny.

    Reference: S. Kullback and R. A. Leibler, On information and sufficiency, 1951; temperature:
    G. Hinton et al., Distilling the knowledge in a neural network, 2015, section 2.
    """
    if temperature != 1 and prediction_kind is not DistributionKind.LOGITS:
        raise ParameterError(
            "temperature",
            f"temperature must be 1 unless predictions are logits, got {temperature:g}",
        )
    dtype = predictions.dtype
    scale = temperature if scale_by_squared_temperature else None

    def compared(rows: slice) -> _Comparison:
        # In float64: the difference of two nearly equal distributions is far below float32's
        # rounding.
        given, aims = predictions[rows].astype(np.float64), targets[rows].astype(np.float64)
        if prediction_kind is not DistributionKind.LOGITS:
            return _to_given(xp, given, aims, prediction_kind, target_kind)
        compare = _to_logits if target_kind is DistributionKind.LOGITS else _to_shares
        return compare(xp, given, aims, target_kind, temperature)

    found = [compared(rows) for rows in _pieces(xp, *predictions.shape)]

    def by_targets() -> Array:
        return xp.concatenate([f.by_targets(xp, target_kind, scale).astype(dtype) for f in found])

    return BodyResult(
        xp.concatenate([f.value(xp, scale).astype(dtype) for f in found]),
        {
            "predictions": xp.concatenate([f.by_predictions(scale).astype(dtype) for f in found]),
            "targets": by_targets,
        },
    )


# Elements that are computed together: their temporaries in float64 fit a cache.
_PIECE = 1 << 14


def _pieces(xp: Any, rows: int, columns: int) -> list[slice]:
    """Returns pieces of rows to compute together; at least one, perhaps without rows."""
    step = max(1, _PIECE // columns) if xp is np and columns else max(rows, 1)
    return [slice(start, start + step) for start in range(0, max(rows, 1), step)]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A target distribution p against a prediction q, in float64."""

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
            # Relative to the likeliest class, whose own difference is then exactly 0.
            rows, best = xp.arange(len(self.logs)), self.shares.argmax(axis=-1)
            ways = self.ways
            apart = ways - ways[rows, best][:, None]
            mean = weighted(xp, self.shares, apart).sum(axis=-1)
            derivative = weighted(xp, self.shares, apart - mean[:, None])
            return derivative / self.temperature / self.temperature if scale is None else derivative
        square = 1 if scale is None else scale * scale
        if kind is DistributionKind.LOG_PROBABILITIES:
            return self._products(xp, scale) + self.shares * square
        more = (self.logs if scale is None else scale * self.ways) + square
        return xp.where(self.shares == 0, 0, more)


# Where the square of a logarithm times the temperature is neither too small nor too large.
_MODERATE = Interval(1e-100, 1e100)


def _to_logits(
    xp: Any, logits: Array, aims: Array, _: DistributionKind, temperature: float
) -> _Comparison:
    """Compares logits: log(p / q) is their difference minus the log of its mean under q."""
    target = softmax(xp, aims, temperature=temperature)
    parts = softmax(xp, logits, temperature=temperature)
    p, q, rows = target.probabilities(), parts.probabilities(), parts.rows
    ways = aims - logits
    ways -= ways[rows, parts.best][:, None]
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
    # q - p is p (q / p - 1), or q (1 - p / q): the one whose exponential is at most 1.
    logit_gradient = abs(logs)
    xp.negative(logit_gradient, out=logit_gradient)
    xp.expm1(logit_gradient, out=logit_gradient)
    logit_gradient *= xp.maximum(p, q)
    xp.copysign(logit_gradient, -logs, out=logit_gradient)
    if far.any():  # for classes that both hold impossible, too
        logit_gradient[far] = xp.where(
            xp.isnan(logit_gradient[far]), q[far] - p[far], logit_gradient[far]
        )
    # They sum to 0: a class that is likely in both has the negative sum of the others.
    own = logit_gradient[rows, parts.best]
    is_likely = (parts.rest < 1) & (p[rows, parts.best] > 0.5)
    logit_gradient[rows, parts.best] = 0
    logit_gradient[rows, parts.best] = xp.where(is_likely, -logit_gradient.sum(axis=-1), own)
    return _Comparison(p, logs, logit_gradient, logit_gradient, 0, temperature, extreme_ways)


def _to_shares(
    xp: Any, logits: Array, aims: Array, kind: DistributionKind, temperature: float
) -> _Comparison:
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
    return _Comparison(p, logs, logit_gradient, excess, beyond, temperature, extreme_ways)


def _to_given(
    xp: Any, given: Array, aims: Array, given_kind: DistributionKind, kind: DistributionKind
) -> _Comparison:
    """Compares a prediction of (log-)probabilities, which need not sum to 1."""
    p, log_p = _distribution(xp, aims, kind)
    if given_kind is DistributionKind.LOG_PROBABILITIES:
        return _Comparison(p, log_p - given, -p)
    part = (given - p) / p
    logs = xp.where(abs(part) < 0.5, -xp.log1p(part), log_p - xp.log(given))
    return _Comparison(p, logs, weighted(xp, p, -1 / given))


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


# 1 / n! for n from 11 down to 2: (exp(-x) - 1 + x) / x^2 in powers of -x, for logarithms below
# 1/16.
_NEAR = 1 / 16
_SERIES = tuple(1 / math.factorial(n) for n in range(11, 1, -1))
