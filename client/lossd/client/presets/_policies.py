"""Policy gradients of papers and libraries."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from lossd import v1
from lossd.client.presets._words import chosen

Cispo = Literal["minimax", "tinker", "trl", "verl", "skyrl-jax", "skyrl-train", "tuft"]
Dro = Literal["tuft", "miles"]


def _policy(
    objective: v1.PolicyObjective,
    ratio: v1.PolicyRatio,
    aggregation: v1.TokenAggregation,
    **numbers: Any,
) -> v1.PolicyGradient:
    return v1.PolicyGradient(objective=objective, ratio=ratio, aggregation=aggregation, **numbers)


def _clipped(
    ratio: v1.PolicyRatio,
    aggregation: v1.TokenAggregation,
    low: float,
    high: float,
    **numbers: Any,
) -> v1.PolicyGradient:
    return _policy(
        v1.POLICY_OBJECTIVE_PPO_CLIP,
        ratio,
        aggregation,
        clip_low=1 - low,
        clip_high=1 + high,
        **numbers,
    )


def _kl(coefficient: float) -> dict[str, Any]:
    """Returns the term of GRPO, or none."""
    if not coefficient:
        return {}
    return {"kl_estimator": v1.KL_ESTIMATOR_K3, "kl_coefficient": coefficient}


def reinforce() -> v1.PolicyGradient:
    """Returns REINFORCE, summed over the tokens of a sequence.

    Source: R. J. Williams, 1992.
    """
    return _policy(v1.POLICY_OBJECTIVE_REINFORCE, v1.POLICY_RATIO_NONE, v1.TOKEN_AGGREGATION_SUM)


def importance_sampling() -> v1.PolicyGradient:
    """Returns the ratio times the advantage, summed over tokens; give ``reduction="sum"``.

    Source: Tinker's ``importance_sampling``, documentation of 2026.
    """
    return _policy(
        v1.POLICY_OBJECTIVE_IMPORTANCE_SAMPLING, v1.POLICY_RATIO_TOKEN, v1.TOKEN_AGGREGATION_SUM
    )


def ppo(*, epsilon: float = 0.2) -> v1.PolicyGradient:
    """Returns PPO's clipped objective, the mean over tokens.

    Source: J. Schulman et al., Proximal policy optimization algorithms, 2017, eq. 7 and section 3;
    TRL 1.16.0, ``loss_type="bnpo"``.
    """
    return _clipped(v1.POLICY_RATIO_TOKEN, v1.TOKEN_AGGREGATION_TOKEN_MEAN, epsilon, epsilon)


def dual_clip_ppo(*, epsilon: float = 0.2, dual_clip: float = 3.0) -> v1.PolicyGradient:
    """Returns PPO with a bound on what a negative advantage costs, the mean over tokens.

    Source: D. Ye et al., Mastering complex control in MOBA games with deep reinforcement learning,
    2020; verl 0.9.1, ``loss_mode="vanilla"``, but that it holds log-ratios within 20; TRL 1.16.0
    with a ``delta``.
    """
    return _policy(
        v1.POLICY_OBJECTIVE_DUAL_CLIP,
        v1.POLICY_RATIO_TOKEN,
        v1.TOKEN_AGGREGATION_TOKEN_MEAN,
        clip_low=1 - epsilon,
        clip_high=1 + epsilon,
        dual_clip=dual_clip,
    )


def grpo(*, epsilon: float = 0.2, kl_coefficient: float = 0.04) -> v1.PolicyGradient:
    """Returns GRPO: PPO's objective, the mean over sequences of means over tokens, with k3.

    Source: Z. Shao et al., DeepSeekMath, 2024, eq. 3 and 4, section 4.2 (0.04).  TRL 1.16.0 with
    ``loss_type="grpo"`` is the same with a ``kl_coefficient`` of 0, which is its default.
    """
    return _clipped(
        v1.POLICY_RATIO_TOKEN,
        v1.TOKEN_AGGREGATION_SEQUENCE_MEAN,
        epsilon,
        epsilon,
        **_kl(kl_coefficient),
    )


def dapo(*, low: float = 0.2, high: float = 0.28) -> v1.PolicyGradient:
    """Returns DAPO: unequal bounds, the mean over all tokens, no KL term.

    Source: Q. Yu et al., DAPO, 2025, eq. 8 and section 4.1.  The paper divides by the tokens of
    each prompt's answers; with one prompt, and in TRL and verl, these are all tokens.
    """
    return _clipped(v1.POLICY_RATIO_TOKEN, v1.TOKEN_AGGREGATION_TOKEN_MEAN, low, high)


def dapo_by_prompt(*, low: float = 0.2, high: float = 0.28) -> v1.PolicyGradient:
    """Returns DAPO with the mean over the tokens of each prompt's answers; it takes ``groups``.

    Source: Q. Yu et al., DAPO, 2025, eq. 8.
    """
    return _clipped(v1.POLICY_RATIO_TOKEN, v1.TOKEN_AGGREGATION_GROUP_MEAN, low, high)


def dr_grpo(*, length: float, epsilon: float = 0.2) -> v1.PolicyGradient:
    """Returns Dr. GRPO: the sum over tokens by a constant, the most tokens that are generated.

    Source: Z. Liu et al., Understanding R1-Zero-like training, 2025; TRL 1.16.0,
    ``loss_type="dr_grpo"``.
    """
    return _clipped(
        v1.POLICY_RATIO_TOKEN,
        v1.TOKEN_AGGREGATION_CONSTANT_LENGTH,
        epsilon,
        epsilon,
        sequence_length=length,
    )


def gspo(*, low: float = 3e-4, high: float = 4e-4) -> v1.PolicyGradient:
    """Returns GSPO: the ratio is the sequence's, with its own derivative.

    Source: C. Zheng et al., Group sequence policy optimization, 2025, eq. 5 and section 5.1.
    """
    return _clipped(v1.POLICY_RATIO_SEQUENCE, v1.TOKEN_AGGREGATION_SEQUENCE_MEAN, low, high)


def gspo_token(*, low: float = 3e-4, high: float = 4e-4) -> v1.PolicyGradient:
    """Returns GSPO-token: the sequence's ratio, with a derivative for each token.

    Source: C. Zheng et al., Group sequence policy optimization, 2025, eq. 13 and 14.
    """
    return _clipped(v1.POLICY_RATIO_SEQUENCE_TOKEN, v1.TOKEN_AGGREGATION_SEQUENCE_MEAN, low, high)


def luspo(*, epsilon: float = 0.2) -> v1.PolicyGradient:
    """Returns GSPO with the sum over the tokens of a sequence in place of their mean.

    Source: TRL 1.16.0, ``loss_type="luspo"`` with ``importance_sampling_level="sequence"`` and its
    default ``epsilon``.
    """
    return _clipped(v1.POLICY_RATIO_SEQUENCE, v1.TOKEN_AGGREGATION_SUM, epsilon, epsilon)


# The lowest and the highest ratio, None where it is to be given, and how tokens are aggregated.
_CISPO: Mapping[str, tuple[float, float | None, v1.TokenAggregation]] = MappingProxyType(
    {
        "minimax": (0.0, None, v1.TOKEN_AGGREGATION_TOKEN_MEAN),
        "tinker": (0.0, 4.0, v1.TOKEN_AGGREGATION_SUM),
        "trl": (0.0, 5.0, v1.TOKEN_AGGREGATION_TOKEN_MEAN),
        "verl": (0.8, 1.2, v1.TOKEN_AGGREGATION_TOKEN_MEAN),
        "skyrl-jax": (0.8, 1.2, v1.TOKEN_AGGREGATION_SUM),
        "skyrl-train": (0.0, 5.0, v1.TOKEN_AGGREGATION_TOKEN_MEAN),
        "tuft": (0.9, 1.1, v1.TOKEN_AGGREGATION_SUM),
    }
)


def cispo(dialect: Cispo, *, high: float | None = None) -> v1.PolicyGradient:
    """Returns CISPO: the clipped ratio, held constant, times the log-probability.

    Those that add up tokens go with ``reduction="sum"``.

    Source: "minimax": MiniMax, MiniMax-M1, 2025, which does not tell its upper bound (give
    ``high``) and has no lower one; "tinker": Tinker's as in miles of 2026 ([0, 4]); "trl": TRL
    1.16.0, whose documentation recommends 5; "verl": verl 0.9.1, whose bounds are its
    ``clip_ratio`` ([0.8, 1.2]); "skyrl-jax": SkyRL of 2026-08, its JAX backend ([0.8, 1.2]);
    "skyrl-train": SkyRL of 2026-08, its train backend ([0, 5]); "tuft": TuFT of 2026-08 ([0.9,
    1.1]).

    Raises:
        ValueError: if there is no such dialect, or it has no bound and none is given.
    """
    low, usual, aggregation = chosen("dialect", dialect, _CISPO)
    most = usual if high is None else high
    if most is None:
        raise ValueError(f"high must be given with {dialect}, got nothing")
    return _policy(
        v1.POLICY_OBJECTIVE_CISPO,
        v1.POLICY_RATIO_TOKEN,
        aggregation,
        clip_low=low,
        clip_high=most,
    )


def sapo(*, positive: float = 1.0, negative: float = 1.05) -> v1.PolicyGradient:
    """Returns SAPO: a soft gate of the ratio, the mean over sequences of means over tokens.

    Source: C. Gao et al., Soft adaptive policy optimization, 2025; TRL 1.16.0.
    """
    return _policy(
        v1.POLICY_OBJECTIVE_SAPO,
        v1.POLICY_RATIO_TOKEN,
        v1.TOKEN_AGGREGATION_SEQUENCE_MEAN,
        positive_temperature=positive,
        negative_temperature=negative,
    )


def dro(dialect: Dro) -> v1.PolicyGradient:
    """Returns DRO of tokens: log-probability, less the square of how far it went.

    Source: P. H. Richemond et al., Offline regularised reinforcement learning, 2024, of tokens as
    in "tuft": TuFT of 2026-08 (0.01); "miles": miles of 2026-08 (0.05).

    Raises:
        ValueError: if there is no such dialect.
    """
    beta = chosen("dialect", dialect, {"tuft": 0.01, "miles": 0.05})
    return _policy(
        v1.POLICY_OBJECTIVE_DRO,
        v1.POLICY_RATIO_NONE,
        v1.TOKEN_AGGREGATION_SUM,
        quadratic_coefficient=beta,
    )


def dppo(divergence: Literal["tv", "kl"], *, threshold: float) -> v1.PolicyGradient:
    """Returns DPPO: the ratio of tokens whose probability did not go too far; mean over tokens.

    Source: P. Qi et al., Rethinking the trust region in LLM reinforcement learning, 2026, whose
    threshold depends on the model.

    Raises:
        ValueError: if there is no such divergence.
    """
    known = {"tv": v1.POLICY_OBJECTIVE_DPPO_TV, "kl": v1.POLICY_OBJECTIVE_DPPO_KL}
    return _policy(
        chosen("divergence", divergence, known),
        v1.POLICY_RATIO_TOKEN,
        v1.TOKEN_AGGREGATION_TOKEN_MEAN,
        divergence_threshold=threshold,
    )
