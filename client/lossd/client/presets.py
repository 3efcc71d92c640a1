"""Losses under the names of papers and libraries, as messages: each function returns one.

The same name gives different gradients in different places, so a function names its source and
version, has its numbers as defaults, and takes others.  ``docs/presets.md`` is written from here.
A normalizer, where one is named, is the caller's to give to ``compute``: no number that a library
takes from the whole batch of all workers is guessed here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from lossd import v1

Cispo = Literal["minimax", "tinker", "trl", "skyrl-jax", "skyrl-train", "tuft"]
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
    """The term of GRPO, or none."""
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

    Source: J. Schulman et al., Proximal policy optimization algorithms, 2017, eq. 7 and table 3.
    """
    return _clipped(v1.POLICY_RATIO_TOKEN, v1.TOKEN_AGGREGATION_TOKEN_MEAN, epsilon, epsilon)


def dual_clip_ppo(*, epsilon: float = 0.2, dual_clip: float = 3.0) -> v1.PolicyGradient:
    """Returns PPO with a bound on what a negative advantage costs, the mean over tokens.

    Source: D. Ye et al., Mastering complex control in MOBA games with deep reinforcement learning,
    2020, eq. 5 and section 4.1.
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

    Source: Z. Shao et al., DeepSeekMath, 2024, eq. 3 and 4, section 4.2 (0.04).  TRL 1.9.0 with
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

    Source: Z. Liu et al., Understanding R1-Zero-like training, 2025, listing 1; TRL 1.9.0,
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


# The lowest and the highest ratio, and how tokens are aggregated.
_CISPO: Mapping[str, tuple[float, float, v1.TokenAggregation]] = MappingProxyType(
    {
        "tinker": (0.0, 4.0, v1.TOKEN_AGGREGATION_SUM),
        "trl": (0.0, 5.0, v1.TOKEN_AGGREGATION_TOKEN_MEAN),
        "skyrl-jax": (0.8, 1.2, v1.TOKEN_AGGREGATION_SUM),
        "skyrl-train": (0.0, 5.0, v1.TOKEN_AGGREGATION_TOKEN_MEAN),
        "tuft": (0.9, 1.1, v1.TOKEN_AGGREGATION_SUM),
    }
)


def cispo(dialect: Cispo, *, high: float | None = None) -> v1.PolicyGradient:
    """Returns CISPO: the clipped ratio, held constant, times the log-probability.

    Source: MiniMax, MiniMax-M1, 2025, eq. 4 ("minimax", whose bound the paper does not tell: give
    ``high``; there is none below); Tinker's as in miles of 2026 ([0, 4]); TRL 1.9.0, whose
    documentation recommends 5; SkyRL of 2026-08, its JAX backend ([0.8, 1.2]) and its train backend
    ([0, 5]); TuFT of 2026-08 ([0.9, 1.1]).  Those that add up tokens go with ``reduction="sum"``.
    """
    if dialect == "minimax":
        if high is None:
            raise ValueError("high must be given with minimax, got nothing")
        bounds = (0.0, high, v1.TOKEN_AGGREGATION_TOKEN_MEAN)
    else:
        bounds = _CISPO[dialect]
    low, most, aggregation = bounds
    return _policy(
        v1.POLICY_OBJECTIVE_CISPO,
        v1.POLICY_RATIO_TOKEN,
        aggregation,
        clip_low=low,
        clip_high=most if high is None else high,
    )


def sapo(*, positive: float = 1.0, negative: float = 1.05) -> v1.PolicyGradient:
    """Returns SAPO: a soft gate of the ratio, the mean over sequences of means over tokens.

    Source: C. Gao et al., Soft adaptive policy optimization, 2025, eq. 5 and 6; TRL 1.9.0.
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

    Source: P. H. Richemond et al., Offline regularised reinforcement learning, 2024, eq. 6, of
    tokens as in miles (0.05) and TuFT (0.01) of 2026-08.
    """
    beta = {"miles": 0.05, "tuft": 0.01}[dialect]
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
    """
    objective = {"tv": v1.POLICY_OBJECTIVE_DPPO_TV, "kl": v1.POLICY_OBJECTIVE_DPPO_KL}[divergence]
    return _policy(
        objective,
        v1.POLICY_RATIO_TOKEN,
        v1.TOKEN_AGGREGATION_TOKEN_MEAN,
        divergence_threshold=threshold,
    )


# ------------------------------------------------------------------ preferences


def dpo(*, beta: float = 0.1, label_smoothing: float = 0.0) -> v1.Preference:
    """Returns DPO, with label smoothing cDPO.

    Source: R. Rafailov et al., Direct preference optimization, 2023, eq. 7 and appendix B; TRL
    1.9.0, ``loss_type="sigmoid"``, which has no label smoothing there.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_SIGMOID, beta=beta, label_smoothing=label_smoothing
    )


def ipo(*, tau: float = 0.1, dialect: Literal["paper", "trl"] = "paper") -> v1.Preference:
    """Returns IPO, of sums as the paper's equation, or of means as TRL.

    Source: M. G. Azar et al., 2023, eq. 17; TRL 1.9.0, ``loss_type="ipo"``.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_IPO, beta=tau, average=dialect == "trl")


