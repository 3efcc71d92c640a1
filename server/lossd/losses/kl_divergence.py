"""Kullback-Leibler divergence of a prediction from a target distribution."""

from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import DISTRIBUTION, DistributionKind, Input
from lossd.losses._maths.distribution_comparison import Comparison, compare
from lossd.schema import POSITIVE, Array, Differentiable, ParameterError

LOG_2, LOG_3, LOG_4 = 0.6931471805599453, 1.0986122886681098, 1.3862943611198906

# A row whose distributions are apart keeps its digits in T: its value is no small difference.
# Terms are p log(p / q) + q - p, in which an error of q counts only as far as q is from p.  Where q
# has hardly any digits left, its logarithm has.
_APART = """
    const auto is_apart = [&]() {
        const auto softmax = SOFTMAX_OF_ROW(prediction);
        const long long best = softmax.best.column;
        const bool is_sure = softmax.rest < 1;
        const auto masses = masses_of(row, best, is_sure, share);
        const double mass = masses.first;
        const bool sums_to_one = fabs(mass - 1) < 0.125;
        const T unit = T(mass) / softmax.total;
        const T at_best = masses.second - T(mass) * (softmax.rest / softmax.total);
        const auto surplus = [&](long long column, T prediction, T target) {
            const T plain = unit * softmax.exponential(column, prediction) - share(target);
            return pick(is_sure && column == best, at_best, plain);
        };
        const auto is_far = [&](T distance) { return distance >= T(0.5) * T(mass); };
        const T largest = softmax.best.value, log_total = log1p(softmax.rest);
        const auto term = [&](long long column, T prediction, T target) {
            const T p = share(target), e = softmax.exponential(column, prediction);
            const bool is_faint = e < T(1e-20);
            const T known = pick(is_faint, (largest - prediction) + log_total, T(0));
            const T log = log_ratio(target, is_faint, p * softmax.total / e) + known;
            return weighed(p, log) + pick(sums_to_one, e / softmax.total - p, T(0));
        };
        const auto slope = [&](long long column, T prediction, T surplus) { return surplus; };
        T terms;
        if (!row.write_if(surplus, is_far, slope, term, terms)) return false;
        value = sums_to_one ? T(terms + (mass - 1)) : terms;
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
# What is lost of the distance of two logits where one of them swallows the other.
_LOST = """
    const auto lost = [&](double target, double prediction) {
        const double whole = target - prediction, back = whole + prediction;
        const double rest = (target - back) - (prediction - (back - whole));
        return pick(whole - whole == 0, rest, 0.0);
    };
