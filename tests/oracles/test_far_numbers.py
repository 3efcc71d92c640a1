"""Numbers so far from 1 that a product, a sum or an inverse ends, though the result does not.

What is right comes from definitions in 400 digits.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import InvalidRequest
from lossd.losses import LOSSES, Differentiable, DistributionKind, MulticlassHingeVariant
from lossd.losses._maths.divergences import DistillationDivergence, DistillationSupport
from lossd.losses._maths.gan_costs import GanObjective
from lossd.losses._maths.policy import PolicyObjective
from lossd.losses._maths.policy_tokens import PolicyRatio
from lossd.losses._maths.preferences import PreferenceObjective
from lossd.losses._maths.tokens import TokenAggregation
from lossd.losses.pairwise_auc import AucSurrogate
from lossd.reduction import Reduction
from tests.device import is_fake, keeping_small_doubles

FLOATS = [np.float32, np.float64]
INF, NAN = math.inf, math.nan
DIGITS, STEP = 400, "1e-180"


def run(
    engine: Engine, name: str, inputs: Mapping[str, Any], dtype: type = np.float64, **given: Any
) -> Result:
    """The mean, with the gradients of all floats."""
    loss = LOSSES[name]
    arrays = {key: np.asarray(value) for key, value in inputs.items()}
    arrays = {k: a.astype(dtype) if a.dtype.kind == "f" else a for k, a in arrays.items()}
    wanted = tuple(
        i.name
        for i in loss.inputs
        if i.name in arrays
        and i.differentiable is not Differentiable.NO
        and arrays[i.name].dtype.kind == "f"
    )
    weights = given.pop("weights", None)
    job = Job(
        loss=loss,
        parameters=given,
        inputs={key: [array] for key, array in arrays.items()},
        reduction=Reduction.MEAN,
        gradients=wanted,
        weights=None if weights is None else np.asarray(weights),
    )
    with keeping_small_doubles():
        return engine.run(job)


def slopes(
    function: Callable[[list[Any]], Any], at: Sequence[float], step: str = STEP
) -> list[float]:
    """The derivatives of a definition."""
    with mpmath.workdps(DIGITS):
        h, point = mpmath.mpf(step), [mpmath.mpf(x) for x in at]

        def moved(index: int, way: int) -> Any:
            return function([x + way * h * (i == index) for i, x in enumerate(point)])

        return [float((moved(i, 1) - moved(i, -1)) / (2 * h)) for i in range(len(point))]


def of_type(numbers: Sequence[float], dtype: type) -> list[float]:
    """Numbers as they are in a type."""
    return [float(x) for x in np.asarray(numbers, dtype)]


def close(actual: Any, expected: Any, dtype: type = np.float64) -> None:
    tolerance = 3e-6 if dtype is np.float32 else 1e-11
    np.testing.assert_allclose(np.ravel(actual), np.ravel(expected), rtol=tolerance, atol=1e-300)


# ------------------------------------------------------------------ weights

SCORES = {"predictions": [0.3, 0.1, 0.5, -0.2], "targets": [1.0, 0.0, 1.0, 0.0]}
SIDES = {"real": [0.5, 1.0], "fake": [-0.3, 0.2]}
WEIGHTED = [
    ("squared_error", SCORES, {}),
    ("pairwise_auc", SCORES, {}),
    ("pairwise_auc", SCORES, {"surrogate": AucSurrogate.LOGISTIC}),
    ("soft_f1", SCORES, {}),
    ("discriminator_loss", SIDES, {}),
    ("discriminator_loss", SIDES, {"objective": GanObjective.RELATIVISTIC_AVERAGE}),
]


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e-161, 1e-158, 1e160, 1e200, 4e307])
@pytest.mark.parametrize(("name", "inputs", "parameters"), WEIGHTED)
def test_the_size_of_all_weights_means_nothing(
    engine: Engine, name: str, inputs: Any, parameters: Any, size: float
) -> None:
    expected = run(engine, name, inputs, **parameters)
    result = run(engine, name, inputs, weights=np.full(4, size), **parameters)
    assert result.weight_sum == 4 * size
    assert result.loss == pytest.approx(expected.loss, rel=1e-12)
    for key, gradient in expected.gradients.items():
        np.testing.assert_allclose(result.gradients[key], gradient, rtol=1e-12)


@pytest.mark.parametrize(
    "weights",
    [[1e200, 1e-200, 2e200, 3e-200], [1e-170, 1, 2e-170, 3], [1e300, 1e-300, 2e300, 3e-300]],
)
def test_the_weights_of_each_class_of_pairs_may_have_any_size(
    engine: Engine, weights: list[float]
) -> None:
    """A pair weighs what its two examples do."""
    plain = run(engine, "pairwise_auc", SCORES, weights=[1, 1, 2, 3])
    result = run(engine, "pairwise_auc", SCORES, weights=weights)
    assert result.loss == pytest.approx(plain.loss, rel=1e-12)
    np.testing.assert_allclose(
        result.gradients["predictions"], plain.gradients["predictions"], rtol=1e-12
    )


@pytest.mark.parametrize(("name", "inputs", "parameters"), WEIGHTED)
def test_weights_whose_sum_is_infinite_are_refused(
    engine: Engine, name: str, inputs: Any, parameters: Any
) -> None:
    with pytest.raises(InvalidRequest, match="weights must add up to a finite number, got inf"):
        run(engine, name, inputs, weights=np.full(4, 1e308), **parameters)


CLASSES = {"predictions": [[1.0, 2.0], [0.0, 1.0]], "targets": [0, 1]}


def test_class_weights_whose_sum_is_infinite_or_vanishes_are_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="class_weights must add up to a finite number"):
        run(engine, "cross_entropy", CLASSES, class_weights=(1e308, 1e308))
    with pytest.raises(InvalidRequest, match="must add up to more than 0, got 0"):
        run(engine, "cross_entropy", CLASSES, class_weights=(1e-200,) * 2, weights=[1e-200] * 2)


def test_one_side_that_weighs_nothing_beside_the_other_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="ratio is finite, got 2e-310 of 2"):
        run(engine, "discriminator_loss", SIDES, weights=[1e-310, 1e-310, 1, 1])


def test_a_cotangent_of_large_weights_scales_what_they_leave(engine: Engine) -> None:
    loss = LOSSES["squared_error"]
    job = Job(
        loss=loss,
        parameters={},
        inputs={key: [np.asarray(value)] for key, value in SCORES.items()},
        reduction=Reduction.MEAN,
        gradients=("predictions",),
        weights=np.full(4, 1e300),
        cotangent=np.asarray(1e20),
    )
    expected = run(engine, "squared_error", SCORES).gradients["predictions"] * 1e20
    np.testing.assert_allclose(engine.run(job).gradients["predictions"], expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-50, 1e-40, 1e39, 1e50])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["cross_entropy", "softmax_focal"])
def test_class_weights_beyond_the_type_still_average(
    engine: Engine, name: str, dtype: type, size: float
) -> None:
    plain = run(engine, name, CLASSES, dtype, class_weights=(1.0, 3.0))
    result = run(engine, name, CLASSES, dtype, class_weights=(size, 3 * size))
    assert result.loss == pytest.approx(plain.loss, rel=1e-6)
    close(result.gradients["predictions"], plain.gradients["predictions"], np.float32)


@pytest.mark.parametrize("weight", [1e-45, 1e-40, 1e39, 1e50])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_positive_weight_beyond_the_type_meets_its_share(
    engine: Engine, dtype: type, weight: float
) -> None:
    """The share that is missed, 1 - p, is as far on the other side."""
    logit = 60.0 if weight > 1 else -60.0
    (logit,) = of_type([logit], dtype)
    inputs = {"predictions": [logit], "targets": [1.0]}
    result = run(engine, "binary_cross_entropy", inputs, dtype, positive_weights=(weight,))
    with mpmath.workdps(DIGITS):
        miss = mpmath.mpf(weight) * mpmath.log(1 + mpmath.exp(-mpmath.mpf(logit)))
        close(result.loss, float(miss), np.float32)


@pytest.mark.parametrize("answer", [*itertools.product([0.1, -0.3, 0.5], [0.0, 1.0])], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 1e-8, 1e-3, 0.999999])
@pytest.mark.parametrize("weight", [1e-8, 1e-3, 0.999, 1e4])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_positive_weight_of_any_size_keeps_the_digits_of_a_gradient(
    engine: Engine, dtype: type, weight: float, smoothing: float, answer: tuple[float, float]
) -> None:
    logit, target = answer
    inputs = {"predictions": [logit], "targets": [target]}
    given = {"positive_weights": (weight,), "label_smoothing": smoothing}
    (gradient,) = run(engine, "binary_cross_entropy", inputs, dtype, **given).gradients[
        "predictions"
    ]
    (logit, target), (weight,) = of_type([logit, target], dtype), of_type([weight], dtype)
    with mpmath.workdps(DIGITS):
        kept, spread = 1 - mpmath.mpf(smoothing), mpmath.mpf(smoothing) / 2
        yes, no = target * kept + spread, (1 - target) * kept + spread
        share = 1 / (1 + mpmath.exp(-mpmath.mpf(logit)))
        right = no * share - weight * yes * (1 - share)
        # What may be lost is a last digit of the numbers whose difference it is.
        terms = min(no * share + weight * yes * (1 - share), abs(no - weight * yes) + abs(logit))
        assert abs(gradient - right) <= (3e-7 if dtype is np.float32 else 5e-16) * float(terms)


@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", FLOATS)
def test_class_weights_mean_nothing_at_a_small_temperature(
    engine: Engine, dtype: type, size: float
) -> None:
    temperature = 1e-36 if dtype is np.float32 else 1e-300
    inputs = {"predictions": [[20.0, 0.0], [0.0, 0.0]], "targets": [0, 1]}
    given = {"class_weights": (size, size), "temperature": temperature}
    result = run(engine, "cross_entropy", inputs, dtype, **given)
    close(result.gradients["predictions"], [0, 0, 0.25 / temperature, -0.25 / temperature], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_small_z_loss_of_a_large_logit_is_finite(engine: Engine, dtype: type) -> None:
    logit, z_loss = (1e25, 1e-20) if dtype is np.float32 else (1e200, 1e-200)
    inputs = {"predictions": [[logit, 0.0]], "targets": [0]}
    result = run(engine, "cross_entropy", inputs, dtype, z_loss=z_loss)
    close(result.loss, z_loss * logit * logit, dtype)


@pytest.mark.parametrize("strength", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("priors", [(1e308,) * 3, (1e-300, 1e300, 1e300), (1e-300, 1.0, 2.0)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_priors_may_be_counts_of_any_size(
    engine: Engine, dtype: type, priors: tuple[float, ...], strength: float
) -> None:
    def definition(logits: list[Any]) -> Any:
        given = [mpmath.mpf(prior) for prior in priors]
        moved = [
            x + strength * mpmath.log(p / sum(given)) for x, p in zip(logits, given, strict=True)
        ]
        return mpmath.log(sum(map(mpmath.exp, moved))) - moved[0]

    logits = [1.0, 2.0, 3.0]
    inputs = {"predictions": [logits], "targets": [0]}
    result = run(
        engine, "cross_entropy", inputs, dtype, class_priors=priors, prior_strength=strength
    )
    with mpmath.workdps(DIGITS):
        close(result.loss, float(definition([mpmath.mpf(x) for x in logits])), dtype)
    close(result.gradients["predictions"], slopes(definition, logits), dtype)


@pytest.mark.parametrize("smoothing", [0.0, 1e-20])
@pytest.mark.parametrize("dtype", FLOATS)
def test_no_strength_swallows_the_logits_of_the_likeliest_classes(
    engine: Engine, dtype: type, smoothing: float
) -> None:
    inputs = {"predictions": [[1.0, 1.5, 3.0]], "targets": [0]}
    given = {"class_priors": (5.0, 5.0, 3.0), "label_smoothing": smoothing}
    result = run(engine, "cross_entropy", inputs, dtype, prior_strength=1e20, **given)
    # The third class is impossible: its logit is 1e20 log(3 / 5) lower.
    lost = -smoothing / 3 * 1e20 * math.log(3 / 5)
    close(result.loss, math.log1p(math.exp(0.5)) + lost, dtype)
    other = 1 / (1 + math.exp(-0.5))
    close(result.gradients["predictions"], [-other, other, -smoothing / 3], dtype)


# ------------------------------------------------------------------ NaN shows

TOKENS: dict[str, Any] = {"aggregation": TokenAggregation.SUM}
PAIR = {"log_probabilities": [-1.0, -2.0], "reference_log_probabilities": [-1.0, -1.5]}
HIDDEN = [
    (
        "clipped_value",
        {"values": [[1.0]], "old_values": [[NAN]], "returns": [[0.0]]},
        {"clip_range": 0.5, **TOKENS},
    ),
    (
        "clipped_value",
        {"values": [[NAN]], "old_values": [[1.0]], "returns": [[0.0]]},
        {"clip_range": 0.5, **TOKENS},
    ),
    (
        "kahneman_tversky",
        {
            **PAIR,
            "desirable": [1, 0],
            "mismatched_log_probabilities": [NAN, -1.0],
            "mismatched_reference_log_probabilities": [-2.0, -2.0],
        },
        {},
    ),
    (
        "policy_gradient",
        {
            "log_probabilities": [[-2.0]],
            "sampling_log_probabilities": [[-1.0]],
            "advantages": [[NAN]],
        },
        {
            "objective": PolicyObjective.DPPO_TV,
            "ratio": PolicyRatio.TOKEN,
            "divergence_threshold": 0.01,
            **TOKENS,
        },
    ),
    ("lovasz_hinge", {"predictions": [[-INF, INF, NAN]], "targets": [[1, 0, 0]]}, {}),
    ("multiclass_hinge", {"predictions": [[NAN]], "targets": [0]}, {}),
]


@pytest.mark.parametrize(("name", "inputs", "parameters"), HIDDEN)
def test_no_comparison_hides_a_nan(engine: Engine, name: str, inputs: Any, parameters: Any) -> None:
    result = run(engine, name, inputs, **parameters)
    assert result.loss is not None
    assert math.isnan(result.loss)
    assert len(result.nonfinite_examples) == result.example_count
    for gradient in result.gradients.values():
        assert np.isnan(gradient).any()


# ------------------------------------------------------------------ inverses

MIXED = [
    DistillationDivergence.JENSEN_SHANNON,
    DistillationDivergence.INTERPOLATED_JENSEN_SHANNON,
]


def mixed(kind: DistillationDivergence, beta: float, temperature: float, aims: list[float]) -> Any:
    """The definition of a divergence through a mixture, from logits."""

    def shares(logits: list[Any]) -> list[Any]:
        found = [mpmath.exp(mpmath.mpf(x) / temperature) for x in logits]
        return [x / sum(found) for x in found]

    def definition(logits: list[Any]) -> Any:
        s, t, b = shares(logits), shares(aims), mpmath.mpf(beta)
        by_teacher, by_student = (b, 1 - b) if kind is MIXED[0] else (1 - b, b)
        return sum(
            by_teacher * y * mpmath.log(y / (b * y + (1 - b) * x))
            + by_student * x * mpmath.log(x / (b * y + (1 - b) * x))
            for x, y in zip(s, t, strict=True)
        )

    return definition


@pytest.mark.parametrize("beta", [0.5, 0.3])
@pytest.mark.parametrize(
    ("logits", "aims", "temperature"),
    [
        ([0.0, -712.0, -1.0], [0.0, -712.0, -1.5], 1.0),
        ([0.0, -712.0, -1.0], [0.0, -712.5, -1.5], 1.0),
        ([0.0, -1.424, -0.002], [0.0, -1.424, -0.003], 0.002),
    ],
)
@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_share_of_a_tiny_mixture_is_no_inverse(  # noqa: PLR0917 - a table
    engine: Engine,
    dtype: type,
    kind: DistillationDivergence,
    logits: list[float],
    aims: list[float],
    temperature: float,
    beta: float,
) -> None:
    parameters: dict[str, Any] = {
        "support": DistillationSupport.WHOLE,
        "beta": beta,
        "temperature": temperature,
    }
    inputs = {"predictions": [[logits]], "targets": [[aims]]}
    result = run(engine, "distillation", inputs, dtype, divergence=kind, **parameters, **TOKENS)
    given, wanted = of_type(logits, dtype), of_type(aims, dtype)
    expected = slopes(mixed(kind, beta, temperature, wanted), given)
    np.testing.assert_allclose(
        result.gradients["predictions"].ravel(), expected, rtol=1e-6, atol=1e-14 / temperature
    )


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-308, 1.7e308])
@pytest.mark.parametrize("kind", list(DistillationDivergence))
def test_distributions_at_any_temperature_are_some(
    engine: Engine, kind: DistillationDivergence, temperature: float
) -> None:
    """The likeliest class of both is the same, or all are equally likely."""
    beta: dict[str, Any] = {"beta": 0.5} if kind in MIXED else {}
    inputs = {"predictions": [[[1e300, 2.0, 3.0]]], "targets": [[[1e300, 2.0, 2.5]]]}
    result = run(
        engine,
        "distillation",
        inputs,
        divergence=kind,
        support=DistillationSupport.WHOLE,
        temperature=temperature,
        **beta,
        **TOKENS,
    )
    assert result.loss == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(result.gradients["predictions"], 0, atol=1e-15)


KINDS = {"prediction_kind": DistributionKind.PROBABILITIES}
FAINT = [
    ("cross_entropy", {"predictions": [[1e-40, 0.5]], "targets": [[1e-40, 0.0]]}, KINDS, [-1, 0]),
    ("binary_cross_entropy", {"predictions": [[1e-40]], "targets": [[1e-40]]}, KINDS, [0]),
    (
        "kl_divergence",
        {"predictions": [[1e-310, 0.5]], "targets": [[1e-310, 0.5]]},
        {**KINDS, "target_kind": DistributionKind.PROBABILITIES},
        [-1, -1],
    ),
]


@pytest.mark.parametrize(("name", "inputs", "parameters", "expected"), FAINT)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_tiny_probability_over_as_tiny_a_one_is_one(  # noqa: PLR0917 - a table
    engine: Engine, dtype: type, name: str, inputs: Any, parameters: Any, expected: list[float]
) -> None:
    """A derivative with respect to a probability is what is wanted of it over it."""
    if dtype is np.float32 and engine.backend.name == "cupy" and not is_fake():
        pytest.skip("a GPU takes a number of float32 below 1e-38 for 0, as CuPy asks it to")
    if dtype is np.float32 and name == "kl_divergence":
        inputs = {key: [[1e-40, 0.5]] for key in inputs}
    found = run(engine, name, inputs, dtype, **parameters).gradients["predictions"]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ certainty, and the like

CHOSEN, REJECTED = "chosen_log_probabilities", "rejected_log_probabilities"


@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("other", [-1e-3, -1.0, -50.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_odds_of_a_certain_answer(engine: Engine, dtype: type, other: float, beta: float) -> None:
    """Certainty is what log-probabilities near 0 go to."""

    def definition(given: list[Any]) -> Any:
        c, r = given
        odds = c - r - mpmath.log(1 - mpmath.exp(c)) + mpmath.log(1 - mpmath.exp(r))
        return -c + beta * mpmath.log(1 + mpmath.exp(-odds))

    def gradients(chosen: float, rejected: float) -> list[float]:
        pair = {CHOSEN: [[chosen]], REJECTED: [[rejected]]}
        parameters: dict[str, Any] = {"objective": PreferenceObjective.ORPO, "beta": beta}
        found = run(engine, "preference", pair, dtype, **parameters).gradients
        return [found[CHOSEN].item(), found[REJECTED].item()]

    (other,) = of_type([other], dtype)
    by_chosen, by_rejected = slopes(definition, [-1e-160, other], "1e-250")
    found = gradients(0.0, other)
    close(found[0], by_chosen, dtype)
    assert abs(by_rejected) < 1e-150
    assert found[1] == 0
    found = gradients(other, 0.0)
    close(found[0], slopes(definition, [other, -1e-160], "1e-250")[0], dtype)
    assert found[1] == INF


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 0.05, 1.0, 1.7e308])
@pytest.mark.parametrize("apart", [-30.0, -1.0, 1.0, 30.0])
def test_a_mix_of_any_steepness_has_a_slope(
    engine: Engine, apart: float, temperature: float
) -> None:
    def definition(given: list[Any]) -> Any:
        x = given[0] - mpmath.mpf(-40)
        mix = 1 / (1 + mpmath.exp(-x / mpmath.mpf(temperature)))
        return mpmath.log(1 + mpmath.exp(-x)) * (1 - mix) + mpmath.exp(-x) * mix

    zeros: dict[str, Any] = {
        f"{side}_reference_log_probabilities": [[-1.0]] for side in ("chosen", "rejected")
    }
    pair = {CHOSEN: [[-40 + apart]], REJECTED: [[-40.0]], **zeros}
    parameters: dict[str, Any] = {"objective": PreferenceObjective.DISCOPOP, "beta": 1.0}
    result = run(engine, "preference", pair, temperature=temperature, **parameters)
    expected = slopes(definition, [-40 + apart])[0]
    np.testing.assert_allclose(result.gradients[CHOSEN].item(), expected, rtol=1e-11)


@pytest.mark.parametrize("temperature", [5e-324, 1e-310])
def test_a_step_of_a_mix_is_infinitely_steep(engine: Engine, temperature: float) -> None:
    zeros: dict[str, Any] = {
        f"{side}_reference_log_probabilities": [[-1.0]] for side in ("chosen", "rejected")
    }
    pair = {CHOSEN: [[-1.0]], REJECTED: [[-1.0]], **zeros}
    parameters: dict[str, Any] = {"objective": PreferenceObjective.DISCOPOP, "beta": 1.0}
    assert (
        run(engine, "preference", pair, temperature=temperature, **parameters)
        .gradients[CHOSEN]
        .item()
        == INF
    )


# ------------------------------------------------------------------ nothing times infinity


@pytest.mark.parametrize(
    ("scores", "targets", "value"),
    [
        ([0.5, 0.6, -1e160], [1, 0, 0], 0.605),
        ([1e160, 0.5, 0.6], [1, 1, 0], 0.605),
        ([1e308, 0.6, -1.7e308], [1, 0, 0], 0.0),
        ([1.7e308, 7e307, 0.6, -1.7e308, -1e308], [1, 1, 0, 0, 0], 0.0),
    ],
)
def test_an_example_far_on_the_right_side_costs_nothing(
    engine: Engine, scores: list[float], targets: list[int], value: float
) -> None:
    result = run(engine, "pairwise_auc", {"predictions": scores, "targets": targets})
    assert result.loss == pytest.approx(value, rel=1e-12)
    assert np.isfinite(result.gradients["predictions"]).all()


def test_an_infinite_error_that_adds_nothing_to_the_index_costs_nothing(engine: Engine) -> None:
    inputs = {"predictions": [[-INF, INF, 1.0]], "targets": [[1, 0, 0]]}
    result = run(engine, "lovasz_hinge", inputs)
    assert result.loss == INF
    assert result.gradients["predictions"].tolist() == [[-1, 0, 0]]


@pytest.mark.parametrize("variant", list(MulticlassHingeVariant))
@pytest.mark.parametrize("score", [-INF, INF, 2.0])
def test_a_single_class_misses_no_margin_whatever_its_score(
    engine: Engine, score: float, variant: MulticlassHingeVariant
) -> None:
    inputs = {"predictions": [[score]], "targets": [0]}
    result = run(engine, "multiclass_hinge", inputs, variant=variant)
    assert (result.loss, result.gradients["predictions"].item()) == (0, 0)


@pytest.mark.parametrize("alpha", [1e30, 1e200])
@pytest.mark.parametrize("dtype", FLOATS)
def test_an_index_with_a_large_alpha_has_its_slopes(
    engine: Engine, dtype: type, alpha: float
) -> None:
    def definition(given: list[Any]) -> Any:
        (p, q), (s, t) = given[:2], given[2:]
        both, extra, missed = p * s + q * t, p * (1 - s) + q * (1 - t), (1 - p) * s + (1 - q) * t
        return 1 - (both + 1) / (both + mpmath.mpf(alpha) * extra + 0.5 * missed + 1)

    shares, truth = of_type([0.3, 0.6], dtype), [0.0, 1.0]
    parameters: dict[str, Any] = {**KINDS, "alpha": alpha, "beta": 0.5, "smooth": 1.0}
    inputs = {"predictions": [shares], "targets": [truth]}
    found = run(engine, "tversky", inputs, dtype, **parameters).gradients
    expected = slopes(definition, [*shares, *truth])
    if dtype is np.float32 and alpha > 1e40:
        expected = [0.0] * 4  # below what float32 has
    close(found["predictions"], expected[:2], dtype)
    close(found["targets"], expected[2:], dtype)


def test_an_index_that_nothing_can_lower_is_flat(engine: Engine) -> None:
    """The share that counts is beyond the reach of the largest one, which does not."""
    predictions, targets = [[[-1.5, -0.5, -733.0], [-0.3, -1.0, 0.0]]], [[1, 1, 0]]
    result = run(
        engine,
        "tversky",
        {"predictions": predictions, "targets": targets},
        prediction_kind=DistributionKind.LOG_PROBABILITIES,
        alpha=0.0,
        beta=0.0,
        smooth=0.0,
        class_axis=1,
    )
    assert result.loss == 0
    assert result.gradients["predictions"].any() == 0


def test_a_z_loss_near_the_largest_number_is_one(engine: Engine) -> None:
    logits = of_type([1.0, 0.5, -0.3], np.float32)
    inputs = {"predictions": [logits], "targets": [0]}
    result = run(engine, "cross_entropy", inputs, np.float32, z_loss=1e38)
    log_sum = math.log(sum(map(math.exp, logits)))
    assert result.loss == pytest.approx(1e38 * log_sum**2, rel=1e-6)
