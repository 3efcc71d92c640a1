"""Losses of tokens where they are known to go wrong: extremes, splits, names, conventions."""

import inspect
import itertools
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import ml_dtypes
import numpy as np
import pytest

from lossd import v1
from lossd.backends._host import NO_KERNELS
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.client import presets
from lossd.client.requests import build_request
from lossd.engine import Engine, Result
from lossd.errors import InvalidParameter, InvalidTensor
from lossd.losses import LOSSES, Status
from lossd.losses._maths.divergences import DistillationDivergence as Divergence
from lossd.losses._maths.divergences import DistillationSupport as Support
from lossd.losses._maths.policy import PolicyObjective
from lossd.losses._maths.policy_divergence import KlEstimator
from lossd.losses._maths.policy_outputs import PolicyGradientOutput
from lossd.losses._maths.policy_tokens import PolicyRatio
from lossd.losses._maths.preferences import PreferenceObjective
from lossd.losses._maths.rollout_correction import RolloutCorrection
from lossd.losses._maths.tokens import TokenAggregation
from lossd.losses.distillation import DistillationOutput
from lossd.reduction import Reduction
from lossd.serving.wire.parameters import read_parameters
from lossd.tensors import fill
from tests.conftest import compiled_kernels
from tests.losses.case import Array, looks_of, values

LOSS = "log_probabilities"
TOKEN = {"ratio": PolicyRatio.TOKEN, "aggregation": TokenAggregation.SUM}
CLIP = {"clip_low": 0.8, "clip_high": 1.28}
# Every objective with numbers that it takes.
OBJECTIVES: dict[PolicyObjective, dict[str, Any]] = {
    PolicyObjective.REINFORCE: {"ratio": PolicyRatio.NONE},
    PolicyObjective.IMPORTANCE_SAMPLING: {},
    PolicyObjective.PPO_CLIP: CLIP,
    PolicyObjective.DUAL_CLIP: {**CLIP, "dual_clip": 3.0},
    PolicyObjective.CISPO: CLIP,
    PolicyObjective.SAPO: {"positive_temperature": 1.0, "negative_temperature": 1.05},
    PolicyObjective.DRO: {"ratio": PolicyRatio.NONE, "quadratic_coefficient": 0.05},
    PolicyObjective.DPPO_TV: {"divergence_threshold": 0.1},
    PolicyObjective.DPPO_KL: {"divergence_threshold": 0.1},
}


