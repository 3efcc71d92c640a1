"""Costs of the scores of a chosen and a rejected answer, for losses of preferences."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from lossd.losses._inputs import Axes, Input
from lossd.losses._maths.complements import log_rest
from lossd.losses._maths.masked_products import selected
from lossd.losses._maths.sigmoid import sigmoid_cost, softplus
from lossd.losses._maths.tokens import Tokens
from lossd.schema import Array, Differentiable, ParameterError, exactly

LARGEST = np.finfo(np.float64).max


class PreferenceObjective(enum.Enum):
    """Which cost is computed from the scores of a chosen and a rejected answer."""

    SIGMOID = "log-sigmoid of the difference (DPO)"
    IPO = "squared distance of the difference from a half of 1 / beta"
    HINGE = "hinge of the difference (SLiC)"
    ROBUST = "log-sigmoid, freed of the bias of flipped labels"
    APO_ZERO = "chosen up and rejected down"
    APO_DOWN = "chosen down, and rejected more"
    EXO = "divergence of the preference of the policy from that of the label"
    NCA = "noise contrast of each answer with the reference"
    DISCOPOP = "log-sigmoid and exponential, mixed by the difference"
    SIMPO = "log-sigmoid of the difference of means, with a margin and without a reference"
    ORPO = "likelihood, and the log-sigmoid of the odds ratio"
    CPO = "log-sigmoid without a reference, and likelihood"


WITHOUT_REFERENCE = (
    PreferenceObjective.SIMPO, PreferenceObjective.ORPO, PreferenceObjective.CPO,
)  # fmt: skip
# Those whose papers divide log-probabilities by the number of tokens.
AVERAGES = (PreferenceObjective.SIMPO, PreferenceObjective.ORPO)
SMOOTHED = (
    PreferenceObjective.SIGMOID, PreferenceObjective.ROBUST, PreferenceObjective.EXO,
    PreferenceObjective.CPO,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of an objective; those that it does not take are 0."""

    beta: float
    smoothing: float
    margin: float
    likelihood: float
    temperature: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The costs of pairs, and their derivatives with respect to both scores."""

    value: Array
    by_chosen: Array
    by_rejected: Array

    def without(self, pairs: Array) -> "Cost":
        """Returns the costs where some pairs cost nothing."""
        parts = (self.value, self.by_chosen, self.by_rejected)
        return Cost(*(np.where(pairs, 0, part) for part in parts))


def of_log_probabilities(name: str, description: str, side: str, *, is_free: bool = False) -> Input:
    """Returns an input of log-probabilities of tokens, or of their sums."""
    derivative = Differentiable.NO if is_free else Differentiable.BY_DEFAULT
    of_reference = name.startswith("reference_")
    return Input(
        f"{side}{name}",
        description,
        differentiable=derivative,
        is_optional=is_free,
        axes=Axes.TOKENS,
        side=side,
        subtracted_from=f"{side}log_probabilities" if of_reference else "",
    )


REFERENCE = Input(
    "reference_log_probabilities",
    "the same under the reference",
    axes=Axes.TOKENS,
    subtracted_from="log_probabilities",
)


def scores(given: Array, reference: Array | None, tokens: Tokens, *, average: bool) -> Array:
    """Returns the log-probability of each answer, less that of the reference."""
    apart = given if reference is None else given - reference
    found = tokens.sums(apart)
    return found / np.maximum(tokens.counts, 1) if average and tokens.counts is not None else found


def score_slope(derivative: Array, tokens: Tokens, *, average: bool) -> Array:
    """Returns the derivatives with respect to tokens from those with respect to scores."""
    if average and tokens.counts is not None:
        derivative = derivative / np.maximum(tokens.counts, 1)
    return tokens.spread(derivative)


def bell(numbers: Array) -> Array:
    """Returns the derivative of the sigmoid."""
    tail = np.exp(-abs(numbers))
    return tail / (1 + tail) ** 2


def sigmoid(numbers: Array) -> Array:
    return softplus(np, numbers)[1]


def _by_difference(value: Array, derivative: Array) -> Cost:
    return Cost(value, derivative, -derivative)


def _log_sigmoid(difference: Array, no: float) -> tuple[Array, Array]:
    """Returns -(1 - no) log sigmoid(x) - no log sigmoid(-x), and its derivative."""
    weights = (np.full_like(difference, weight) for weight in (1 - no, no, 2 * no - 1))
    positive, negative, apart = weights
    parts = sigmoid_cost(np, difference, positive, negative, apart=apart)
    return parts.value, parts.derivative(np)


def _sigmoid(c: Array, r: Array, n: Numbers) -> Cost:
    value, derivative = _log_sigmoid(n.beta * (c - r) - n.margin, n.smoothing)
    return _by_difference(value, n.beta * derivative)


def _robust(c: Array, r: Array, n: Numbers) -> Cost:
    if n.smoothing >= 0.5:
        raise ParameterError(
            "label_smoothing",
            f"label_smoothing must be below 0.5 with ROBUST, got {exactly(n.smoothing)}",
        )
    against = -n.smoothing / (1 - 2 * n.smoothing)
    value, derivative = _log_sigmoid(n.beta * (c - r), against)
    return _by_difference(value, n.beta * derivative)


def _ipo(c: Array, r: Array, n: Numbers) -> Cost:
    apart = c - r - 1 / (2 * n.beta)
    return _by_difference(apart * apart, 2 * apart)


def _hinge(c: Array, r: Array, n: Numbers) -> Cost:
    short = 1 - n.beta * (c - r)
    slope = np.where(short > 0, -n.beta, 0)
    return _by_difference(np.maximum(short, 0), np.where(np.isnan(short), short, slope))


def _apo_zero(c: Array, r: Array, n: Numbers) -> Cost:
    value = sigmoid(-n.beta * c) + sigmoid(n.beta * r)
    return Cost(value, -n.beta * bell(n.beta * c), n.beta * bell(n.beta * r))


def _apo_down(c: Array, r: Array, n: Numbers) -> Cost:
    difference = n.beta * (c - r)
    value = sigmoid(n.beta * c) + sigmoid(-difference)
    derivative = n.beta * bell(difference)
    return Cost(value, n.beta * bell(n.beta * c) - derivative, derivative)


def _exo(c: Array, r: Array, n: Numbers) -> Cost:
    if not 0 < n.smoothing < 1:
        raise ParameterError(
            "label_smoothing",
            f"label_smoothing must be in (0, 1) with EXO, got {exactly(n.smoothing)}",
        )
    difference = n.beta * (c - r)
    wins, loses = np.log1p(-n.smoothing), np.log(n.smoothing)
    lost, share_of_rejected = softplus(np, -difference)
    won, share_of_chosen = softplus(np, difference)
    value = selected(np, share_of_chosen, -lost - wins) + selected(
        np, share_of_rejected, -won - loses
    )
    derivative = selected(np, bell(difference), difference - (wins - loses))
    return _by_difference(value, n.beta * derivative)


def _nca(c: Array, r: Array, n: Numbers) -> Cost:
    up, fall = softplus(np, -n.beta * c)
    down, rise = softplus(np, n.beta * c)
    other, of_other = softplus(np, n.beta * r)
    value = up + 0.5 * down + 0.5 * other
    return Cost(value, n.beta * (0.5 * rise - fall), 0.5 * n.beta * of_other)


def _discopop(c: Array, r: Array, n: Numbers) -> Cost:
    apart = n.beta * (c - r)
    x = np.clip(apart, -LARGEST, LARGEST)
    cost, fall = softplus(np, -x)
    mix = sigmoid(x / n.temperature)
    rest = sigmoid(-x / n.temperature)
    # exp(-x) times the mix, of which one may overflow where the other vanishes.
    mixed = np.exp(-x - softplus(np, -x / n.temperature)[0])
    value = cost * rest + mixed
    steepness = rest / n.temperature
    # The steepness may be infinite where what it multiplies is 0, and this where it is small.
    turn = np.where(
        steepness > 1,
        selected(np, mixed - cost * mix, steepness) - mixed,
        mixed * (steepness - 1) - cost * mix * steepness,
    )
    derivative = turn - fall * rest
    return _by_difference(np.where(apart == -np.inf, np.inf, value), n.beta * derivative)


def _orpo(c: Array, r: Array, n: Numbers) -> Cost:
    odds = c - r - (log_rest(c) - log_rest(r))
    cost, _ = softplus(np, -odds)
    # What both lack of certainty; of -0 a quotient would have the wrong sign.
    lost_c, lost_r = (0 - np.expm1(x) + 0 for x in (c, r))
    both = lost_c + np.exp(c - r) * lost_r
    by_rejected = n.beta * lost_c / lost_r / both
    return Cost(n.beta * cost - c, -1 - n.beta / both, by_rejected)


def _cpo(c: Array, r: Array, n: Numbers) -> Cost:
    found = _sigmoid(c, r, n)
    if not n.likelihood:  # of which an infinite score would make NaN
        return found
    return Cost(found.value - n.likelihood * c, found.by_chosen - n.likelihood, found.by_rejected)


COSTS: Mapping[PreferenceObjective, Callable[[Array, Array, Numbers], Cost]] = MappingProxyType(
    {
        PreferenceObjective.SIGMOID: _sigmoid,
        PreferenceObjective.IPO: _ipo,
        PreferenceObjective.HINGE: _hinge,
        PreferenceObjective.ROBUST: _robust,
        PreferenceObjective.APO_ZERO: _apo_zero,
        PreferenceObjective.APO_DOWN: _apo_down,
        PreferenceObjective.EXO: _exo,
        PreferenceObjective.NCA: _nca,
        PreferenceObjective.DISCOPOP: _discopop,
        PreferenceObjective.SIMPO: _sigmoid,
        PreferenceObjective.ORPO: _orpo,
        PreferenceObjective.CPO: _cpo,
    }
)
