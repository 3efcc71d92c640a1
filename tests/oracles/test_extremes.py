"""Extremes at which libraries that people trust overflow, give NaN or lose the gradient."""

from typing import Any

import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import LOSSES, Differentiable, DistributionKind, MulticlassHingeVariant, Shape
from lossd.losses._maths.gan_costs import GanObjective
from lossd.losses._maths.preferences import PreferenceObjective
from lossd.reduction import Reduction
from tests.device import keeping_small_doubles
from tests.losses.case import values
from tests.losses.compare import assert_same_bits, assert_zero

FLOATS = [np.float32, np.float64]
AIMS_OF_LOGITS = {"target_kind": DistributionKind.LOGITS}


def run(
    engine: Engine, name: str, parameters: dict[str, Any], *inputs: Any, dtype: Any = np.float64
) -> Result:
    """Each example by itself, with every gradient that the loss has for floats."""
    loss = LOSSES[name]
    arrays = [np.asarray(given) for given in inputs]
    arrays = [a if a.dtype.kind == "i" else a.astype(dtype) for a in arrays]
    given = {i.name: [array] for i, array in zip(loss.inputs, arrays, strict=False)}
    wanted = tuple(
        i.name
        for i in loss.inputs
        if i.name in given
        and i.differentiable is not Differentiable.NO
        and given[i.name][0].dtype.kind == "f"
    )
    reduction = Reduction.MEAN if loss.shape is Shape.SETWISE else Reduction.NONE
    job = Job(loss=loss, parameters=parameters, inputs=given, reduction=reduction, gradients=wanted)
    return engine.run(job)


def assert_equal(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 3e38), (np.float64, 1.6e308)])
@pytest.mark.parametrize("length", [2, 100, 700, (1 << 18) + 1])
@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "huber", "quantile"])
def test_a_mean_is_finite_where_the_sum_of_its_elements_is_not(
    engine: Engine, name: str, length: int, dtype: type, most: float
) -> None:
    """Every element comes to more than half of the largest number."""
    far = np.sqrt(most * 0.9) if name == "squared_error" else most
    predictions = np.full((2, length), far) * [[1], [0.1]]
    result = run(engine, name, {}, predictions, np.zeros_like(predictions), dtype=dtype)
    exact = predictions.astype(dtype).astype(np.float64)
    each = run(engine, name, {}, exact[:, :1], np.zeros((2, 1)), dtype=np.float64)
    assert_equal(values(result), values(each), 3e-6)
    assert not len(result.nonfinite_examples)


