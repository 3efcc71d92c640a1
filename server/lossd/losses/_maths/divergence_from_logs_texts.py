"""The texts of the Kullback-Leibler divergence from predictions that are log-probabilities.

The gradient is no difference, and needs no more digits than T has.  The value is a sum of terms of
both signs, which float32 keeps where they do not cancel: `size` is what their errors are a part of.
"""

from lossd.losses._inputs import DistributionKind

# The share of a class and its logarithm, in T and in double, the error's size, and whether there is
# a share that T may take for 0.
_SHARES = {
    DistributionKind.PROBABILITIES: """
    const auto p = AT_COLUMN(target);
    const auto log_p = [&](T target) { return T(log(target)); };
    const auto exact = [&](T prediction, T target) {
        return weighed(double(target), log(double(target)) - double(prediction));
    };
    const auto error_of = [&](T share, T prediction, T) { return weighed(share, -prediction); };
    const auto is_possible = [&](T target) { return target > 0; };
""",
    DistributionKind.LOG_PROBABILITIES: """
    const auto p = KEPT_OF_ROW(exp(target));
    const auto log_p = [&](T target) { return target; };
    const auto exact = [&](T prediction, T target) {
        return weighed(exp(double(target)), double(target) - double(prediction));
    };
    const auto error_of = [&](T share, T prediction, T target) {
        return weighed(share, T(fabs(target - prediction)));
    };
    const auto is_possible = [&](T target) { return target - target == 0; };
""",
}
# Where the terms are more than an eighth of their size, the value has T's digits but a few.  Beside
# a prediction that is next to impossible, a share that T cannot hold may be most of the value.
_VALUE = """
    const auto term = [&](long long column, T prediction, T target) {
        return weighed(p(column, prediction, target), log_p(target) - prediction);
    };
    const auto size = [&](long long column, T prediction, T target) {
        const T share = p(column, prediction, target);
        const bool is_lost =
            (share < T(1e-30)) & (prediction < T(-1e24)) & is_possible(target);
        return pick(is_lost, -prediction, error_of(share, prediction, target));
    };
    const auto keeps_digits = [&]() {
        const auto sums = SUMS_OVER_ROW(
            term(column, prediction, target), size(column, prediction, target));
        value = sums.first;
        return 8 * sums.first >= sums.second;
    };
    if (sizeof(T) > 4 || !keeps_digits()) value = T(SUM_OVER_ROW(exact(prediction, target)));
    GRADIENT_OF_ROW(-p(column, prediction, target));
"""

# By the kind of targets.
FROM_LOGS = {kind: text + _VALUE for kind, text in _SHARES.items()}
FROM_LOGS_ON_HOST = {
    kind: text.replace("KEPT_OF_ROW(exp(target))", "EXPONENTIALS_OF_ROW(target)")
    for kind, text in FROM_LOGS.items()
}
