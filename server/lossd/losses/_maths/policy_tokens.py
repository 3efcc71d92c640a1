"""Tokens under several policies, and the ratios of their probabilities."""

import enum
from dataclasses import dataclass

import numpy as np

from lossd.losses._maths.tokens import Tokens
from lossd.schema import Array


class PolicyRatio(enum.Enum):
    """Of what the ratio to the sampling policy is taken."""

    NONE = "of nothing: it is 1"
    TOKEN = "of each token"  # noqa: S105 - of text
    SEQUENCE = "of the sequence: the geometric mean of its tokens' ratios, with its own derivative"
    SEQUENCE_TOKEN = "the same number, whose derivative goes to each token by itself"  # noqa: S105 - of text


@dataclass(frozen=True, slots=True)
class PolicyTokens:
    """Log-probabilities under all policies but the reference, advantages and ratios of tokens."""

    logs: Array
    sampling: Array | None
    rollout: Array | None
    advantages: Array
    ratios: Array

    @property
    def sampled(self) -> Array:
        """The log-probabilities of the sampling policy, where there must be one."""
        if self.sampling is None:
            raise TypeError("there must be a sampling policy")
        return self.sampling


def log_ratio(ratio: PolicyRatio, given: Array, sampling: Array | None, tokens: Tokens) -> Array:
    """Returns the logarithm of each token's ratio."""
    if ratio is PolicyRatio.NONE or sampling is None:
        return np.zeros(len(given))
    apart = given - sampling
    return apart if ratio is PolicyRatio.TOKEN else tokens.spread(tokens.means(apart))
