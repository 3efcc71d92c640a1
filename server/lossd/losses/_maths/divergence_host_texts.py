"""The texts of the Kullback-Leibler divergence for the CPU, where double costs little."""

from lossd.losses._inputs import DistributionKind
from lossd.losses._maths.divergence_texts import (
    APART,
    DIVERGENCE,
    GROWTH,
    IN_TURN,
    LOST,
    SERIES,
    SHARES,
    SOFTMAX,
)

# With the slope s = (q - p) / (q + p), log(q / p) is twice the inverse hyperbolic tangent of s, and
# p log(p / q) + q - p is s (q - p - p s^2 (2/3 + 2/5 s^2 + ...)), of which nothing cancels: given
# the digits of q - p, it can be computed in T.
_NEAR_TERM = """
    const auto near_term = [&](T p, T apart) {
        const T slope = apart / (2 * p + apart), square = slope * slope;
        T series = 0;  // of |s| up to 1/3
        #pragma unroll
        for (int n = sizeof(T) == 4 ? 13 : 27; n > 1; n -= 2) series = series * square + T(2.0 / n);
        return slope * (apart - p * square * series);
    };
"""
# Shares are compared in double: q - p has its digits wherever the two are not nearly the same.
_COMPARED = """
    const auto is_compared = [&]() {
        const auto softmax = SOFTMAX_OF_ROW(double(prediction));
        SHARE_AND_LOG_RATIO
        const double mass = SUM_OVER_ROW(share(column, prediction, target)), beyond = mass - 1;
        if (!(fabs(beyond) < 0.125)) return false;
        const long long best = softmax.best.column;
        const bool is_sure = softmax.rest < 1;
        const double unit = 1 / softmax.total, weight = mass * unit;
        const double of_best = !is_sure ? 0
            : SUM_OVER_ROW(pick(column == best, 0.0, share(column, prediction, target)))
                - weight * softmax.rest;
        const auto surplus = [&](long long column, T prediction, T target) {
            const double q = weight * softmax.exponential(column, prediction);
            return pick(is_sure && column == best, of_best, q - share(column, prediction, target));
        };
        const double apart_at_best = of_best - beyond * unit;
        const T largest = T(softmax.best.value), log_total = T(log1p(softmax.rest));
        const auto apart = [&](long long column, T prediction, T target) {
            const double plain = unit * softmax.exponential(column, prediction)
                - share(column, prediction, target);
            return T(pick(is_sure && column == best, apart_at_best, plain));
        };
        Bits far = 0;
        const auto quick = [&](long long column, T prediction, T target) {
            const T p = T(share(column, prediction, target));
            const T difference = apart(column, prediction, target);
            far |= (fabs(difference) < p / 2) | (column >= columns) ? Bits(0) : Bits(1);
            return near_term(p, difference);
        };
        const auto term = [&](long long column, T prediction, T target) {
            const T p = T(share(column, prediction, target));
            const T difference = apart(column, prediction, target);
            const T q = T(unit * softmax.exponential(column, prediction));
            const bool is_faint = q < T(1e-30);
            const T known = pick(is_faint, (largest - prediction) + log_total, T(0));
            const T log = log_ratio(target, is_faint, p / q) + known;
            return pick(fabs(difference) < p / 2, near_term(p, difference),
                        weighed(p, log) + difference);
        };
        T terms = SUM_OVER_ROW(quick(column, prediction, target));
        if (far) terms = SUM_OVER_ROW(term(column, prediction, target));
        // Nearer distributions take more digits than double has of q - p, or of sum(p) q - p.
        const double least = (sizeof(T) == 4 ? 1e-16 : 1e-8) + beyond * beyond;
        if (!(terms > least && terms < T(1e30))) return false;
        value = T(terms + beyond);
        GRADIENT_OF_ROW(surplus(column, prediction, target));
        return true;
    };
"""
# A target of logits or of log-probabilities, in T: as in GROWTH, where logits and growths are
# moderate.  Shares need not sum to 1: p is then `mass` times what they are of their sum.  Only the
# distance of logits takes more digits than T has, so that growths have theirs however small they
# are.
_GROWTH_IN_T = """
    const auto grows_moderately = [&]() {
        const auto softmax = SOFTMAX_OF_ROW(prediction);
        const T largest = softmax.best.value;
        const double common = COMMON;
        if (!(fabs(largest) < 1024 && fabs(common) < 1024)) return false;
        const T most = T(common), rest = T(common - double(most));
        Bits far = 0;
        // No share counts that is so small beside its q.
        const auto way = [&](T prediction, T target) {
            const T whole = target - prediction, back = whole - target;
            const T lost = (target - (whole - back)) - (prediction + back);
            const T found = (whole - most) + (lost - rest);
            const bool are_moderate = (largest - prediction < 32) & (target < 1024);
            far |= are_moderate & !(found > 32) ? Bits(0) : Bits(1);
            return fmax(found, T(-60));
        };
        const auto ways = ROOM_OF_ROW(T), growth = ROOM_OF_ROW(T);
        const auto grown = [&](long long column, T prediction, T target) {
            const T own = ways.keep(column, way(prediction, target));
            return softmax.exponential(column, prediction) * growth.keep(column, expm1_within(own));
        };
        const double mean = double(SUM_OVER_ROW(grown(column, prediction, target))) / softmax.total;
        if (far || !(mean > -0.75)) return false;
        const double mass = MASS;
        const T unit = T(1 / (softmax.total * (1 + mean)));
        const T centre = T(mean), log_mean = T(log1p(mean)), slope = T(mass) * unit;
        const auto apart = [&](long long column, T prediction) {
            return softmax.exponential(column, prediction) * (centre - growth.kept[column]);
        };
        // p log(p / q) + q - p over `unit`, with the series of exp(-x) - 1 + x up to 1/2.
        const auto term = [&](long long column, T prediction) {
            const T grown = growth.kept[column], log = ways.kept[column] - log_mean;
            const T part = (1 + grown) * log;
            const T series = ((((T(-0.00019944874) * log + T(0.0013982186)) * log
                - T(0.008333236)) * log + T(0.041665792)) * log - T(0.16666667)) * log + T(0.5);
            const T cost = pick(fabs(log) < T(0.5), part * (log * series), part + (centre - grown));
            return softmax.exponential(column, prediction) * cost;
        };
        const T terms = unit * GRADIENT_AND_SUM(
            slope * apart(column, prediction), term(column, prediction));
        // Growths that are much nearer to their mean than to 0 lose digits of it.
        const double bound = mean < 1 ? mean : 1;
        if (!(terms > 1e-14 && terms > 0.005 * bound * bound)) return false;
        VALUE
        return true;
    };
"""
# What the distances of all classes have in common; what the shares sum to, in T's digits; and the
# value, for which near distributions take all digits of that sum.
_OF_LOGITS = (
    "double(TARGET_AT(softmax.best.column)) - double(largest)",
    "1",
    "value = terms;",
)
_OF_LOGS = (
    "-double(softmax.log_sum_exp())",
    "exp(common + double(largest)) * (1 + double(softmax.rest)) * (1 + mean)",
    """double sum = mass;
        if (terms < 0.125) {
            const auto share = [&](T target) { return exp_within(fmax(double(target), -600.0)); };
            sum = SUM_OVER_ROW(share(target));
        }
        value = T(sum * (double(terms) + log(sum)));""",
)
# How the share of a class is kept, and the logarithm of it, or of what it is to q.
_KEPT = {
    DistributionKind.PROBABILITIES: """
        const auto share = AT_COLUMN(NUMBER(target));
        const auto log_ratio = [&](T target, bool is_faint, T ratio) {
            return T(log(pick(is_faint, target, ratio)));
        };
""",
    DistributionKind.LOG_PROBABILITIES: """
        const auto share = EXPONENTIALS_OF_ROW(NUMBER(target));
        const auto log_ratio = [&](T target, bool is_faint, T ratio) {
            return pick(is_faint, target, T(log(ratio)));
        };
""",
}
# What the shares sum to, with that of the best class and, where it is wanted, without.
_MASSES = """[&]() {
            struct { double first; T second; } found{SUM_OVER_ROW(double(share(target))), 0};
            if (is_sure)
                found.second = SUM_OVER_ROW(pick(column == best, T(0), share(target)));
            return found;
        }()"""
