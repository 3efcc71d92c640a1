"""The texts of cross-entropies whose predictions are probabilities, or logarithms of them."""

from lossd.losses._inputs import DistributionKind

# The cost -log p of a class, and a share of it times its derivative: 0 where the share is, even if
# the derivative is infinite.
_COSTS = {
    DistributionKind.LOG_PROBABILITIES: """
    const auto cost = [&](T given) { return -given; };
    const auto slope = [&](T share, T given) { return 0 - share; };
""",
    DistributionKind.PROBABILITIES: """
    const auto cost = [&](T given) { return -T(log(given)); };
    const auto slope = [&](T share, T given) { return pick(share == 0, T(0), share / -given); };
""",
}
# A class for each row: no other column is read but to look for numbers outside the domain.
_OF_CLASSES = """
    const T weight = class_weights[label], given = PREDICTION_AT(label);
    const T own = slope(weight, given);
    value = weighed(weight, cost(given));
    GRADIENT_AT(label, own);
"""
# A target for each class.
_DENSE = """
    const T kept = 1 - label_smoothing, spread = label_smoothing / columns;
    const auto share = [&](long long column, T target) {
        return class_weights[column] * (target * kept + spread);
    };
    value = GRADIENT_AND_SUM(
        slope(share(column, target), prediction),
        weighed(share(column, target), cost(prediction)));
"""
OF_CLASSES = {kind: text + _OF_CLASSES for kind, text in _COSTS.items()}
DENSE = {kind: text + _DENSE for kind, text in _COSTS.items()}

# The costs of yes and no, which probabilities clamp, and the derivatives of a share of each.
_OF_ANSWERS = {
    DistributionKind.PROBABILITIES: """
    const T log_yes = log(prediction), log_no = log1p(-prediction);
    const bool is_clamped_yes = log_yes < -100, is_clamped_no = log_no < -100;
    const T of_yes = pick(is_clamped_yes, T(100), -log_yes);
    const T of_no = pick(is_clamped_no, T(100), -log_no);
    const T by_yes = pick(is_clamped_yes | (positive == 0), T(0), positive / -prediction);
    const T by_no = pick(is_clamped_no | (negative == 0), T(0), negative / (1 - prediction));
""",
    # Each form of log(1 - p) is exact where the other one loses 1 - p, or p, to rounding.
    DistributionKind.LOG_PROBABILITIES: """
    const T yes = exp(prediction), no = -expm1(prediction);
    const T of_yes = -prediction;
    const T of_no = -pick(prediction < T(-0.6931471805599453), T(log1p(-yes)), T(log(no)));
    const T by_yes = 0 - positive, by_no = weighed(negative, yes / no);
""",
}
# From the shares `positive` and `negative` of yes and no.
OF_ANSWERS = {
    kind: text
    + """
    value = weighed(positive, of_yes) + weighed(negative, of_no);
    gradient = by_yes + by_no;
"""
    for kind, text in _OF_ANSWERS.items()
}
