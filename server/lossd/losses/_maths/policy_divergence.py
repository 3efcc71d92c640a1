"""How far a policy is from its reference, estimated from single tokens."""

import enum

import numpy as np

from lossd.schema import Array, ParameterError


class KlEstimator(enum.Enum):
    """How the divergence from the reference is estimated from one token."""

    NONE = "not at all"
    K1 = "d"
    K2 = "d^2 / 2"
    K3 = "exp(-d) - 1 + d"


def kl_of(
    estimator: KlEstimator, coefficient: float, given: Array, reference: Array | None
) -> tuple[Array, Array] | None:
    """Returns an estimate of each token's divergence, and its derivative; None for no estimator.

    Raises:
        ParameterError: for an estimator without a reference, or the other way round.
    """
    if estimator is KlEstimator.NONE:
        if reference is not None or coefficient:
            what = "reference_log_probabilities" if reference is not None else "kl_coefficient"
            raise ParameterError(
                "kl_estimator", f"kl_estimator must be given with {what}, got NONE"
            )
        return None
    if reference is None:
        raise ParameterError(
            "kl_estimator",
            f"kl_estimator must be NONE without reference_log_probabilities, got {estimator.name}",
        )
    apart = given - reference
    if estimator is KlEstimator.K1:
        return apart, np.ones(len(apart))
    if estimator is KlEstimator.K2:
        return apart * apart / 2, apart
    derivative = -np.expm1(-apart)
    return apart - derivative, derivative