# Whether a few classes look as if the distributions were near: both ways are right for any row, and
# this is the quicker one to try first.
_LOOK = """
    const auto looks_near = [&]() {
        const T first = LOG_OF(TARGET_AT(0)) - PREDICTION_AT(0);
        for (int i = 1; i < 4; ++i) {
            const long long column = (columns - 1) * i / 3;
            const T other = LOG_OF(TARGET_AT(column)) - PREDICTION_AT(column);
            if (!(fabs(other - first) < T(0.5))) return false;
        }
        return true;
    };
"""


def _growth(common: str, mass: str, value: str) -> str:
    text = _GROWTH_IN_T.replace("COMMON", common)
    return text.replace("MASS", mass).replace("VALUE", value)


def host_text(kind: DistributionKind) -> str:
    """Returns the text for the CPU."""
    exact = SOFTMAX + SHARES[kind] + DIVERGENCE + IN_TURN
    if kind not in _KEPT:
        growth = GROWTH.replace("const bool is_done = grows()", "is_done = is_done || grows()")
        return f"""{SERIES}{LOST}{_growth(*_OF_LOGITS)}
    bool is_done = sizeof(T) == 4 && temperature == 1 && grows_moderately();
    {growth}    if (!is_done) {{{exact}    }}
"""
    is_log = kind is DistributionKind.LOG_PROBABILITIES
    look = _LOOK.replace("LOG_OF", "" if is_log else "log")
    kept = _KEPT[kind]
    compared = _COMPARED.replace("        SHARE_AND_LOG_RATIO\n", kept.replace("NUMBER", "double"))
    apart = APART.replace("masses_of(row, best, is_sure, share)", _MASSES)
    apart = apart.replace("share(target)", "share(column, prediction, target)")
    growth, first = "", "false"
    if is_log:
        growth = _growth(*_OF_LOGS)
        first = "sizeof(T) == 4 && temperature == 1 && grows_moderately()"
    return f"""{SERIES}{_NEAR_TERM}{look}{compared}{growth}
    bool is_done = {first};
    if (!is_done && temperature == 1 && !looks_near()) {{
        {kept.replace("NUMBER", "T")}{apart}
        is_done = is_apart();
    }}
    if (!is_done && temperature == 1) is_done = is_compared();
    if (!is_done) {{{exact}    }}
"""
