"""Objectives of a policy's tokens.

Each is a value of a token and its derivative with respect to the log-probability or to the
logarithm of the ratio; nothing here knows how tokens are aggregated.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from lossd.losses._maths.complements import log_rest
from lossd.losses._maths.masked_products import selected
from lossd.losses._maths.policy_tokens import PolicyRatio, PolicyTokens
from lossd.losses._maths.tokens import Tokens
from lossd.schema import Array, ParameterError, exactly


class PolicyObjective(enum.Enum):
    """Which objective is computed from an advantage and a ratio."""

    REINFORCE = "log-probability"
    IMPORTANCE_SAMPLING = "ratio"
    PPO_CLIP = "the worse of the ratio and the clipped ratio"
    DUAL_CLIP = "the same, bounded where the advantage is negative"
    CISPO = "clipped ratio, held constant, times log-probability"
    SAPO = "a soft gate of the ratio"
    DRO = "log-probability, less the square of how far it went"
    DPPO_TV = "ratio, where the probability is not too far"
    DPPO_KL = "ratio, where the divergence is not too large"


Numbers = Mapping[str, float | None]

# Which numbers an objective takes; they have no default, and no other may be given.
TAKES: Mapping[PolicyObjective, frozenset[str]] = MappingProxyType(
    {
        PolicyObjective.REINFORCE: frozenset(),
        PolicyObjective.IMPORTANCE_SAMPLING: frozenset(),
        PolicyObjective.PPO_CLIP: frozenset({"clip_low", "clip_high"}),
        PolicyObjective.DUAL_CLIP: frozenset({"clip_low", "clip_high", "dual_clip"}),
        PolicyObjective.CISPO: frozenset({"clip_low", "clip_high"}),
        PolicyObjective.SAPO: frozenset({"positive_temperature", "negative_temperature"}),
        PolicyObjective.DRO: frozenset({"quadratic_coefficient"}),
        PolicyObjective.DPPO_TV: frozenset({"divergence_threshold"}),
        PolicyObjective.DPPO_KL: frozenset({"divergence_threshold"}),
    }
)
_WITHOUT_RATIO = (PolicyObjective.REINFORCE, PolicyObjective.DRO)
_BY_TOKEN = (PolicyObjective.DPPO_TV, PolicyObjective.DPPO_KL)


def check_objective(
    objective: PolicyObjective, ratio: PolicyRatio, numbers: Numbers, *, has_sampling: bool
) -> None:
    """Raises ParameterError for a ratio or a number that does not go with the objective."""
    rule = ""
    if (objective in _WITHOUT_RATIO) != (ratio is PolicyRatio.NONE):
        rule = "NONE" if objective in _WITHOUT_RATIO else "another than NONE"
    elif objective in _BY_TOKEN and ratio is not PolicyRatio.TOKEN:
        rule = "TOKEN"
    if rule:
        raise ParameterError(
            "ratio", f"ratio must be {rule} with {objective.name}, got {ratio.name}"
        )
    needs_sampling = ratio is not PolicyRatio.NONE or objective is PolicyObjective.DRO
    if needs_sampling and not has_sampling:
        raise ParameterError(
            "objective",
            f"objective must go with sampling_log_probabilities if it is {objective.name}, "
            "got none",
        )
    for name, number in numbers.items():
        if (name in TAKES[objective]) != (number is not None):
            is_taken = name in TAKES[objective]
            raise ParameterError(
                name,
                f"{name} must be {'given' if is_taken else 'unset'} with {objective.name}, "
                f"got {'nothing' if number is None else exactly(number)}",
            )


@dataclass(frozen=True, slots=True)
class Surrogate:
    """An objective of tokens: its value, its derivative, and which tokens are clipped.

    The derivative is with respect to the logarithm of the ratio, or to the log-probability.
    """

    value: Array
    derivative: Array
    clipped: Array
    is_by_ratio: bool = True

    def weighted(self, weights: Array | None) -> "Surrogate":
        """Returns it with tokens that count so much; None leaves all as they are."""
        if weights is None:
            return self
        value, derivative = (selected(np, weights, x) for x in (self.value, self.derivative))
        return replace(self, value=value, derivative=derivative)

    def of_sequences(self, tokens: Tokens) -> "Surrogate":
        """Returns it by ratios of sequences, of which each token has a part."""
        if not self.is_by_ratio:
            return self
        return replace(self, derivative=tokens.spread(tokens.means(self.derivative)))

    def with_divergence(
        self, divergence: tuple[Array, Array], coefficient: float, weights: Array | None
    ) -> "Surrogate":
        """Returns it with so much of a divergence and its derivative, of tokens with weights."""
        cost, by_log = (coefficient * part for part in divergence)
        if weights is not None:
            cost, by_log = (selected(np, weights, part) for part in (cost, by_log))
        return replace(self, value=self.value + cost, derivative=self.derivative + by_log)


def _taken(numbers: Numbers, *names: str) -> list[float]:
    return [float(number) for name in names if (number := numbers[name]) is not None]


def _none(given: PolicyTokens) -> Array:
    return np.zeros(len(given.logs), np.bool_)


def _reinforce(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    del numbers
    value = -selected(np, given.advantages, given.logs)
    return Surrogate(value, -given.advantages, _none(given), is_by_ratio=False)


def _importance_sampling(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    del numbers
    value = -selected(np, given.advantages, given.ratios)
    return Surrogate(value, value, _none(given))


def _ppo_clip(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    low, high = _taken(numbers, "clip_low", "clip_high")
    return _clipped(given, low, high, np.inf)


def _dual_clip(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    return _clipped(given, *_taken(numbers, "clip_low", "clip_high", "dual_clip"))


def _clipped(given: PolicyTokens, low: float, high: float, most: float) -> Surrogate:
    """Returns the worse of r A and clip(r) A: the smaller ratio of a gain, the larger of a cost."""
    ratios, advantages = given.ratios, given.advantages
    is_gain = advantages > 0
    ceiling = np.where(is_gain, high, most)
    floor = np.where(is_gain, -np.inf, low)
    outside = ((ratios > ceiling) | (ratios < floor)) & (advantages != 0)
    value = -selected(np, advantages, np.minimum(np.maximum(ratios, floor), ceiling))
    derivative = np.where(outside, 0, -selected(np, advantages, ratios))
    return Surrogate(value, derivative, outside)


def _cispo(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    low, high = _taken(numbers, "clip_low", "clip_high")
    shares = np.clip(given.ratios, low, high) * given.advantages
    value = -selected(np, shares, given.logs)
    outside = (given.ratios < low) | (given.ratios > high)
    return Surrogate(value, -shares, outside, is_by_ratio=False)


def _sapo(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    positive, negative = _taken(numbers, "positive_temperature", "negative_temperature")
    heat = np.where(given.advantages > 0, positive, negative)
    tail = np.exp(-abs(heat * (given.ratios - 1)))
    gate = np.where(given.ratios >= 1, 1, tail) / (1 + tail)
    value = -selected(np, given.advantages, gate * (4 / heat))
    bell = 4 * tail / (1 + tail) ** 2
    # Where the ratio overflows, the bell is 0 long before.
    derivative = -selected(np, given.advantages, selected(np, bell, given.ratios))
    return Surrogate(value, derivative, _none(given))


def _dro(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    (coefficient,) = _taken(numbers, "quadratic_coefficient")
    apart = given.logs - given.sampled
    value = -selected(np, given.advantages, given.logs)
    if coefficient:
        value = value + coefficient * apart * apart / 2
    derivative = -given.advantages + (coefficient * apart if coefficient else 0)
    return Surrogate(value, derivative, _none(given), is_by_ratio=False)


def _within(given: PolicyTokens, divergence: Array, numbers: Numbers) -> Surrogate:
    """Returns the ratio, of tokens that did not go too far in the direction of their advantage."""
    (most,) = _taken(numbers, "divergence_threshold")
    apart = given.logs - given.sampled
    advantages = given.advantages
    ahead = ((advantages > 0) & (apart > 0)) | ((advantages < 0) & (apart < 0))  # none is NaN
    outside = ahead & (divergence > most)
    value = np.where(outside, 0, -selected(np, given.advantages, given.ratios))
    return Surrogate(value, value, outside)


def _dppo_tv(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    return _within(given, abs(np.exp(given.logs) - np.exp(given.sampled)), numbers)


def _dppo_kl(given: PolicyTokens, numbers: Numbers) -> Surrogate:
    logs, sampled = given.logs, given.sampled
    of_token = selected(np, np.exp(sampled), sampled - logs)
    of_others = selected(np, -np.expm1(sampled), log_rest(sampled) - log_rest(logs))
    return _within(given, of_token + of_others, numbers)


OBJECTIVES: Mapping[PolicyObjective, Callable[[PolicyTokens, Numbers], Surrogate]] = (
    MappingProxyType(
        {
            PolicyObjective.REINFORCE: _reinforce,
            PolicyObjective.IMPORTANCE_SAMPLING: _importance_sampling,
            PolicyObjective.PPO_CLIP: _ppo_clip,
            PolicyObjective.DUAL_CLIP: _dual_clip,
            PolicyObjective.CISPO: _cispo,
            PolicyObjective.SAPO: _sapo,
            PolicyObjective.DRO: _dro,
            PolicyObjective.DPPO_TV: _dppo_tv,
            PolicyObjective.DPPO_KL: _dppo_kl,
        }
    )
)