@pytest.fixture(scope="module", params=["numpy", "compiled"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    kernels = compiled_kernels() if request.param == "compiled" else NO_KERNELS
    made = Engine(NumpyBackend(2, kernels))
    yield made
    made.close()


def run(
    engine: Engine, name: str, parameters: dict[str, Any], inputs: dict[str, Any], **options: Any
) -> Result:
    arrays = {key: [np.asarray(value)] for key, value in inputs.items()}
    return engine.run(Job(loss=LOSSES[name], parameters=parameters, inputs=arrays, **options))


def policy(engine: Engine, inputs: dict[str, Any], **parameters: Any) -> Result:
    return run(engine, "policy_gradient", {**TOKEN, **parameters}, inputs)


def batch(seed: int, rows: int = 24, length: int = 9) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    now = -rng.exponential(1, (rows, length))
    return {
        LOSS: now,
        "sampling_log_probabilities": now + rng.normal(0, 0.3, now.shape),
        "advantages": rng.normal(0, 1, rows),
        "token_mask": rng.random(now.shape) < 0.7,
    }


# ------------------------------------------------------------------ pieces


def large(dtype: Any) -> dict[str, Array]:
    """Returns more tokens than one piece has, some of whose sequences have none."""
    drawn = batch(3, rows=40, length=4096)
    drawn["lengths"] = np.random.default_rng(3).integers(0, 4097, 40)
    drawn[LOSS][7, :100] = np.nan
    return {n: a.astype(dtype) if a.dtype == np.float64 else a for n, a in drawn.items()}


def test_the_number_of_threads_changes_no_bit(engine: Engine) -> None:
    clip = {"objective": PolicyObjective.PPO_CLIP, **CLIP, "ratio": PolicyRatio.SEQUENCE}
    one = Engine(NumpyBackend(1, engine.backend.kernels))  # type: ignore[attr-defined]
    found, wanted = (policy(e, large(np.float32), **clip) for e in (engine, one))
    assert found.per_example is not None
    assert wanted.per_example is not None
    assert found.per_example.tobytes() == wanted.per_example.tobytes()
    assert found.gradients[LOSS].tobytes() == wanted.gradients[LOSS].tobytes()
    assert found.nonfinite_examples.tolist() == wanted.nonfinite_examples.tolist() == [7]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_derivatives_of_sixteen_bits_are_those_of_float64_rounded_once(
    engine: Engine, dtype: Any
) -> None:
    given = large(dtype)
    wide = {n: a if a.dtype.kind in "ib" else a.astype(np.float64) for n, a in given.items()}
    found, wanted = (
        policy(engine, inputs, objective=PolicyObjective.IMPORTANCE_SAMPLING)
        for inputs in (given, wide)
    )
    assert found.gradients[LOSS].dtype == dtype
    right = wanted.gradients[LOSS].astype(dtype)
    np.testing.assert_array_equal(found.gradients[LOSS].view(np.uint16), right.view(np.uint16))
    assert found.nonfinite_examples.tolist() == [7]


# ------------------------------------------------------------------ extremes


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: one.name)
def test_an_advantage_of_zero_takes_nothing_of_an_infinite_ratio(
    engine: Engine, objective: PolicyObjective
) -> None:
    given = {
        LOSS: [[-0.5, -0.5, -np.inf]],
        "sampling_log_probabilities": [[-1e5, -np.inf, -0.5]],
        "advantages": [0.0],
    }
    if objective is PolicyObjective.DRO:
        given[LOSS] = given["sampling_log_probabilities"] = [[-0.5, -1e5, -np.inf]]
        given[LOSS] = [[-0.5, -1e5, -3.0]]
        given["sampling_log_probabilities"] = given[LOSS]
    result = policy(engine, given, objective=objective, **OBJECTIVES[objective])
    assert result.loss == 0
    assert not result.gradients[LOSS].any()
    assert not len(result.nonfinite_examples)


@pytest.mark.parametrize("exponent", [-30, 30])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_ratios_of_thirty_digits_are_right(engine: Engine, exponent: int, sign: float) -> None:
    far = float(exponent * np.log(10))
    given: dict[str, Any] = {
        LOSS: np.array([[-100 + min(far, 0.0)]]),
        "sampling_log_probabilities": np.array([[-100 - max(far, 0.0)]]),
        "advantages": [sign],
    }
    ratio = 10.0**exponent
    clipped = min(max(ratio, 0.8), 1.28)
    expected = {
        PolicyObjective.IMPORTANCE_SAMPLING: -ratio * sign,
        PolicyObjective.PPO_CLIP: -min(ratio * sign, clipped * sign),
        PolicyObjective.DUAL_CLIP: -(min(ratio, 1.28) if sign > 0 else -min(max(ratio, 0.8), 3.0)),
        PolicyObjective.CISPO: -clipped * sign * given[LOSS][0, 0],
        PolicyObjective.SAPO: -(4 / (1.0 if sign > 0 else 1.05))
        / (1 + np.exp(-(1.0 if sign > 0 else 1.05) * min(ratio - 1, 700)))
        * sign,
    }
    for objective, value in expected.items():
        result = policy(engine, given, objective=objective, **OBJECTIVES[objective])
        assert result.loss == pytest.approx(value, rel=1e-12), objective
        assert np.isfinite(result.gradients[LOSS]).all(), objective


def test_a_mask_of_ratios_takes_nothing_of_what_overflows(engine: Engine) -> None:
    given = {
        LOSS: [[-1.0, -1.0]],
        "sampling_log_probabilities": [[-1.0, -1.0]],
        "rollout_log_probabilities": [[-1e4, -1.0]],
        "advantages": [1.0],
    }
    result = policy(
        engine,
        given,
        objective=PolicyObjective.IMPORTANCE_SAMPLING,
        rollout_correction=RolloutCorrection.TOKEN_MASK,
        rollout_low=0.5,
        rollout_high=2.0,
    )
    assert result.loss == -1
    assert result.gradients[LOSS].tolist() == [[0.0, -1.0]]


@pytest.mark.parametrize(
    "objective", [PolicyObjective.PPO_CLIP, PolicyObjective.DUAL_CLIP, PolicyObjective.CISPO]
)
def test_a_ratio_at_a_bound_is_neither_clipped_nor_dropped(
    engine: Engine, objective: PolicyObjective
) -> None:
    logs = [[-1.0, -0.5]] * 2
    names = (LOSS, "sampling_log_probabilities", "rollout_log_probabilities")
    result = policy(
        engine,
        {**dict.fromkeys(names, logs), "advantages": [2.0, -2.0]},
        objective=objective,
        **dict.fromkeys(OBJECTIVES[objective], 1.0),
        rollout_correction=RolloutCorrection.TOKEN_MASK,
        rollout_low=1.0,
        rollout_high=1.0,
        outputs=(PolicyGradientOutput.CLIP_FRACTION,),
    )
    assert result.gradients[LOSS].tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    assert result.outputs["clip_fraction"].tolist() == [0.0, 0.0]


def test_what_the_objective_clips_is_told_apart_from_what_a_correction_drops(
    engine: Engine,
) -> None:
    """Tokens that are neither, clipped, dropped, and both."""
    result = policy(
        engine,
        {
            LOSS: [[-1.0, -1.0, -1.0, -1.0, -1.0]],
            "sampling_log_probabilities": [[-1.0, -3.0, -1.0, -1.0, -3.0]],
            "rollout_log_probabilities": [[-1.0, -3.0, -9.0, -9.0, -9.0]],
            "advantages": [1.0],
        },
        objective=PolicyObjective.PPO_CLIP,
        **CLIP,
        rollout_correction=RolloutCorrection.TOKEN_MASK,
        rollout_low=0.5,
        rollout_high=2.0,
        outputs=(PolicyGradientOutput.CLIP_FRACTION,),
    )
    assert result.gradients[LOSS].tolist() == [[-1.0, 0.0, 0.0, 0.0, 0.0]]
    assert result.outputs["clip_fraction"].tolist() == [pytest.approx(2 / 5)]


@pytest.mark.parametrize("aggregation", TokenAggregation, ids=lambda one: one.name)
def test_sequences_and_groups_without_tokens_are_worth_nothing(
    engine: Engine, aggregation: TokenAggregation
) -> None:
    mask = np.array([[False, False], [False, False], [True, False], [True, True]])
    given = {**batch(1, 4, 2), "token_mask": mask}
    extra: dict[str, Any] = {}
    if aggregation is TokenAggregation.GROUP_MEAN:
        given["groups"] = np.array([7, 7, 8, 9])  # one all masked, one of one token
    if aggregation is TokenAggregation.CONSTANT_LENGTH:
        extra["sequence_length"] = 2.0
    result = policy(
        engine,
        given,
        objective=PolicyObjective.IMPORTANCE_SAMPLING,
        **{**extra, "aggregation": aggregation},
    )
    costs = -np.exp(given[LOSS] - given["sampling_log_probabilities"])
    costs = np.where(mask, costs * given["advantages"][:, None], 0).sum(axis=1)
    expected = {
        TokenAggregation.SUM: costs.sum() / 4,
        TokenAggregation.TOKEN_MEAN: costs.sum() / 3,
        TokenAggregation.SEQUENCE_MEAN: (costs[2] + costs[3] / 2) / 4,
        TokenAggregation.CONSTANT_LENGTH: costs.sum() / 8,
        TokenAggregation.GROUP_MEAN: (costs[2] + costs[3] / 2) / 3,
    }[aggregation]
    assert result.loss == pytest.approx(expected, rel=1e-14)
    assert not result.gradients[LOSS][:2].any()
    assert result.statuses.indices.tolist() == [0, 1]
    assert set(result.statuses.numbers) == {Status.EMPTY_TARGET}


# ------------------------------------------------------------------ one name, many gradients


def test_the_derivative_of_gspo_and_of_gspo_token_are_one_where_advantages_are(
    engine: Engine,
) -> None:
    given, loss = batch(7), LOSSES["policy_gradient"]
    one, other = (
        run(engine, loss.name, read_parameters(loss, made(low=0.1, high=0.1)), given)
        for made in (presets.gspo, presets.gspo_token)
    )
    np.testing.assert_allclose(one.gradients[LOSS], other.gradients[LOSS], rtol=1e-12)


def test_the_same_name_has_five_gradients(engine: Engine) -> None:
    """CISPO of Tinker, TRL, SkyRL and TuFT, of one token whose ratio is 3."""
    given = {
        LOSS: [[-1.0]], "sampling_log_probabilities": [[-1.0 - np.log(3)]], "advantages": [1.0],
    }  # fmt: skip
    loss = LOSSES["policy_gradient"]
    found = {
        dialect: run(
            engine, loss.name, read_parameters(loss, presets.cispo(dialect)), given
        ).gradients[LOSS][0, 0]
        for dialect in ("tinker", "trl", "skyrl-jax", "skyrl-train", "tuft")
    }
    assert found == pytest.approx(
        {"tinker": -3, "trl": -3, "skyrl-jax": -1.2, "skyrl-train": -3, "tuft": -1.1}
    )


# ------------------------------------------------------------------ preferences


@pytest.mark.parametrize("seed", range(3))
def test_preference_optimization_begins_at_the_logarithm_of_two(engine: Engine, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chosen, rejected = -rng.exponential(9, 6), -rng.exponential(9, 6)
    found = run(
        engine,
        "preference",
        {"objective": PreferenceObjective.SIGMOID, "beta": 0.1},
        {
            "chosen_log_probabilities": chosen,
            "rejected_log_probabilities": rejected,
            "chosen_reference_log_probabilities": chosen,
            "rejected_reference_log_probabilities": rejected,
        },
    )
    assert values(found).tolist() == [np.log(2)] * 6


@pytest.mark.parametrize("objective", PreferenceObjective, ids=lambda one: one.name)
@pytest.mark.parametrize("far", [-2000.0, 2000.0])
def test_preferences_of_any_certainty_are_finite(
    engine: Engine, objective: PreferenceObjective, far: float
) -> None:
    free = (PreferenceObjective.SIMPO, PreferenceObjective.ORPO, PreferenceObjective.CPO)
    numbers: dict[PreferenceObjective, dict[str, float]] = {
        PreferenceObjective.EXO: {"label_smoothing": 0.01},
        PreferenceObjective.SIMPO: {"margin": 1.0},
        PreferenceObjective.CPO: {"likelihood_weight": 1.0},
        PreferenceObjective.DISCOPOP: {"temperature": 0.05},
    }
    sums = {
        "chosen_log_probabilities": [-2100.0 + far], "rejected_log_probabilities": [-2100.0],
        "chosen_lengths": [1], "rejected_lengths": [1],
    }  # fmt: skip
    references = {
        "chosen_reference_log_probabilities": [-2100.0],
        "rejected_reference_log_probabilities": [-2100.0],
    }
    given = sums if objective in free else {**sums, **references}
    parameters = {"objective": objective, "beta": 1.0, **numbers.get(objective, {})}
    found = run(engine, "preference", parameters, given)
    is_exponential = objective is PreferenceObjective.DISCOPOP  # it is mixed to exp(-h (1 - 1/tau))
    assert np.isfinite(values(found)).all() or is_exponential
    assert np.isfinite(found.gradients["chosen_log_probabilities"]).all()


# ------------------------------------------------------------------ distillation


def _distil(engine: Engine, student: Array, teacher: Array, **parameters: Any) -> Result:
    return run(
        engine,
        "distillation",
        {
            "support": Support.WHOLE,
            "aggregation": TokenAggregation.TOKEN_MEAN,
            **parameters,
        },
        {"predictions": student, "targets": teacher},
    )


def test_both_conventions_at_the_ends_and_near_them(engine: Engine) -> None:
    rng = np.random.default_rng(8)
    student, teacher = rng.normal(0, 2, (2, 3, 4, 6))

    def of(divergence: Divergence, beta: float | None = None) -> float:
        given = {} if beta is None else {"beta": beta}
        return _distil(engine, student, teacher, divergence=divergence, **given).loss or 0.0

    forward, reverse = of(Divergence.FORWARD_KL), of(Divergence.REVERSE_KL)
    paper, between = Divergence.JENSEN_SHANNON, Divergence.INTERPOLATED_JENSEN_SHANNON
    assert (of(paper, 0.0), of(paper, 1.0)) == pytest.approx((0, 0), abs=1e-15)
    assert of(paper, 1e-9) == pytest.approx(0, abs=1e-7)
    assert (of(between, 0.0), of(between, 1.0)) == (forward, reverse)
    assert of(between, 1e-9) == pytest.approx(forward, rel=1e-6)
    assert of(between, 1 - 1e-9) == pytest.approx(reverse, rel=1e-6)
    assert of(between, 0.5) == pytest.approx(of(paper, 0.5), rel=1e-14)


@pytest.mark.parametrize(
    ("divergence", "whose"),
    [
        (Divergence.FORWARD_KL, "teacher"),
        (Divergence.FORWARD_KL, "student"),
        (Divergence.REVERSE_KL, "teacher"),
        (Divergence.REVERSE_KL, "student"),
        (Divergence.JENSEN_SHANNON, "teacher"),
    ],
)
def test_the_gradient_of_a_tail_bucket_is_nearer_to_the_whole_than_that_of_truncation(
    engine: Engine, divergence: Divergence, whose: str
) -> None:
    """By the cosine over the student's 2,000 logits, from 64 classes of peaked distributions.

    Of Jensen-Shannon over the student's own classes the two are equally near.
    """
    rng = np.random.default_rng(9)
    teacher = 4 * rng.normal(0, 1, (40, 1, 2000))
    student = teacher + rng.normal(0, 1, teacher.shape)
    logs = [x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (student, teacher)]
    top = np.argsort(-(teacher if whose == "teacher" else student), axis=-1)[..., :64]
    some = [np.take_along_axis(x, top, -1) for x in logs]
    numbers: dict[str, Any] = {"divergence": divergence}
    if divergence is Divergence.JENSEN_SHANNON:
        numbers["beta"] = 0.5
    wanted = _distil(engine, *logs, **numbers).gradients["predictions"]

    def cosines(support: Support) -> Array:
        found = np.zeros_like(wanted)
        gradient = _distil(engine, *some, support=support, **numbers).gradients["predictions"]
        np.put_along_axis(found, top, gradient, -1)
        found -= np.exp(logs[0]) * found.sum(-1, keepdims=True)  # back through the softmax
        norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
        near: Array = (found * wanted).sum(-1) / norms
        return near

    tail, truncated = cosines(Support.TAIL_BUCKET), cosines(Support.TRUNCATED)
    assert tail.mean() > 0.99
    assert 1 - tail.mean() < 0.6 * (1 - truncated.mean())
    assert (tail > truncated).mean() > 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_long_sequence_of_classes_is_many_pieces_of_work(dtype: type[np.floating[Any]]) -> None:
    """For threads to share it, and so that it can be stopped on its way."""
    both = np.random.default_rng(0).standard_normal((2, 1, 64, 1 << 14)).astype(dtype)
    parameters = {
        "divergence": Divergence.FORWARD_KL,
        "support": Support.WHOLE,
        "aggregation": TokenAggregation.SUM,
        "outputs": tuple(DistillationOutput),
    }
    inputs = {"predictions": [both[0]], "targets": [both[1]]}
    job = Job(
        loss=LOSSES["distillation"],
        parameters=parameters,
        inputs=inputs,
        reduction=Reduction.SUM,
    )
    engine = Engine(NumpyBackend(2, compiled_kernels()))
    found, looks = engine.run(job), looks_of(engine, job)
    engine.close()
    wide = both.astype(np.longdouble)
    student, teacher = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    expected = (np.exp(teacher) * (teacher - student)).sum()
    slopes = np.exp(student) - np.exp(teacher)
    assert found.loss == pytest.approx(float(expected), rel=1e-12)
    kind = np.finfo(dtype)
    gradient = found.gradients["predictions"].astype(np.float64)
    np.testing.assert_allclose(
        gradient, slopes, rtol=float(kind.eps), atol=float(kind.smallest_subnormal)
    )
    assert [float(found.outputs[name][0]) for name in found.outputs] == pytest.approx([1, 1])
    assert looks >= 4


def test_sixty_four_classes_take_at_most_twelve_bytes_each_on_the_wire() -> None:
    """Eight for student and teacher there, four for the gradient back, and what frames them."""
    tokens, classes = 4096, 64
    logs = np.full((64, tokens // 64, classes), -5, np.float32)
    message = presets.gkd("paper")
    message.support = v1.DISTILLATION_SUPPORT_TAIL_BUCKET
    there = build_request(message, {"predictions": logs, "targets": logs}).serialise()
    back = v1.ComputeLossResponse(loss=1.0)
    fill(back.gradients.add(name="predictions").tensors.add(), logs)
    fill(back.per_example, logs[:, 0, 0])
    entries = tokens * classes
    assert len(there) <= 8 * entries + 512
    assert len(there) + back.ByteSize() <= 12 * entries + 1024


def test_a_student_without_a_tail_is_finite(engine: Engine) -> None:
    found = _distil(
        engine,
        np.log([[[0.75, 0.25]]]),
        np.log([[[0.5, 0.25]]]),
        divergence=Divergence.FORWARD_KL,
        support=Support.TAIL_BUCKET,
    )
    assert np.isfinite(found.loss or np.nan)
    assert np.isfinite(found.gradients["predictions"]).all()
    twice = np.log([[[0.75, 0.75]]])  # the same class given twice
    assert np.isfinite(
        _distil(
            engine, twice, twice, divergence=Divergence.REVERSE_KL, support=Support.TAIL_BUCKET
        ).loss
        or 0
    )


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({}, "objective must be given for PolicyGradient"),
        ({"objective": PolicyObjective.PPO_CLIP}, "clip_low must be given with PPO_CLIP"),
        (
            {"objective": PolicyObjective.PPO_CLIP, "clip_low": 0.2, "clip_high": 0.28},
            "clip_high must be in [1, inf), got 0.28",
        ),
        (
            {"objective": PolicyObjective.IMPORTANCE_SAMPLING, "clip_low": 0.8},
            "clip_low must be unset with IMPORTANCE_SAMPLING, got 0.8",
        ),
        ({"objective": PolicyObjective.REINFORCE}, "ratio must be NONE with REINFORCE, got TOKEN"),
        (
            {"objective": PolicyObjective.IMPORTANCE_SAMPLING, "kl_coefficient": 0.1},
            "kl_estimator must be given with kl_coefficient, got NONE",
        ),
        (
            {"objective": PolicyObjective.IMPORTANCE_SAMPLING, "kl_estimator": KlEstimator.K3},
            "kl_estimator must be NONE without reference_log_probabilities, got K3",
        ),
        (
            {
                "objective": PolicyObjective.IMPORTANCE_SAMPLING,
                "aggregation": TokenAggregation.CONSTANT_LENGTH,
            },
            "sequence_length must be given with CONSTANT_LENGTH, got nothing",
        ),
        (
            {
                "objective": PolicyObjective.IMPORTANCE_SAMPLING,
                "rollout_correction": RolloutCorrection.TOKEN_TRUNCATE,
                "rollout_high": 2.0,
            },
            "rollout_correction must be NONE without rollout_log_probabilities",
        ),
    ],
)
def test_what_an_objective_does_not_say_is_never_guessed(
    engine: Engine, parameters: dict[str, Any], rule: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        policy(engine, batch(1), **parameters)
    assert str(caught.value).startswith(rule)


@pytest.mark.parametrize(
    ("aggregation", "groups", "rule"),
    [
        (TokenAggregation.GROUP_MEAN, {}, "given with GROUP_MEAN, got nothing"),
        (TokenAggregation.SUM, {"groups": np.arange(24)}, "left out with SUM, got some"),
    ],
)
def test_groups_go_with_their_aggregation_alone(
    engine: Engine, aggregation: TokenAggregation, groups: dict[str, Array], rule: str
) -> None:
    plain = {"objective": PolicyObjective.IMPORTANCE_SAMPLING, "aggregation": aggregation}
    with pytest.raises(InvalidTensor, match=f"^groups must be {rule}$"):
        policy(engine, {**batch(1), **groups}, **plain)


def test_as_many_advantages_as_tokens_and_sequences_are_ambiguous(engine: Engine) -> None:
    given = {
        LOSS: [-1.0, -2.0, -3.0], "offsets": [0, 2, 2, 3], "advantages": [1.0, 2.0, 3.0],
    }  # fmt: skip
    plain: dict[str, Any] = {"objective": PolicyObjective.REINFORCE, "ratio": PolicyRatio.NONE}
    with pytest.raises(InvalidTensor, match=r"advantages must have the shape \[3, 1\]"):
        policy(engine, given, **plain)
    found = policy(engine, {**given, "advantages": [[1.0], [2.0], [3.0]]}, **plain)
    assert found.gradients[LOSS].tolist() == pytest.approx([-1 / 3, -1 / 3, -1.0])


def test_every_preset_is_a_message_that_computes(engine: Engine) -> None:
    """Of each the parameters are legal; what it is, the oracles and the table say."""
    given = {"length": 16, "threshold": 0.1, "label_smoothing": 0.1}
    made = [f for n, f in vars(presets).items() if inspect.isfunction(f) and n[0] != "_"]
    assert len(made) >= 28
    for preset in made:
        hints = get_type_hints(preset)
        parameters = inspect.signature(preset).parameters
        choices = [
            [(name, one) for one in get_args(hints[name])]
            for name in parameters
            if get_origin(hints[name]) is Literal
        ]
        for chosen in itertools.product(*choices):
            numbers = {
                name: given[name]
                for name, one in parameters.items()
                if one.default is one.empty and name in given
            }
            high = {"high": 5.0} if "minimax" in dict(chosen).values() else {}
            message = preset(**dict(chosen), **numbers, **high)
            loss = next(x for x in LOSSES.values() if x.message == message.DESCRIPTOR.name)
            loss.complete(read_parameters(loss, message))
            if loss.name == "policy_gradient":
                inputs = batch(2)
                if message.aggregation == 5:
                    inputs["groups"] = np.arange(24) // 4
                if message.kl_estimator:
                    inputs["reference_log_probabilities"] = inputs[LOSS] - 0.1
                found = run(
                    engine,
                    loss.name,
                    read_parameters(loss, message),
                    inputs,
                    reduction=Reduction.SUM,
                )
                assert np.isfinite(found.loss or np.nan), preset
