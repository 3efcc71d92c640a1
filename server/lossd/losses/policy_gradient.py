"""Policy gradients of language models, from log-probabilities of tokens."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import Axes, Input
from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.policy import OBJECTIVES, PolicyObjective, check_objective
from lossd.losses._maths.policy_divergence import KlEstimator, kl_of
from lossd.losses._maths.policy_outputs import PolicyGradientOutput, means_of, outputs_of
from lossd.losses._maths.policy_tokens import PolicyRatio, PolicyTokens, log_ratio
from lossd.losses._maths.rollout_correction import RolloutCorrection, rollout_weights
from lossd.losses._maths.tokens import (
    AGGREGATION,
    GROUPS,
    TOKEN_WEIGHTS,
    TokenAggregation,
    Tokens,
    layout_inputs,
)
from lossd.schema import (
    AT_LEAST_1,
    NONNEGATIVE,
    POSITIVE,
    REQUIRED,
    UNIT,
    Array,
    Differentiable,
)

TEXT = """
    const double ways = given_of(positive_temperature, given_of(quadratic_coefficient,
                                                                divergence_threshold));
    const Policy policy{
        int(objective), int(ratio), int(kl_estimator), int(rollout_correction),
        {given_of(clip_low, ways), given_of(clip_high, negative_temperature),
         given_of(dual_clip, unbounded())},
        kl_coefficient, rollout_low, rollout_high};
    value = T(cost_of_sequence(tokens, policy));