"""
# The share p of a class in the target, log(p / q), and sum(p) q - p.
_OF_SHARES = """
    const auto surplus_at = surplus_of<OF_TARGETS>(
        row, softmax, AT_PREDICTION(logit(prediction)), AT_TARGET(p(column, T(0), target)));
    const double beyond = surplus_at.mass - 1;
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
    const auto aim = SOFTMAX_OF_TARGETS(logit(target));
    const long long best = softmax.best.column;
    const double common = double(TARGET_AT(best)) - double(PREDICTION_AT(best));
    const double lost_of_best = lost(TARGET_AT(best), PREDICTION_AT(best));
    const auto way = [&](T prediction, T target) {
        const double most = double(target) - double(prediction) - common;
        return (most + (lost(target, prediction) - lost_of_best)) / temperature;
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
# Two sets of logits: with the growth g of each class, p / q times what is common to all, less 1,
# and its mean m under q, p - q is q (g - m) / (1 + m).
_GROWTH = """
    const auto grows = [&]() {
        const auto logit = [&](T given) { return double(given) / temperature; };
        const auto softmax = SOFTMAX_OF_ROW(logit(prediction));
        const long long best = softmax.best.column;
        const double common = double(TARGET_AT(best)) - double(PREDICTION_AT(best));
        const double lost_of_best = lost(TARGET_AT(best), PREDICTION_AT(best));
        const auto ways = KEPT_OF_ROW(
            (double(target) - double(prediction) - common
             + (lost(target, prediction) - lost_of_best)) / temperature);
        const auto growth = KEPT_OF_ROW(expm1(ways(column, prediction, target)));
        const double unit = 1 / softmax.total;
        const auto q = [&](long long column, T prediction) {
            return unit * softmax.exponential(column, logit(prediction));
        };
        double mean;
        // A larger exponential may be infinite; NaN is the largest.
        if (!row.sum_below(
                600, ways, AT_COLUMN(q(column, prediction) * growth(column, prediction, target)),
                mean))
            return false;
        const double log_mean = log1p(mean), part = 1 / (1 + mean);
        const auto plain = [&](long long column, T prediction, T target) {
            return q(column, prediction) * (mean - growth(column, prediction, target)) * part;
        };
        const double of_best = plain(best, PREDICTION_AT(best), TARGET_AT(best));
        const double share_of_best = q(best, PREDICTION_AT(best)) * part;  // it does not grow
        const bool is_likely = softmax.rest < 1 && share_of_best > 0.5;
        const double at_best =
            is_likely
                ? -SUM_OVER_ROW(pick(column == best, 0.0, plain(column, prediction, target)))
                : of_best;
        const auto surplus = [&](long long column, T prediction, T target) {
            return pick(column == best, at_best, plain(column, prediction, target));
        };
        const double factor = scale_by_squared_temperature ? temperature * temperature : 1;
        const auto term = [&](long long column, T prediction, T target) {
            const double share =
                q(column, prediction) * (1 + growth(column, prediction, target)) * part;
            const double log = ways(column, prediction, target) - log_mean;
            const double whole = weighed(share, log) + surplus(column, prediction, target);
            return pick(fabs(log) < 0.5, share * log * log * series_of(log) / 2, whole);
        };
        value = factor * GRADIENT_AND_SUM(
            factor / temperature * surplus(column, prediction, target),
            term(column, prediction, target));
        return true;
    };
    const bool is_done = grows();
"""
_SERIES = """
    const auto series_of = [&](double log) {  // of (exp(-x) - 1 + x) / x^2, times 2
        double series = 1;
        #pragma unroll
        for (int n = 15; n > 2; --n) series = 1 - log * (1.0 / n) * series;
        return series;
    };
"""
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
        const double whole = weighed(share, log) + (q - share);
        return pick(fabs(log) < 0.5, share * log * log * series_of(log) / 2, whole);
    };
    const bool sums_to_one = fabs(beyond) < 0.125;
    const auto part = [&](long long column, T prediction, T target) {
        return sums_to_one ? term(column, prediction, target)
            : weighed(p(column, prediction, target), logs(column, prediction, target));
    };
    const auto slope = [&](long long column, T prediction, T target) {
        return factor / temperature * surplus(column, prediction, target);
    };
"""


# One pass over a row that is beyond the chip instead of two, where that takes no more registers
# than a thread of a device has.
_AT_ONCE = """
    const double sum = GRADIENT_AND_SUM(
        slope(column, prediction, target), part(column, prediction, target));
    value = factor * (sums_to_one ? sum + beyond : sum);
"""
_IN_TURN = """
    const double sum = SUM_OVER_ROW(part(column, prediction, target));
    value = factor * (sums_to_one ? sum + beyond : sum);
    GRADIENT_OF_ROW(slope(column, prediction, target));
"""


def _kernel_text(kind: DistributionKind) -> str:
    """Returns the text for targets of a kind: rows that are apart, and all others in double."""
    writing = _AT_ONCE if kind is DistributionKind.PROBABILITIES else _IN_TURN
    exact = _SOFTMAX + _SHARES[kind] + _DIVERGENCE + writing
    if kind not in _APART_OF:
        return f"{_SERIES}{_LOST}{_GROWTH}    if (!is_done) {{{exact}    }}\n"
    apart = f"""
    bool is_done = temperature == 1;
    if (is_done) {{
        {_APART_OF[kind]}{_APART}
        is_done = is_apart();
    }}
"""
    return f"{_SERIES}{apart}    if (!is_done) {{{exact}    }}\n"


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

    def compared(rows: slice) -> Comparison:
        # In float64: the difference of two nearly equal distributions is far below float32's
        # rounding.
        given, aims = predictions[rows].astype(np.float64), targets[rows].astype(np.float64)
        return compare(xp, given, aims, (prediction_kind, target_kind), temperature)

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
