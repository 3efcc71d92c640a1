"""Weights of tokens that make up for a sampler whose log-probabilities are not the trainer's."""

import enum

import numpy as np

from lossd.losses._maths.policy_tokens import PolicyTokens
from lossd.losses._maths.tokens import Tokens
from lossd.schema import Array, ParameterError, exactly


class RolloutCorrection(enum.Enum):
    """How a sampler is corrected whose log-probabilities differ from the trainer's."""

    NONE = "nothing"
    TOKEN_TRUNCATE = "weight each token, up to a bound"  # noqa: S105 - of text
    TOKEN_MASK = "weight each token, and drop those out of bounds"  # noqa: S105 - of text
    SEQUENCE_TRUNCATE = "weight each sequence, up to a bound"
    SEQUENCE_MASK = "weight each sequence, and drop those out of bounds"


def rollout_weights(
    correction: RolloutCorrection,
    bounds: tuple[float | None, float | None],
    given: PolicyTokens,
    tokens: Tokens,
) -> Array | None:
    """Returns the weight of each token that makes up for its sampler; None for 1.

    Raises:
        ParameterError: for a correction without its log-probabilities or bounds.
    """
    name = correction.name
    masks = name.endswith("MASK")
    wanted = {"rollout_low": masks, "rollout_high": correction is not RolloutCorrection.NONE}
    for (bound, is_wanted), number in zip(wanted.items(), bounds, strict=True):
        if is_wanted != (number is not None):
            raise ParameterError(
                bound,
                f"{bound} must be {'given' if is_wanted else 'unset'} with {name}, "
                f"got {'nothing' if number is None else exactly(number)}",
            )
    if correction is RolloutCorrection.NONE:
        return None
    if given.sampling is None or given.rollout is None:
        missing = "sampling" if given.sampling is None else "rollout"
        raise ParameterError(
            "rollout_correction",
            f"rollout_correction must be NONE without {missing}_log_probabilities, got {name}",
        )
    low, high = bounds[0] or 0.0, bounds[1] or np.inf
    logs = given.sampling - given.rollout
    if name.startswith("SEQUENCE"):
        logs = tokens.spread(tokens.sums(logs))
    weights = np.exp(logs)
    if masks:
        return np.where((weights < low) | (weights > high), 0, weights)
    return np.minimum(weights, high)