def slic(*, beta: float = 0.1) -> v1.Preference:
    """Returns the hinge of the difference.

    Source: Y. Zhao et al., SLiC-HF, 2023, with a reference as T. Liu et al., 2023, eq. 9; TRL
    1.9.0, ``loss_type="hinge"``.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_HINGE, beta=beta)


def robust_dpo(*, label_smoothing: float, beta: float = 0.1) -> v1.Preference:
    """Returns robust DPO.

    Source: S. R. Chowdhury et al., Provably robust DPO, 2024, eq. 12; TRL 1.9.0.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_ROBUST, beta=beta, label_smoothing=label_smoothing
    )


def apo(kind: Literal["zero", "down"], *, beta: float = 0.1) -> v1.Preference:
    """Returns APO-zero or APO-down.

    Source: K. D'Oosterlinck et al., Anchored preference optimization, 2024, eq. 7 and 8; TRL 1.9.0.
    """
    objective = {
        "zero": v1.PREFERENCE_OBJECTIVE_APO_ZERO,
        "down": v1.PREFERENCE_OBJECTIVE_APO_DOWN,
    }[kind]
    return v1.Preference(objective=objective, beta=beta)


def exo(*, label_smoothing: float = 1e-3, beta: float = 0.1) -> v1.Preference:
    """Returns EXO-pref of pairs.

    Source: H. Ji et al., Towards efficient exact optimization, 2024, eq. 16; TRL 1.9.0,
    ``loss_type="exo_pair"``.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_EXO, beta=beta, label_smoothing=label_smoothing
    )


def nca(*, beta: float = 0.1) -> v1.Preference:
    """Returns NCA of pairs.

    Source: H. Chen et al., Noise contrastive alignment, 2024; TRL 1.9.0, ``loss_type="nca_pair"``.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_NCA, beta=beta)


def discopop(*, beta: float = 0.05, temperature: float = 0.05) -> v1.Preference:
    """Returns DiscoPOP, the log-ratio modulated loss.

    Source: C. Lu et al., Discovering preference optimization algorithms, 2024, eq. 5 and section 5.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_DISCOPOP, beta=beta, temperature=temperature
    )


def simpo(*, beta: float = 2.0, gamma: float = 1.0) -> v1.Preference:
    """Returns SimPO, of means over tokens and without a reference.

    Source: Y. Meng et al., SimPO, 2024, eq. 6, with numbers in the range of its section 3.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_SIMPO, beta=beta, margin=gamma)


def orpo(*, weight: float = 0.1) -> v1.Preference:
    """Returns ORPO, of means over tokens and without a reference.

    Source: J. Hong et al., ORPO, 2024, eq. 6 and section 5.1; TRL 1.9.0, but that its likelihood is
    the mean over all tokens of the batch.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_ORPO, beta=weight)


def cpo(*, beta: float = 0.1, likelihood_weight: float = 1.0) -> v1.Preference:
    """Returns CPO, of sums and without a reference.

    Source: H. Xu et al., Contrastive preference optimization, 2024, eq. 5; TRL 1.9.0, but that its
    likelihood is the mean over all tokens of the batch.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_CPO, beta=beta, likelihood_weight=likelihood_weight
    )


def kto(
    *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> v1.KahnemanTversky:
    """Returns KTO; its baseline is that of the mismatched answers which are given.

    Source: K. Ethayarajh et al., KTO, 2024, eq. 7 and 8; TRL 1.9.0, ``loss_type="kto"``.
    """
    return v1.KahnemanTversky(
        beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
    )


def bco(*, beta: float = 0.1, shift: float | None = None) -> v1.BinaryClassifierOptimization:
    """Returns BCO, with the shift of the batch unless one is given.

    Source: S. Jung et al., Binary classifier optimization, 2024, eq. 8.  TRL 1.9.0 takes the
    running mean of all rewards as shift, which is to be given.
    """
    return v1.BinaryClassifierOptimization(beta=beta, shift=shift)


# ------------------------------------------------------------------ distillation


def distillation(*, temperature: float = 1.0) -> v1.Distillation:
    """Returns the divergence of the student from the teacher, the mean over tokens.

    Source: G. Hinton et al., Distilling the knowledge in a neural network, 2015, without the factor
    of the squared temperature.
    """
    return v1.Distillation(
        divergence=v1.DISTILLATION_DIVERGENCE_FORWARD_KL,
        support=v1.DISTILLATION_SUPPORT_WHOLE,
        aggregation=v1.TOKEN_AGGREGATION_TOKEN_MEAN,
        temperature=temperature,
    )


def gkd(dialect: Literal["paper", "trl", "interpolated"], *, beta: float = 0.5) -> v1.Distillation:
    """Returns generalized knowledge distillation, in one of its living conventions.

    Source: R. Agarwal et al., On-policy distillation of language models, 2024, eq. 1 ("paper": 0 at
    both ends of beta); TRL 1.9.0 ("trl": the same, but forward KL at 0 and reverse KL at 1, where
    it jumps); ms-swift from 2026-09 ("interpolated": goes steadily from one to the other).
    """
    message = v1.Distillation(
        divergence=v1.DISTILLATION_DIVERGENCE_JENSEN_SHANNON,
        support=v1.DISTILLATION_SUPPORT_WHOLE,
        aggregation=v1.TOKEN_AGGREGATION_TOKEN_MEAN,
        beta=beta,
    )
    if dialect == "interpolated":
        message.divergence = v1.DISTILLATION_DIVERGENCE_INTERPOLATED_JENSEN_SHANNON
    elif dialect == "trl" and beta in {0, 1}:
        ends = v1.DISTILLATION_DIVERGENCE_FORWARD_KL, v1.DISTILLATION_DIVERGENCE_REVERSE_KL
        message.divergence = ends[int(beta)]
        message.ClearField("beta")
    return message
