"""The texts of the Kullback-Leibler divergence from predictions that are (log-)probabilities.

The gradient is no difference, and needs no more digits than T has.  The value is a sum of terms of
both signs, which T keeps where they do not cancel: `size` is what their errors are a part of.
"""

from collections.abc import Mapping

from lossd.losses._inputs import DistributionKind

LOGITS, LOGS, SHARES = (
    DistributionKind.LOGITS,
    DistributionKind.LOG_PROBABILITIES,
    DistributionKind.PROBABILITIES,
)
# The logarithm of a prediction.
_GIVEN = {
    LOGS: """
    const auto log_q = [&](T prediction) { return prediction; };
""",
    SHARES: """
    const auto log_q = [&](T prediction) { return T(log(prediction)); };
""",
}
# The share of a class, and whether there is one that T may take for 0.
_WANTED = {
    SHARES: """
    const auto p = AT_COLUMN(target);
    const auto is_possible = [&](T target) { return target > 0; };
""",
    LOGS: """
    const auto p = KEPT_OF_ROW(exp(target));
    const auto is_possible = [&](T target) { return target - target == 0; };
""",
    LOGITS: """
    const auto aim = SOFTMAX_OF_TARGETS(target);
    const T unit = 1 / aim.total;
    const auto p = AT_COLUMN(unit * aim.exponential(column, target));
    const auto is_possible = [&](T target) { return target - target == 0; };
""",
}
# The logarithm of the share.
_LOGS = {
    SHARES: """
    const auto log_p = [&](long long, T target) { return T(log(target)); };
""",
    LOGS: """
    const auto log_p = [&](long long, T target) { return target; };
""",
    LOGITS: """
    const auto log_p = [&](long long column, T target) {
        return -aim.negative_log(column, target);
    };
""",
}
# log(p / q), where p and q are given as they are in one step.
_RATIO = """
    const auto log_ratio = [&](long long column, T prediction, T target) {
        return log_p(column, target) - log_q(prediction);
    };
"""
_RATIO_OF_SHARES = """
    const auto log_ratio = [&](long long, T prediction, T target) {
        return T(log(target / prediction));
    };
"""
# The derivative with respect to a prediction.
_SLOPE_OF_LOGS = """
    const auto slope = [&](long long, T share, T, T) { return -share; };
"""
_SLOPE_OF_SHARES = """
    const auto slope = [&](long long, T share, T prediction, T) {
        return pick(share == 0, T(0), share / -prediction);
    };
"""
# T may hold the ratio of a share to a small prediction, and not the share.
_SLOPE_OF_SMALL_SHARES = """
    const auto slope = [&](long long column, T share, T prediction, T target) {
        const bool is_small = (share < T(1e-30)) & is_possible(target);
        const T ratio = T(exp(log_p(column, target) - log_q(prediction)));
        return pick(is_small, -ratio, pick(share == 0, T(0), share / -prediction));
    };
"""
# By the kinds of predictions and targets: what the errors of p log(p / q) are a part of.  That is
# the term itself where both logarithms are given, and each of them where their difference is not.
_ERRORS = {
    (LOGS, SHARES): "weighed(share, -prediction)",
    (LOGS, LOGS): "fabs(term(column, prediction, target))",
    (SHARES, SHARES): "share + fabs(term(column, prediction, target))",
}
_OTHER_ERRORS = "weighed(share, -(log_p(column, target) + log_q(prediction)))"
# The logarithm of a prediction in double, and the sum there.
_EXACT_LOG = {
    LOGS: """
    const auto exact_log_q = [&](T prediction) { return double(prediction); };
""",
    SHARES: """
    const auto exact_log_q = [&](T prediction) { return log(double(prediction)); };
""",
}
_EXACT = {
    SHARES: "SUM_OVER_ROW(weighed(double(target), log(double(target)) - exact_log_q(prediction)))",
    LOGS: "SUM_OVER_ROW(weighed(exp(double(target)), double(target) - exact_log_q(prediction)))",
    LOGITS: """[&]() {
            const auto exact_aim = SOFTMAX_OF_TARGETS(double(target));
            const double part = 1 / exact_aim.total;
            return SUM_OVER_ROW(weighed(
                part * exact_aim.exponential(column, double(target)),
                -exact_aim.negative_log(column, double(target)) - exact_log_q(prediction)));
        }()""",
}
_EXACT_OF_SHARES = """[&]() {
            const auto exact_log = [&](double p, double q) {
                if (sizeof(T) == 4) return log(p / q);  // which double holds
                const double part = (q - p) / p;
                return pick(fabs(part) < 0.5, -log1p(part), log(p) - log(q));
            };
            return SUM_OVER_ROW(weighed(double(target), exact_log(target, prediction)));
        }()"""