"""


def _of_tokens(name: str, description: str) -> Input:
    return Input(name, description, is_optional=True, axes=Axes.TOKENS)


# One sequence of two tokens whose ratios are 2 and 1, and one of one token.
PAIR = {
    "log_probabilities": [[-1.0, -1.0]],
    "sampling_log_probabilities": [[-1.0 - LOG_2, -1.0]],
}
MEAN = {"aggregation": TokenAggregation.TOKEN_MEAN}
SUM = {"aggregation": TokenAggregation.SUM}
PLAIN = {"objective": PolicyObjective.IMPORTANCE_SAMPLING, "ratio": PolicyRatio.TOKEN}
CLIP = {"clip_low": 0.8, "clip_high": 1.25, "ratio": PolicyRatio.TOKEN}


@loss(
    Shape.TOKENS,
    cuda=(CudaText(TEXT),),
    inputs=(
        Input(
            "log_probabilities",
            "log-probability of each token under the policy that is trained",
            differentiable=Differentiable.BY_DEFAULT,
            axes=Axes.TOKENS,
        ),
        _of_tokens(
            "sampling_log_probabilities",
            "the same under the policy that the ratio is taken to; not with the ratio NONE, "
            "unless the objective is DRO",
        ),
        Input(
            "advantages",
            "what each token is worth, or each sequence",
            axes=Axes.EITHER,
        ),
        _of_tokens("reference_log_probabilities", "the same under the reference of the KL term"),
        _of_tokens(
            "rollout_log_probabilities",
            "the same as the sampler computed it, where the trainer computes it otherwise",
        ),
        TOKEN_WEIGHTS,
        *layout_inputs(),
        GROUPS,
        _of_tokens("entropies", "entropy of each token's distribution, for the output alone"),
    ),
    layout=AGGREGATION,
    examples=(
        Example(
            {**PAIR, "advantages": [1.0]},
            parameters={**PLAIN, **MEAN},
            value=-1.5,
            gradients={"log_probabilities": [[-1.0, -0.5]]},
        ),
        # A token of weight 0 is rejected: it still is one of two.
        Example(
            {
                **PAIR,
                "advantages": [1.0],
                "token_weights": [[0.5, 0.0]],
                "entropies": [[1.0, 2.0]],
            },
            parameters={**PLAIN, **MEAN, "outputs": tuple(PolicyGradientOutput)},
            value=-0.5,
            gradients={"log_probabilities": [[-0.5, 0.0]]},
        ),
        Example(
            {"log_probabilities": [[-1.0, -2.0]], "advantages": [[2.0, 0.5]]},
            parameters={
                "objective": PolicyObjective.REINFORCE,
                "ratio": PolicyRatio.NONE,
                **SUM,
            },
            value=3.0,
            gradients={"log_probabilities": [[-2.0, -0.5]]},
        ),
        # The ratio of 2 is clipped to 1.25 where it pays, and not where it costs.
        Example(
            {**PAIR, "advantages": [1.0]},
            parameters={"objective": PolicyObjective.PPO_CLIP, **CLIP, **SUM},
            value=-2.25,
            gradients={"log_probabilities": [[0.0, -1.0]]},
        ),
        Example(
            {**PAIR, "advantages": [-1.0]},
            parameters={"objective": PolicyObjective.PPO_CLIP, **CLIP, **SUM},
            value=3.0,
            gradients={"log_probabilities": [[2.0, 1.0]]},
        ),
        Example(
            {**PAIR, "advantages": [-1.0]},
            parameters={
                "objective": PolicyObjective.DUAL_CLIP,
                "dual_clip": 1.5,
                **CLIP,
                **SUM,
            },
            value=2.5,
            gradients={"log_probabilities": [[0.0, 1.0]]},
        ),
        Example(
            {**PAIR, "advantages": [1.0]},
            parameters={"objective": PolicyObjective.CISPO, **CLIP, **SUM},
            value=2.25,
            gradients={"log_probabilities": [[-1.25, -1.0]]},
        ),
        # At a ratio of 1 the gate is 2 / temperature and the derivative that of importance
        # sampling.
        Example(
            {
                "log_probabilities": [[-1.0]],
                "sampling_log_probabilities": [[-1.0]],
                "advantages": [[1.0]],
            },
            parameters={
                "objective": PolicyObjective.SAPO,
                "ratio": PolicyRatio.TOKEN,
                "positive_temperature": 1.0,
                "negative_temperature": 2.0,
                **SUM,
            },
            value=-2.0,
            gradients={"log_probabilities": [[-1.0]]},
        ),
        Example(
            {
                "log_probabilities": [[-1.0]],
                "sampling_log_probabilities": [[-3.0]],
                "advantages": [[1.0]],
            },
            parameters={
                "objective": PolicyObjective.DRO,
                "ratio": PolicyRatio.NONE,
                "quadratic_coefficient": 0.5,
                **SUM,
            },
            value=2.0,
            gradients={"log_probabilities": [[0.0]]},
        ),
        # Probabilities 1/2 and 1/4: one quarter apart, in the direction of the advantage.
        Example(
            {
                "log_probabilities": [[-LOG_2, -LOG_2]],
                "sampling_log_probabilities": [[-2 * LOG_2, -LOG_2]],
                "advantages": [1.0],
            },
            parameters={
                "objective": PolicyObjective.DPPO_TV,
                "ratio": PolicyRatio.TOKEN,
                "divergence_threshold": 0.2,
                **SUM,
            },
            value=-1.0,
            gradients={"log_probabilities": [[0.0, -1.0]]},
        ),
        Example(
            {
                "log_probabilities": [[-LOG_2, -LOG_2]],
                "sampling_log_probabilities": [[-2 * LOG_2, -LOG_2]],
                "advantages": [1.0],
            },
            parameters={
                "objective": PolicyObjective.DPPO_KL,
                "ratio": PolicyRatio.TOKEN,
                "divergence_threshold": 0.2,
                **SUM,
            },
            value=-3.0,
            gradients={"log_probabilities": [[-2.0, -1.0]]},
        ),
        # The sequence's ratio is the geometric mean, 2.
        Example(
            {
                "log_probabilities": [[-1.0, -1.0]],
                "sampling_log_probabilities": [[-1.0 - 2 * LOG_2, -1.0]],
                "advantages": [[1.0, 3.0]],
            },
            parameters={
                "objective": PolicyObjective.IMPORTANCE_SAMPLING,
                "ratio": PolicyRatio.SEQUENCE,
                "aggregation": TokenAggregation.SEQUENCE_MEAN,
            },
            value=-4.0,
            gradients={"log_probabilities": [[-2.0, -2.0]]},
        ),
        Example(
            {
                "log_probabilities": [[-1.0, -1.0]],
                "sampling_log_probabilities": [[-1.0 - 2 * LOG_2, -1.0]],
                "advantages": [[1.0, 3.0]],
            },
            parameters={
                "objective": PolicyObjective.IMPORTANCE_SAMPLING,
                "ratio": PolicyRatio.SEQUENCE_TOKEN,
                "aggregation": TokenAggregation.SEQUENCE_MEAN,
            },
            value=-4.0,
            gradients={"log_probabilities": [[-1.0, -3.0]]},
        ),
        Example(
            {**PAIR, "advantages": [0.0], "reference_log_probabilities": [[-1.0 - LOG_2, -1.0]]},
            parameters={
                **PLAIN,
                "kl_estimator": KlEstimator.K1,
                "kl_coefficient": 2.0,
                "aggregation": TokenAggregation.CONSTANT_LENGTH,
                "sequence_length": 4.0,
            },
            value=LOG_2 / 2,
            gradients={"log_probabilities": [[0.5, 0.5]]},
        ),
        Example(
            {**PAIR, "advantages": [0.0], "reference_log_probabilities": [[-3.0, -1.0]]},
            parameters={**PLAIN, "kl_estimator": KlEstimator.K2, "kl_coefficient": 0.5, **SUM},
            value=1.0,
            gradients={"log_probabilities": [[1.0, 0.0]]},
        ),
        Example(
            {**PAIR, "advantages": [0.0], "reference_log_probabilities": [[LOG_2 - 1, -1.0]]},
            parameters={**PLAIN, "kl_estimator": KlEstimator.K3, "kl_coefficient": 1.0, **SUM},
            value=1 - LOG_2,
            gradients={"log_probabilities": [[-1.0, 0.0]]},
        ),
        # The sampler was half as sure of each of the two tokens.
        *(
            Example(
                {
                    "log_probabilities": [[-1.0, -1.0]],
                    "sampling_log_probabilities": [[-1.0, -1.0]],
                    "rollout_log_probabilities": [[-1.0 - LOG_2, -1.0 - LOG_2]],
                    "advantages": [1.0],
                },
                parameters={**PLAIN, "rollout_correction": how, **bounds, **SUM},
                value=-2.0 * weight,
                gradients={"log_probabilities": [[-weight, -weight]]},
            )
            for how, bounds, weight in (
                (RolloutCorrection.TOKEN_TRUNCATE, {"rollout_high": 1.5}, 1.5),
                (RolloutCorrection.TOKEN_MASK, {"rollout_low": 0.5, "rollout_high": 2.5}, 2.0),
                (RolloutCorrection.SEQUENCE_TRUNCATE, {"rollout_high": 3.0}, 3.0),
                (RolloutCorrection.SEQUENCE_MASK, {"rollout_low": 0.5, "rollout_high": 3.0}, 0.0),
            )
        ),
        # A group of two sequences, of three tokens together, is one mean.
        Example(
            {
                "log_probabilities": [-1.0, -2.0, -3.0],
                "advantages": [[1.0], [3.0]],
                "offsets": [0, 2, 3],
                "groups": [5, 5],
            },
            parameters={
                "objective": PolicyObjective.REINFORCE,
                "ratio": PolicyRatio.NONE,
                "aggregation": TokenAggregation.GROUP_MEAN,
            },
            value=4.0,
            gradients={"log_probabilities": [-1 / 3, -1 / 3, -1.0]},
        ),
    ),
)
def policy_gradient(  # noqa: PLR0917 - an argument an input
    xp: Any,
    log_probabilities: Array,
    sampling_log_probabilities: Array | None,
    advantages: Array,
    reference_log_probabilities: Array | None,
    rollout_log_probabilities: Array | None,
    token_weights: Array | None,
    entropies: Array | None,
    sides: Mapping[str, Tokens],
    *,
    objective: PolicyObjective = REQUIRED,  # type: ignore[assignment]
    ratio: PolicyRatio = REQUIRED,  # type: ignore[assignment]
    clip_low: Annotated[float | None, UNIT] = None,
    clip_high: Annotated[float | None, AT_LEAST_1] = None,
    dual_clip: Annotated[float | None, AT_LEAST_1] = None,
    positive_temperature: Annotated[float | None, POSITIVE] = None,
    negative_temperature: Annotated[float | None, POSITIVE] = None,
    quadratic_coefficient: Annotated[float | None, NONNEGATIVE] = None,
    divergence_threshold: Annotated[float | None, POSITIVE] = None,
    kl_estimator: KlEstimator = KlEstimator.NONE,
    kl_coefficient: Annotated[float, NONNEGATIVE] = 0.0,
    rollout_correction: RolloutCorrection = RolloutCorrection.NONE,
    rollout_low: Annotated[float | None, UNIT] = None,
    rollout_high: Annotated[float | None, AT_LEAST_1] = None,
    outputs: Sequence[PolicyGradientOutput] = (),
) -> BodyResult:
    """Policy gradient of tokens with an advantage, clipped, gated, or neither.

        value = w p + kl_coefficient k, of each token, then aggregated
        p = -A l                                          REINFORCE
            -r A                                          IMPORTANCE_SAMPLING
            -min(r A, clip(r, low, high) A)               PPO_CLIP
            the same, for A < 0 at most -dual_clip A      DUAL_CLIP
            -sg(clip(r, low, high)) A l                   CISPO
            -(4 / tau) sigmoid(tau (r - 1)) A             SAPO
            -A l + quadratic_coefficient (l - q)^2 / 2    DRO
            -r A, 0 where r went too far in the direction of A, and the divergence
                of the token is above the threshold       DPPO_TV, DPPO_KL
        r = exp(l - q)                of a token          TOKEN
            exp(mean over t of l - q) of a sequence       SEQUENCE, SEQUENCE_TOKEN
        k = d, d^2 / 2, exp(-d) - 1 + d,  d = l - ref     K1, K2, K3
        gradient = w dp/dl + kl_coefficient dk/dl
        dr/dl = r;  r / tokens of the sequence for SEQUENCE;  r by the token itself
                for SEQUENCE_TOKEN

    l, q and ref are the log-probabilities under the trained, the sampling and the reference policy,
    A the advantages, sg stops the gradient.  tau is the positive temperature where A > 0 and else
    the negative one.  The weight w corrects for a sampler whose log-probabilities b differ from q:
    exp(q - b), or of a sequence exp(sum of q - b), at most ``rollout_high`` (TRUNCATE), or 0
    outside [rollout_low, rollout_high] (MASK).  An advantage of 0 and a weight of 0 take nothing,
    also of an infinite ratio.  At a bound itself a ratio is not clipped yet.  The divergence of
    DPPO is |exp(l) - exp(q)|, or the relative entropy of q and l with all other tokens as one.
    ``token_weights`` multiply what a token comes to, with its KL term, and are in no divisor: a
    token of weight 0 is rejected and still counts.  Everything is computed in float64.  A sequence
    without a token that counts has the value 0 and the status EMPTY_TARGET, and counts among the
    sequences unless it is masked.

    Reference: R. J. Williams, 1992; J. Schulman et al., Proximal policy optimization algorithms,
    2017, eq. 7; D. Ye et al., Mastering complex control in MOBA games, 2020 (dual clip);
    Z. Shao et al., DeepSeekMath, 2024, eq. 3 and 4; Q. Yu et al., DAPO, 2025; Z. Liu et al.,
    Understanding R1-Zero-like training, 2025 (constant length); C. Zheng et al., Group sequence
    policy optimization, 2025; MiniMax, MiniMax-M1, 2025 (CISPO); C. Gao et al., Soft
    adaptive policy optimization, 2025; P. H. Richemond et al., Offline regularised reinforcement
    learning, 2024 (DRO); P. Qi et al., Rethinking the trust region in LLM reinforcement learning,
    2026 (DPPO); J. Schulman, Approximating KL divergence, 2020.
    """
    del xp
    tokens, sampling = sides[""], sampling_log_probabilities
    numbers = {
        "clip_low": clip_low, "clip_high": clip_high, "dual_clip": dual_clip,
        "positive_temperature": positive_temperature,
        "negative_temperature": negative_temperature,
        "quadratic_coefficient": quadratic_coefficient,
        "divergence_threshold": divergence_threshold,
    }  # fmt: skip
    check_objective(objective, ratio, numbers, has_sampling=sampling is not None)
    ratios = np.exp(log_ratio(ratio, log_probabilities, sampling, tokens))
    given = PolicyTokens(log_probabilities, sampling, rollout_log_probabilities, advantages, ratios)
    surrogate = OBJECTIVES[objective](given, numbers)
    weights = rollout_weights(rollout_correction, (rollout_low, rollout_high), given, tokens)
    cost = surrogate.weighted(weights).weighted(token_weights)
    if ratio is PolicyRatio.SEQUENCE:
        cost = cost.of_sequences(tokens)
    divergence = kl_of(kl_estimator, kl_coefficient, log_probabilities, reference_log_probabilities)
    if divergence is not None and kl_coefficient:
        cost = cost.with_divergence(divergence, kl_coefficient, token_weights)
    means = means_of(given, surrogate.clipped, divergence, entropies)
    told = outputs_of(outputs, tokens, ratios, means)
    return BodyResult(cost.value, {"log_probabilities": cost.derivative}, outputs=told)