@pytest.mark.parametrize("name", ["squared_error", "absolute_error", "log_cosh"])
def test_the_error_of_a_mean_does_not_grow_with_the_row(engine: Engine, name: str) -> None:
    predictions = np.random.default_rng(3).normal(0, 1, (1, 1 << 18)).astype(np.float32)
    targets = np.zeros_like(predictions)
    single = run(engine, name, {}, predictions, targets, dtype=np.float32)
    double = run(engine, name, {}, predictions, targets, dtype=np.float64)
    assert_equal(values(single), values(double), 1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_focal_with_a_small_gamma_is_finite_at_saturation(engine: Engine, dtype: type) -> None:
    logits, targets = [1000.0, -1000.0, 1000.0, -1000.0], [1.0, 0.0, 0.0, 1.0]
    result = run(engine, "focal", {"gamma": 0.5}, logits, targets, dtype=dtype)
    assert_equal(values(result), [0, 0, 1000, 1000])
    assert_equal(result.gradients["predictions"], [0, 0, 1, -1])
    assert np.isfinite(result.gradients["targets"]).all()
    assert not len(result.nonfinite_examples)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_takes_nothing_of_infinite_logits_that_agree(engine: Engine, gamma: float) -> None:
    for alpha in (None, 0.0, 1.0):
        parameters = {"gamma": gamma, "alpha": alpha}
        result = run(engine, "focal", parameters, [np.inf, -np.inf], [1.0, 0.0])
        assert_equal(values(result), [0, 0])
        assert_equal(result.gradients["predictions"], [0, 0])
        assert_equal(result.gradients["targets"], [0, 0])


def test_focal_keeps_its_digits_far_into_certainty(engine: Engine) -> None:
    """(1 - p)^gamma times about (1 - p), with 1 - p = 1 / (1 + exp(30))."""
    result = run(engine, "focal", {"gamma": 0.5}, [30.0], [1.0], dtype=np.float32)
    doubt = 1 / (1 + np.exp(30))
    assert_equal(values(result), [doubt**1.5])
    assert_equal(result.gradients["predictions"], [-1.5 * doubt**1.5])


@pytest.mark.parametrize("dtype", [np.float16, *FLOATS])
def test_focal_without_gamma_and_alpha_is_binary_cross_entropy_to_the_bit(
    engine: Engine, dtype: type
) -> None:
    rng = np.random.default_rng(3)
    logits = np.concatenate([rng.normal(0, 5, 400), [0, 20, -20, 1e4, -1e4, np.inf, -np.inf]])
    targets = np.concatenate([rng.uniform(0, 1, 200), rng.integers(0, 2, 207)])
    one = run(engine, "focal", {"gamma": 0.0}, logits, targets, dtype=dtype)
    other = run(engine, "binary_cross_entropy", {}, logits, targets, dtype=dtype)
    assert_same_bits(values(one), values(other))
    for name, gradient in other.gradients.items():
        assert_same_bits(one.gradients[name], gradient)


@pytest.mark.parametrize("dtype", FLOATS)
def test_binary_cross_entropy_is_a_soft_margin_without_overflow(
    engine: Engine, dtype: type
) -> None:
    logits, targets = [1000.0, -1000.0, 1000.0, -1000.0], [1.0, 0.0, 0.0, 1.0]
    result = run(engine, "binary_cross_entropy", {}, logits, targets, dtype=dtype)
    assert_equal(values(result), [0, 0, 1000, 1000])
    assert_equal(result.gradients["predictions"], [0, 0, 1, -1])


@pytest.mark.parametrize("dtype", FLOATS)
def test_log_cosh_is_a_line_far_away(engine: Engine, dtype: type) -> None:
    residuals = np.array([1e4, -1e4, 3e38, 25.0, -89.0])
    result = run(engine, "log_cosh", {}, residuals, np.zeros(5), dtype=dtype)
    assert_equal(values(result), np.abs(residuals) - np.log(2))
    assert_equal(result.gradients["predictions"], np.sign(residuals))


def test_log_cosh_has_all_digits_of_small_residuals(engine: Engine) -> None:
    residuals = np.array([1e-3, -1e-4, 1e-8])
    result = run(engine, "log_cosh", {}, residuals, np.zeros(3), dtype=np.float32)
    assert_equal(values(result), residuals**2 / 2)
    assert_equal(result.gradients["predictions"], residuals)


def test_counts_beyond_the_type_are_infinite_and_flagged_but_never_nan(engine: Engine) -> None:
    logs, counts = [1000.0, 89.0, np.inf, np.inf], [5.0, 0.0, 2.0, 0.0]
    result = run(engine, "poisson_nll", {}, logs, counts, dtype=np.float32)
    assert (values(result) == np.inf).all()
    assert (result.gradients["predictions"] == np.inf).all()
    assert result.nonfinite_examples.tolist() == [0, 1, 2, 3]
    in_double = run(engine, "poisson_nll", {}, [100.0], [3.0])
    assert_equal(values(in_double), [np.exp(100) - 300], 1e-14)


def test_a_rate_of_zero_is_fine_where_nothing_was_counted(engine: Engine) -> None:
    for parameters, nothing in (({}, -np.inf), ({"log_input": False}, 0.0)):
        result = run(engine, "poisson_nll", parameters, [nothing, nothing], [0.0, 2.0])
        assert values(result).tolist() == [0, np.inf]
        assert result.gradients["predictions"][0] == (0 if not parameters else 1)
    negative = run(engine, "poisson_nll", {"log_input": False}, [-1.0, -1.0], [0.0, 2.0])
    assert np.isnan(values(negative)).all()


def test_stirling_begins_above_one(engine: Engine) -> None:
    counts = np.array([0.0, 0.5, 1.0, 2.0, 170.0])
    without = run(engine, "poisson_nll", {}, np.zeros(5), counts)
    full = run(engine, "poisson_nll", {"full": True}, np.zeros(5), counts)
    added = values(full) - values(without)
    assert added[:3].tolist() == [0, 0, 0]
    factorials = [np.log(2), np.log(np.arange(1, 171)).sum()]
    np.testing.assert_allclose(added[3:], factorials, atol=0.05)  # 1 / (12 y) at most
    assert full.gradients["targets"][:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_variance_at_its_floor_is_a_constant(engine: Engine, dtype: type) -> None:
    residual = 1e-2
    variances = [0.0, 1e-30, 1e-6, 4e-6]
    result = run(
        engine, "gaussian_nll", {}, np.full(4, residual), np.zeros(4), variances, dtype=dtype
    )
    floored = np.maximum(variances, 1e-6)
    assert_equal(values(result), (np.log(floored) + residual**2 / floored) / 2)
    assert_equal(result.gradients["predictions"], residual / floored)
    derivative = (1 - residual**2 / 4e-6) / 8e-6
    assert_equal(result.gradients["variances"], [0, 0, 0, derivative])


def test_classes_that_neither_side_expects_add_nothing_to_a_divergence(engine: Engine) -> None:
    targets, log_targets = [[0.0, 0.25, 0.75]], [[-np.inf, np.log(0.25), np.log(0.75)]]
    predictions = {
        DistributionKind.LOGITS: [[-np.inf, 0.0, 0.0]],
        DistributionKind.LOG_PROBABILITIES: [[-np.inf, np.log(0.5), np.log(0.5)]],
        DistributionKind.PROBABILITIES: [[0.0, 0.5, 0.5]],
    }
    expected = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    for kind, given in predictions.items():
        for target_kind in DistributionKind:
            is_log = target_kind is not DistributionKind.PROBABILITIES
            parameters = {"prediction_kind": kind, "target_kind": target_kind}
            aims = log_targets if is_log else targets
            result = run(engine, "kl_divergence", parameters, given, aims)
            assert_equal(values(result), [expected], 1e-14)
            for gradient in result.gradients.values():
                assert gradient[0, 0] == 0
                assert np.isfinite(gradient).all()


def test_a_class_held_impossible_that_comes_is_infinitely_far(engine: Engine) -> None:
    result = run(engine, "kl_divergence", {}, [[-np.inf, 0.0]], [[0.5, 0.5]])
    assert values(result).tolist() == [np.inf]
    assert result.gradients["predictions"].tolist() == [[-0.5, 0.5]]
    assert result.nonfinite_examples.tolist() == [0]


def test_a_distribution_is_no_distance_from_itself(engine: Engine) -> None:
    logits = np.random.default_rng(4).normal(0, 3, (6, 9))
    parameters = {"target_kind": DistributionKind.LOGITS, "temperature": 3.0}
    result = run(engine, "kl_divergence", parameters, logits, logits + 7)
    np.testing.assert_allclose(values(result), 0, atol=1e-14)
    for gradient in result.gradients.values():
        np.testing.assert_allclose(gradient, 0, atol=1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_hinge_of_negative_scores_is_not_measured_from_zero(engine: Engine, dtype: type) -> None:
    scores = [[-3.0, -5.0], [-3.0, -3.5], [-1e30, -2e30]]
    result = run(engine, "multiclass_hinge", {}, scores, [0, 0, 0], dtype=dtype)
    assert_equal(values(result), [0, 0.5, 0])
    assert_equal(result.gradients["predictions"], [[0, 0], [-1, 1], [0, 0]])


def test_one_class_alone_misses_no_margin(engine: Engine) -> None:
    for variant in MulticlassHingeVariant:
        result = run(engine, "multiclass_hinge", {"variant": variant}, [[2.0], [np.inf]], [0, 0])
        assert values(result).tolist() == [0, 0]
        assert not result.gradients["predictions"].any()


@pytest.mark.parametrize("beta", [0.25, 1.0, 3.0])
def test_smooth_l1_is_huber_over_its_delta(engine: Engine, beta: float) -> None:
    residuals = np.linspace(-9, 9, 101)
    one = run(engine, "smooth_l1", {"beta": beta}, residuals, np.zeros(101))
    other = run(engine, "huber", {"delta": beta}, residuals, np.zeros(101))
    np.testing.assert_allclose(values(one), values(other) / beta, rtol=1e-14)
    for name, gradient in other.gradients.items():
        np.testing.assert_allclose(one.gradients[name], gradient / beta, rtol=1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_focal_is_finite_at_saturation(engine: Engine, dtype: type) -> None:
    """As class index and as distribution; -log p is 2000 where it is not 0."""
    for targets in ([0, 1], [[1.0, 0.0], [0.0, 1.0]]):
        logits = [[1000.0, -1000.0], [1000.0, -1000.0]]
        result = run(engine, "softmax_focal", {"gamma": 0.5}, logits, targets, dtype=dtype)
        assert_equal(values(result), [0, 2000])
        assert_equal(result.gradients["predictions"], [[0, 0], [1, -1]])


def test_softmax_focal_without_gamma_is_cross_entropy(engine: Engine) -> None:
    rng = np.random.default_rng(5)
    logits, weights = rng.normal(0, 9, (50, 7)), tuple(rng.uniform(0, 2, 7))
    for targets in (rng.integers(0, 7, 50), rng.dirichlet(np.ones(7), 50)):
        given = {"class_weights": weights}
        one = run(engine, "softmax_focal", {"gamma": 0.0, **given}, logits, targets)
        other = run(engine, "cross_entropy", given, logits, targets)
        np.testing.assert_allclose(values(one), values(other), rtol=1e-14)
        for name, gradient in other.gradients.items():
            np.testing.assert_allclose(one.gradients[name], gradient, rtol=1e-13, atol=1e-300)


def test_a_candidate_that_is_certain_decides_the_risk(engine: Engine) -> None:
    """The gradient is q (1 - q) times the difference of risks, with q = exp(-50)."""
    result = run(engine, "expected_risk", {}, [[0.0, -50.0]], [[0.25, 1.25]], dtype=np.float32)
    assert_equal(values(result), [0.25])
    rare = np.exp(-50.0)
    assert_equal(result.gradients["log_probabilities"], [[-rare, rare]])
    assert_equal(result.gradients["risks"], [[1, rare]])


def test_the_risk_of_a_candidate_of_probability_zero_does_not_matter(engine: Engine) -> None:
    result = run(engine, "expected_risk", {}, [[0.0, -np.inf]], [[0.25, np.inf]])
    assert values(result).tolist() == [0.25]
    assert result.gradients["log_probabilities"].tolist() == [[0, 0]]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_risk_is_the_value_whichever_candidate_has_it(
    engine: Engine, infinite: float, dtype: type
) -> None:
    """Its own slope is no number; those of the others are, and one of probability 0 has none."""

    def of(*rows: Any) -> Result:
        chances = [[0.0, -3.0, -1.0, -np.inf]] * len(rows)
        return run(engine, "expected_risk", {}, chances, rows, dtype=dtype)

    before, after = [0.5, 0.25, 2, 1], [1.0, 0, 0, 0]
    for wrong in (0, 1, 2):
        risks = np.array([1.0, 3.0, 2.0, 0.0])
        expected = of(before, risks, after)
        risks[wrong] = infinite
        result = of(before, risks, after)
        slopes = np.full(4, -infinite)
        slopes[wrong], slopes[3] = np.nan, 0
        np.testing.assert_array_equal(result.gradients["log_probabilities"][1], slopes)
        assert_same_bits(result.gradients["risks"], expected.gradients["risks"])
        assert values(result).tolist() == [values(expected)[0], infinite, values(expected)[2]]
        assert result.nonfinite_examples.tolist() == [1]
    assert values(of([infinite] * 4)).tolist() == [infinite]
    assert np.isnan(values(of([infinite, -infinite, 0, 0]))).all()


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-50, 1e-40, 1e-38, 1e-3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_temperature_near_zero_leaves_the_likeliest_classes(
    engine: Engine, dtype: type, temperature: float
) -> None:
    """Two of three are equally likely, and no class is no number."""
    parameters = {"temperature": temperature}
    shares = [[0.0, 0.5, 0.5]]
    with keeping_small_doubles():
        result = run(engine, "cross_entropy", parameters, [[1.0, 2.0, 2.0]], [1], dtype=dtype)
        assert_equal(values(result), [np.log(2)])
        result = run(engine, "kl_divergence", parameters, [[1.0, 2.0, 2.0]], shares, dtype=dtype)
    assert_equal(values(result), [0])
    assert_equal(result.gradients["predictions"], [[0, 0, 0]])


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_region_that_is_surely_empty_is_all_wrong_and_flat(
    engine: Engine, name: str, dtype: type
) -> None:
    for logit in (-20.0, -44.0, -88.0, -90.0, -104.0, -300.0, -720.0, -1000.0):
        given = [[logit, logit]]
        result = run(engine, name, {"smooth": 0.0}, given, [[0.0, 0.0]], dtype=dtype)
        assert_equal(values(result), [1])
        assert_equal(result.gradients["predictions"], [[0, 0]])
        alone = run(engine, "soft_f1", {}, np.transpose(given), [[0.0], [0.0]], dtype=dtype)
        assert alone.loss == 1
        assert_equal(alone.gradients["predictions"], [[0], [0]])


@pytest.mark.parametrize("margin", [20.0, 46.0, 60.0, 400.0, 1000.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_class_that_is_absent_poisons_no_example(
    engine: Engine, dtype: type, margin: float
) -> None:
    parameters = {"smooth": 0.0, "class_axis": -1}
    given = [[[margin, -margin], [0.0, -2 * margin]]]
    result = run(engine, "dice", parameters, given, [[0, 0]], dtype=dtype)
    assert np.isfinite(result.gradients["predictions"]).all()
    assert_equal(values(result), [0.5])  # that of the absent class, over two classes


def test_labels_that_no_share_reaches_are_still_counted(engine: Engine) -> None:
    """Probabilities that are exactly 0 have no score; those that only round to it have."""
    nothing = run(engine, "soft_f1", {}, [[-np.inf], [-np.inf]], [[0.0], [0.0]])
    assert nothing.loss == 0
    assert nothing.status is not None
    faint = run(engine, "soft_f1", {}, [[-np.inf, -800.0]], [[0.0, 0.0]])
    assert faint.loss == 1
    assert faint.status is not None


@pytest.mark.parametrize("labels", [1, 40])
def test_probabilities_that_are_hardly_numbers_are_summed_over_many_pieces(
    engine: Engine, labels: int
) -> None:
    """Without a true one, 2 p over the sum of all is what a true one would take from the loss."""
    rng = np.random.default_rng(labels)
    logs = rng.uniform(-220, -190, (150_000 // labels, labels)).astype(np.float32)
    job = Job(
        loss=LOSSES["soft_f1"],
        parameters={"prediction_kind": DistributionKind.LOG_PROBABILITIES},
        inputs={"predictions": [logs], "targets": [np.zeros_like(logs)]},
        gradients=("predictions", "targets"),
    )
    found = engine.run(job)
    inside = np.exp(logs.astype(np.longdouble))
    expected = -2 * inside / inside.sum(axis=0) / labels
    assert found.loss == pytest.approx(1, rel=1e-12)
    assert_zero(found.gradients["predictions"])
    np.testing.assert_allclose(found.gradients["targets"], expected.astype(float), rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_errors_that_round_to_one_keep_their_order(engine: Engine, dtype: type) -> None:
    """Of three elements that are wrong for certain, the most certain counts the most."""
    for margins in ([20.0, 30.0, 25.0], [80.0, 100.0, 90.0], [400.0, 800.0, 600.0]):
        given = [[[-m, 0.0] for m in margins] + [[5.0, 0.0]]]
        result = run(engine, "lovasz_softmax", {}, given, [[0, 0, 0, 0]], dtype=dtype)
        order = np.argsort(margins)
        swapped = run(
            engine, "lovasz_softmax", {}, [[given[0][i] for i in (*order, 3)]], [[0] * 4],
            dtype=dtype,
        )  # fmt: skip
        assert_equal(
            result.gradients["predictions"][0, [*order, 3]], swapped.gradients["predictions"][0]
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_likeliest_false_positive_is_found_where_all_round_to_one(
    engine: Engine, dtype: type
) -> None:
    """Without that order the first element would have the gradient."""
    given = [[[0.0, 40.0, 0.0], [0.0, 42.0, 0.0], [0.0, 0.0, 0.0]]]
    result = run(engine, "lovasz_softmax", {}, given, [[0, 0, 2]], dtype=dtype)
    derivatives = abs(result.gradients["predictions"][0, :2, 0])
    steps = derivatives / np.exp([-40.0, -42.0])
    assert steps[1] >= steps[0] * 0.999


@pytest.mark.parametrize("objective", ["MINIMAX", "NON_SATURATING"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_target_that_is_smoothed_away_keeps_its_digits(
    engine: Engine, dtype: type, objective: str
) -> None:
    """log(1 + exp(-20)) and its slope."""
    parameters = {"label_smoothing": 1.0, "objective": GanObjective[objective]}
    result = run(engine, "discriminator_loss", parameters, [[-20.0]], [[-1000.0]], dtype=dtype)
    assert_equal(values(result), [2.061153620314381e-09, 0])
    assert_equal(result.gradients["real"], [[2.061153618190204e-09]])


@pytest.mark.parametrize("kind", list(DistributionKind))
def test_what_two_distributions_nearly_share_is_seen(
    engine: Engine, kind: DistributionKind
) -> None:
    """Of (1/2 + d, 1/2 - d) from (1/2, 1/2), which is 2 d^2 and the fourth power."""
    for way in (1e-4, 1e-6, 1e-8):
        logits = np.array([[way, 0.0]], np.float32)
        aims = {
            DistributionKind.LOGITS: [[3.0, 3.0]],
            DistributionKind.PROBABILITIES: [[0.5, 0.5]],
        }
        if kind not in aims:
            continue  # log(1/2) is rounded, by more than the divergence
        exact = float(logits[0, 0]) ** 2 / 8
        result = run(
            engine, "kl_divergence", {"target_kind": kind}, logits, aims[kind], dtype=np.float32
        )
        assert_equal(values(result), [exact])
        derivative = float(logits[0, 0]) / 4
        assert_equal(result.gradients["predictions"], [[derivative, -derivative]])


@pytest.mark.parametrize("distance", [1e-3, 0.1, 0.3, 0.5, 0.7, 1.0, 3.0, 20.0])
@pytest.mark.parametrize(
    "kind", [DistributionKind.PROBABILITIES, DistributionKind.LOG_PROBABILITIES]
)
def test_a_divergence_keeps_its_digits_at_any_distance(
    engine: Engine, kind: DistributionKind, distance: float
) -> None:
    """Rows on both sides of where float32 is enough, against the definition in long double."""
    rng = np.random.default_rng(9)
    logits = rng.normal(0, 2, (40, 300)).astype(np.float32)
    logs = logits + distance * rng.normal(0, 1, logits.shape)
    logs -= np.log(np.exp(logs).sum(axis=-1, keepdims=True))
    is_log = kind is DistributionKind.LOG_PROBABILITIES
    targets = np.minimum(logs if is_log else np.exp(logs), 0 if is_log else 1).astype(np.float32)
    result = run(engine, "kl_divergence", {"target_kind": kind}, logits, targets, dtype=np.float32)
    x, p = logits.astype(np.longdouble), targets.astype(np.longdouble)
    log_p, p = (p, np.exp(p)) if is_log else (np.log(np.where(p > 0, p, 1)), p)
    log_q = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    q, mass = np.exp(log_q), p.sum(axis=-1, keepdims=True)
    excess = (q - p).sum(axis=-1)
    terms = np.where(p > 0, p * (log_p - log_q), 0) + q - p
    wanted = np.asarray(terms.sum(axis=-1) - excess, np.float64)
    # Rounding the logarithm of a share changes the share, and the sum of all by as much.
    lost = 1e-7 * float((p * abs(log_p)).sum(axis=-1).max()) * (np.sqrt(wanted) if is_log else 0)
    assert (abs(values(result) - wanted) <= 3e-6 * wanted + lost).all()
    slopes = np.asarray(mass * q - p, np.float64)
    # Each is the difference of two that are rounded to float32.
    error = abs(result.gradients["predictions"] - slopes)
    assert (error <= 3e-6 * abs(slopes) + 3e-7 * np.asarray(p + q, np.float64) + 1e-38).all()


def test_a_confident_target_has_a_slope(engine: Engine) -> None:
    """p (1 - p) times what the two logarithms differ by."""
    parameters = {"target_kind": DistributionKind.LOGITS}
    result = run(engine, "kl_divergence", parameters, [[0.0, 0.0]], [[20.0, 0.0]], dtype=np.float32)
    share = np.exp(-20.0) / (1 + np.exp(-20.0)) ** 2
    assert_equal(result.gradients["targets"], [[20 * share, -20 * share]])


@pytest.mark.parametrize("logit", [1e-30, 1e-8, 1e-4, 0.5])
@pytest.mark.parametrize("dtype", FLOATS)
def test_smoothing_of_everything_pulls_to_zero(engine: Engine, dtype: type, logit: float) -> None:
    """sigmoid(x) - 1/2, which is tanh(x / 2) / 2, and the same of two classes."""
    logit = float(np.float32(logit))
    derivative = np.tanh(logit / 2) / 2
    smoothed = {"label_smoothing": 1.0}
    for target in (0.0, 1.0):
        result = run(engine, "binary_cross_entropy", smoothed, [logit], [target], dtype=dtype)
        assert_equal(result.gradients["predictions"], [derivative])
    for labels in ([0], [1], [[0.25, 0.75]]):
        result = run(engine, "cross_entropy", smoothed, [[logit, 0.0]], labels, dtype=dtype)
        assert_equal(result.gradients["predictions"], [[derivative, -derivative]])
    result = run(engine, "cross_entropy", {}, [[logit, 0.0]], [[0.5, 0.5]], dtype=dtype)
    assert_equal(result.gradients["predictions"], [[derivative, -derivative]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_share_that_is_nearly_one_leaves_the_rest(engine: Engine, dtype: type) -> None:
    rest = 2.0**-40
    result = run(engine, "quantile", {"quantile": 1 - rest}, [3.0], [1.0], dtype=dtype)
    assert_equal(values(result), [2 * rest])
    result = run(
        engine, "binary_cross_entropy", {"label_smoothing": rest}, [50.0], [1.0], dtype=dtype
    )
    assert_equal(values(result), [25 * rest + np.exp(-50)])
    parameters = {"alpha": 1 - rest, "gamma": 0.0}
    result = run(engine, "focal", parameters, [0.0], [0.0], dtype=dtype)
    assert_equal(values(result), [rest * np.log(2)])


def test_a_divergence_of_logits_knows_no_common_part(engine: Engine) -> None:
    """Logits of 3e38 would swallow those of 1; only how far those of a row are apart counts.

    The first target is [0, 1/2, 1/2], against a prediction that is sure of the last class.
    """
    far = -np.log(2) + 32.25 / 2
    cases = (
        ([-366.5, -4.5, 27.75], [0.0, 3e38, 3e38], far, [0, -0.5, 0.5]),
        ([-366.5, -4.5, 27.75], [-np.inf, 1e30, 1e30], far, [0, -0.5, 0.5]),
        ([1e30, 1e30], [0.0, np.log(3)], 0.75 * np.log(3) - np.log(2), [0.25, -0.25]),
    )
    for logits, aims, value, slopes in cases:
        result = run(engine, "kl_divergence", AIMS_OF_LOGITS, [logits], [aims])
        assert_equal(values(result), [value], 1e-12)
        np.testing.assert_allclose(result.gradients["predictions"], [slopes], 1e-12, 1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_infinite_z_loss_leaves_the_other_classes_alone(engine: Engine, dtype: type) -> None:
    """Its slope is infinite at the class that has everything, and nothing times it elsewhere."""
    logits = [[-1e30, 1e30, -1e30]]
    parameters = {"temperature": 1e-20 if dtype is np.float32 else 1e-200, "z_loss": 1.0}
    for targets, pull in ((np.array([0]), -1.0), ([[0.25, 0.5, 0.25]], -0.25)):
        result = run(engine, "cross_entropy", parameters, logits, targets, dtype=dtype)
        found = result.gradients["predictions"][0] * parameters["temperature"]
        assert values(result) == np.inf
        assert found[1] == np.inf
        assert_equal(found[0], pull)
        assert np.isfinite(found[2])


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_beyond_the_type_inside_is_no_nan(engine: Engine, dtype: type) -> None:
    largest = float(np.finfo(dtype).max)
    counts = {"log_input": False, "full": True}
    result = run(engine, "poisson_nll", counts, [5.0, 2e7, 1.0], [largest] * 3, dtype=dtype)
    assert values(result).tolist() == [np.inf] * 3
    # r^2 / v is infinite, and half of (r / v)^2 is not.
    variance = float(np.nextafter(dtype(2 * np.sqrt(largest)), dtype(np.inf)))
    result = run(engine, "gaussian_nll", {}, [0.0], [largest], [variance], dtype=dtype)
    assert_equal(result.gradients["variances"], [-((largest / variance) ** 2) / 2])
    numbers = {"objective": PreferenceObjective.DISCOPOP, "beta": 1e3, "temperature": 1e10}
    result = run(engine, "preference", numbers, [-604.0], [-2.0], [-3.0], [-994.0], dtype=dtype)
    assert result.gradients["chosen_log_probabilities"] == -np.inf
    assert result.gradients["rejected_log_probabilities"] == np.inf


@pytest.mark.parametrize("dtype", FLOATS)
def test_focal_by_targets_is_finite_where_its_terms_overflow(engine: Engine, dtype: type) -> None:
    """Of a logit x far below 0 the cost is t |x| and the doubt t, so the value is t^3 |x|."""
    targets, size = np.array([0.25, 0.5, 0.75]), float(np.finfo(dtype).max) / 2
    slopes = 3 * targets**2 * size
    result = run(engine, "focal", {}, [-size] * 3, targets, dtype=dtype)
    assert_equal(result.gradients["targets"], slopes)
    result = run(engine, "focal", {}, [size] * 3, 1 - targets, dtype=dtype)
    assert_equal(result.gradients["targets"], -slopes)


IMPOSSIBLE = [
    # The likeliest class of the target, another one, two of them, one that nobody expects, and the
    # only one.
    ([0.0, 1.0, 0.5], [1], [-1.0, np.inf, -1.0]),
    ([2.0, 1.0, 0.5], [2], [-1.0, -1.0, np.inf]),
    ([2.0, 1.0, 0.5], [0, 2], [np.inf, -1.0, np.inf]),
    ([2.0, -np.inf, 0.5], [0, 1], [np.inf, 0.0, -1.0]),
    ([-np.inf, 1.0, -np.inf], [1], [0.0, 0.0, 0.0]),
    ([-np.inf, 1.0, -np.inf], [0, 1], [0.0, 0.0, 0.0]),
]


@pytest.mark.parametrize("kind", list(DistributionKind))
@pytest.mark.parametrize(("aims", "impossible", "signs"), IMPOSSIBLE)
@pytest.mark.parametrize("dtype", FLOATS)
def test_kl_by_the_logits_of_a_target_of_impossible_classes_has_its_limit(  # noqa: PLR0917 - a table
    engine: Engine,
    dtype: type,
    aims: list[float],
    impossible: list[int],
    signs: list[float],
    kind: DistributionKind,
) -> None:
    """It is p (log(p / q) - value), of which both infinities made NaN."""
    given = np.log([0.2, 0.3, 0.5])
    given[impossible] = -np.inf
    if kind is DistributionKind.PROBABILITIES:
        given = np.exp(given)
    parameters = {"prediction_kind": kind, **AIMS_OF_LOGITS}
    result = run(engine, "kl_divergence", parameters, [given], [aims], dtype=dtype)
    assert values(result) == np.inf
    expected = [sign * np.inf if sign else 0.0 for sign in signs]
    np.testing.assert_array_equal(result.gradients["targets"], [expected])


@pytest.mark.parametrize("kind", list(DistributionKind))
def test_kl_of_an_impossible_class_still_shows_a_nan(
    engine: Engine, kind: DistributionKind
) -> None:
    parameters = {"prediction_kind": kind, **AIMS_OF_LOGITS}
    empty = 0.0 if kind is DistributionKind.PROBABILITIES else -np.inf
    result = run(engine, "kl_divergence", parameters, [[np.nan, empty, 0.0]], [[1.0, 2.0, 0.5]])
    assert np.isnan(values(result)).all()
    assert np.isnan(result.gradients["targets"]).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_linear_cost_keeps_its_slope_at_infinite_scores(engine: Engine, dtype: type) -> None:
    scores = [np.inf, -np.inf, np.nan, 1.0]
    for name, side, slope in (
        ("generator_loss", "fake", -1), ("discriminator_loss", "fake", 1),
        ("discriminator_loss", "real", -1),
    ):  # fmt: skip
        given = {"objective": GanObjective.WASSERSTEIN}
        sides = [scores] if name == "generator_loss" else [scores, scores]
        result = run(engine, name, given, *sides, dtype=dtype)
        expected = [slope, slope, np.nan, slope]
        np.testing.assert_array_equal(result.gradients[side], expected)
