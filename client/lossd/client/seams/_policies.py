"""The inputs that a policy gradient takes beside the two policies and the advantages."""

from collections.abc import Collection, Mapping

from lossd import v1
from lossd.naming import name_of


def taken(loss: v1.PolicyGradient) -> Mapping[str, tuple[str, str]]:
    """Returns the further inputs that a loss takes, each with the parameter and its value."""
    found = {}
    if loss.kl_estimator > v1.KL_ESTIMATOR_NONE:
        value = name_of(v1.KlEstimator.DESCRIPTOR, loss.kl_estimator)
        found["reference_log_probabilities"] = "kl_estimator", value
    if loss.rollout_correction > v1.ROLLOUT_CORRECTION_NONE:
        value = name_of(v1.RolloutCorrection.DESCRIPTOR, loss.rollout_correction)
        found["rollout_log_probabilities"] = "rollout_correction", value
    elif v1.POLICY_GRADIENT_OUTPUT_ROLLOUT_GAP in loss.outputs:
        found["rollout_log_probabilities"] = "outputs", "ROLLOUT_GAP"
    if v1.POLICY_GRADIENT_OUTPUT_ENTROPY in loss.outputs:
        found["entropies"] = "outputs", "ENTROPY"
    return found


def check_taken(loss: v1.PolicyGradient, given: Collection[str], where: str) -> None:
    """Lets pass a loss that takes nothing but what is given.

    Raises:
        ValueError: for one that takes more.
    """
    for name, (parameter, value) in taken(loss).items():
        if name not in given:
            raise ValueError(f"{parameter} must ask for no {name}, which {where}, got {value}")
