"""The texts of kernels for the Kullback-Leibler divergence."""

from lossd.losses._inputs import DistributionKind

# A row whose distributions are apart keeps its digits in T: its value is no small difference.
# Terms are p log(p / q) + q - p, in which an error of q counts only as far as q is from p.  Where q
# has hardly any digits left, its logarithm has.
APART = """
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
LOST = """
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
SHARES = {
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
GROWTH = """
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
SERIES = """
    const auto series_of = [&](double log) {  // of (exp(-x) - 1 + x) / x^2, times 2
        double series = 1;
        #pragma unroll
        for (int n = 15; n > 2; --n) series = 1 - log * (1.0 / n) * series;
        return series;
    };
"""
# In double, as the body computes in float64.
SOFTMAX = """
    const auto logit = [&](T given) { return double(given) / temperature; };
    const auto softmax = SOFTMAX_OF_ROW(logit(prediction));
"""
DIVERGENCE = """
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
IN_TURN = """
    const double sum = SUM_OVER_ROW(part(column, prediction, target));
    value = factor * (sums_to_one ? sum + beyond : sum);
    GRADIENT_OF_ROW(slope(column, prediction, target));
"""


def _text(kind: DistributionKind) -> str:
    """Returns the text for targets of a kind: rows that are apart, and all others in double."""
    writing = _AT_ONCE if kind is DistributionKind.PROBABILITIES else IN_TURN
    exact = SOFTMAX + SHARES[kind] + DIVERGENCE + writing
    if kind not in _APART_OF:
        return f"{SERIES}{LOST}{GROWTH}    if (!is_done) {{{exact}    }}\n"
    apart = f"""
    bool is_done = temperature == 1;
    if (is_done) {{
        {_APART_OF[kind]}{APART}
        is_done = is_apart();
    }}
"""
    return f"{SERIES}{apart}    if (!is_done) {{{exact}    }}\n"


# By the kind of targets.
TEXTS = {kind: _text(kind) for kind in SHARES}
