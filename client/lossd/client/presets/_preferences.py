"""Preferences, and desirable answers, of papers and libraries."""

from typing import Literal

from lossd import v1
from lossd.client.presets._words import chosen


def dpo(*, beta: float = 0.1, label_smoothing: float = 0.0) -> v1.Preference:
    """Returns DPO, with label smoothing cDPO.

    Source: R. Rafailov et al., Direct preference optimization, 2023, eq. 7 and appendix B; TRL
    1.16.0, ``loss_type="sigmoid"``, which has no label smoothing there.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_SIGMOID, beta=beta, label_smoothing=label_smoothing
    )


def length_normalized_dpo(*, beta: float = 0.1) -> v1.Preference:
    """Returns DPO of means over tokens.

    Source: TRL 1.16.0, ``loss_type="sigmoid_norm"``.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_SIGMOID, beta=beta, average=True)


def ipo(*, tau: float = 0.1, dialect: Literal["paper", "trl"] = "paper") -> v1.Preference:
    """Returns IPO, of sums as the paper's equation, or of means as TRL.

    Source: "paper": M. G. Azar et al., 2023, eq. 17; "trl": TRL 1.16.0, ``loss_type="ipo"``.

    Raises:
        ValueError: if there is no such dialect.
    """
    average = chosen("dialect", dialect, {"paper": False, "trl": True})
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_IPO, beta=tau, average=average)


def slic(*, beta: float = 0.1) -> v1.Preference:
    """Returns the hinge of the difference.

    Source: Y. Zhao et al., SLiC-HF, 2023, with a reference as T. Liu et al., 2023; TRL 1.16.0,
    ``loss_type="hinge"``.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_HINGE, beta=beta)


def robust_dpo(*, label_smoothing: float, beta: float = 0.1) -> v1.Preference:
    """Returns robust DPO.

    Source: S. R. Chowdhury et al., Provably robust DPO, 2024; TRL 1.16.0.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_ROBUST, beta=beta, label_smoothing=label_smoothing
    )


def apo(kind: Literal["zero", "down"], *, beta: float = 0.1) -> v1.Preference:
    """Returns APO-zero or APO-down.

    Source: K. D'Oosterlinck et al., Anchored preference optimization, 2024, eq. 7 and 8; TRL
    1.16.0.

    Raises:
        ValueError: if there is no such kind.
    """
    kinds = {
        "zero": v1.PREFERENCE_OBJECTIVE_APO_ZERO,
        "down": v1.PREFERENCE_OBJECTIVE_APO_DOWN,
    }
    return v1.Preference(objective=chosen("kind", kind, kinds), beta=beta)


def exo(*, label_smoothing: float = 1e-3, beta: float = 0.1) -> v1.Preference:
    """Returns EXO-pref of pairs.

    Source: H. Ji et al., Towards efficient exact optimization, 2024, eq. 16; TRL 1.16.0,
    ``loss_type="exo_pair"``.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_EXO, beta=beta, label_smoothing=label_smoothing
    )


def nca(*, beta: float = 0.1) -> v1.Preference:
    """Returns NCA of pairs.

    Source: H. Chen et al., Noise contrastive alignment, 2024; TRL 1.16.0,
    ``loss_type="nca_pair"``.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_NCA, beta=beta)


def discopop(*, beta: float = 0.05, temperature: float = 0.05) -> v1.Preference:
    """Returns DiscoPOP, the log-ratio modulated loss.

    Source: C. Lu et al., Discovering preference optimization algorithms, 2024, eq. 5; TRL
    1.16.0, whose ``beta`` is 0.1.
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

    Source: J. Hong et al., ORPO, 2024, eq. 6; TRL 1.16.0, but that its likelihood is the mean over
    all tokens of the batch.
    """
    return v1.Preference(objective=v1.PREFERENCE_OBJECTIVE_ORPO, beta=weight)


def cpo(*, beta: float = 0.1, likelihood_weight: float = 1.0) -> v1.Preference:
    """Returns CPO, of sums and without a reference.

    Source: H. Xu et al., Contrastive preference optimization, 2024; TRL 1.16.0, but that its
    likelihood is the mean over all tokens of the batch.
    """
    return v1.Preference(
        objective=v1.PREFERENCE_OBJECTIVE_CPO, beta=beta, likelihood_weight=likelihood_weight
    )


def kto(
    *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> v1.KahnemanTversky:
    """Returns KTO; its baseline is that of the mismatched answers which are given.

    Source: K. Ethayarajh et al., KTO, 2024, eq. 7; TRL 1.16.0, ``loss_type="kto"``.
    """
    return v1.KahnemanTversky(
        beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight
    )


def bco(*, beta: float = 0.1, shift: float | None = None) -> v1.BinaryClassifierOptimization:
    """Returns BCO, with the shift of the batch unless one is given.

    Source: S. Jung et al., Binary classifier optimization, 2024.  TRL 1.16.0 with
    ``loss_type="bco_pair"`` is the sum over pairs with a ``shift`` of 0.
    """
    return v1.BinaryClassifierOptimization(beta=beta, shift=shift)