# The ratio of two shares may be more than T holds.
_OR_INFINITE = " || sums.first - sums.first != 0"
# Where the terms are more than an eighth of their size, the value has T's digits but a few.  Beside
# a prediction that is next to impossible, a share that T cannot hold may be most of the value.
_VALUE = """
    const auto term = [&](long long column, T prediction, T target) {
        return weighed(p(column, prediction, target), log_ratio(column, prediction, target));
    };
    const auto size = [&](long long column, T prediction, T target) {
        const T share = p(column, prediction, target);
        const bool is_lost =
            (share < T(1e-30)) & (log_q(prediction) < T(-1e24)) & is_possible(target);
        return pick(is_lost, -log_q(prediction), T(ERRORS));
    };
    const auto sums = GRADIENT_AND_SUMS(
        slope(column, p(column, prediction, target), prediction, target),
        term(column, prediction, target), size(column, prediction, target));
    value = sums.first;
    if (!(8 * sums.first >= sums.second)OR_MORE) value = T(EXACT);
"""
# On the host, log-probabilities that look near in a few classes are in double from the beginning.
_NEAR_LOGS = """
    const auto looks_near = [&]() {
        for (int i = 0; i < 4; ++i) {
            const long long column = (columns - 1) * i / 3;
            if (!(fabs(TARGET_AT(column) - PREDICTION_AT(column)) < T(0.5))) return false;
        }
        return true;
    };
    const auto is_near = [&]() {
        Bits far = 0;
        const auto share = [&](T target) {
            far |= target >= T(-600) ? Bits(0) : Bits(1);
            return exp_within<double, Narrow>(double(target));
        };
        value = T(GRADIENT_AND_SUM(
            -T(share(target)), share(target) * (double(target) - double(prediction))));
        return !far;
    };
    if (sizeof(T) == 4 && looks_near() && is_near()) return value;
"""


def _text(given: DistributionKind, wanted: DistributionKind) -> str:
    value = _VALUE.replace("ERRORS", _ERRORS.get((given, wanted), _OTHER_ERRORS))
    begin = _GIVEN[given] + _WANTED[wanted]
    if (given, wanted) == (SHARES, SHARES):
        exact = value.replace("EXACT", _EXACT_OF_SHARES).replace("OR_MORE", _OR_INFINITE)
        return begin + _RATIO_OF_SHARES + _SLOPE_OF_SHARES + exact
    slope = _SLOPE_OF_LOGS if given is LOGS else _SLOPE_OF_SMALL_SHARES
    logs = _LOGS[wanted] + _EXACT_LOG[given] + _RATIO + slope
    return begin + logs + value.replace("EXACT", _EXACT[wanted]).replace("OR_MORE", "")


def _text_on_host(given: DistributionKind, wanted: DistributionKind) -> str:
    near = _NEAR_LOGS if (given, wanted) == (LOGS, LOGS) else ""
    text = _text(given, wanted)
    return near + text.replace("KEPT_OF_ROW(exp(target))", "EXPONENTIALS_OF_ROW(target)")


# By the kinds of predictions and targets.
_PAIRS = [(given, wanted) for given in _GIVEN for wanted in _WANTED]
FROM_GIVEN: Mapping[tuple[DistributionKind, DistributionKind], str] = {
    pair: _text(*pair) for pair in _PAIRS
}
FROM_GIVEN_ON_HOST = {pair: _text_on_host(*pair) for pair in _PAIRS}
