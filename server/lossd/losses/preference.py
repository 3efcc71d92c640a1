"""Direct preference optimization and its relatives."""

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Output
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._maths.constants import LOG_2, LOG_3
from lossd.losses._maths.preferences import (
    AVERAGES,
    COSTS,
    SMOOTHED,
    WITHOUT_REFERENCE,
    Numbers,
    PreferenceObjective,
    of_log_probabilities,
    score_slope,
    scores,
)
from lossd.losses._maths.tokens import Tokens, layout_inputs
from lossd.schema import (
    FINITE,
    NONNEGATIVE,
    POSITIVE,
    REQUIRED,
    UNIT,
    Array,
    ParameterError,
    exactly,
)


class PreferenceOutput(enum.Enum):
    """Auxiliary outputs of each pair."""

    CHOSEN_REWARD = Output("chosen_reward", "beta times the score of the chosen answer")
    REJECTED_REWARD = Output("rejected_reward", "beta times the score of the rejected answer")
    REWARD_MARGIN = Output("reward_margin", "the difference of the two")
    ACCURACY = Output("accuracy", "1 where the chosen answer has the higher score, else 0")


def _pair(chosen: Any, rejected: Any) -> dict[str, Any]:
    """Sums of log-probabilities beside a reference that gave each 1/e."""
    return {
        "chosen_log_probabilities": [chosen - 1.0],
        "rejected_log_probabilities": [rejected - 1.0],
        "chosen_reference_log_probabilities": [-1.0],
        "rejected_reference_log_probabilities": [-1.0],
    }


def _case(
    objective: PreferenceObjective, inputs: Any, value: float, derivatives: Any, **numbers: Any
) -> Example:
    chosen, rejected = derivatives
    return Example(
        inputs,
        parameters={"objective": objective, "beta": 1.0, **numbers},
        value=value,
        gradients={
            "chosen_log_probabilities": chosen, "rejected_log_probabilities": rejected,
        },
    )  # fmt: skip


def _free(chosen: Any, rejected: Any, **others: Any) -> dict[str, Any]:
    return {
        "chosen_log_probabilities": chosen, "rejected_log_probabilities": rejected, **others,
    }  # fmt: skip


_O = PreferenceObjective
_EXO_SHARE = 3 / 4


@loss(
    Shape.TOKENS,
    inputs=(
        of_log_probabilities(
            "log_probabilities",
            "log-probability of each token of the chosen answer, or their sum",
            "chosen_",
        ),
        of_log_probabilities("log_probabilities", "the same of the rejected answer", "rejected_"),
        of_log_probabilities(
            "reference_log_probabilities",
            "those of the chosen answer under the reference",
            "chosen_",
            is_free=True,
        ),
        of_log_probabilities(
            "reference_log_probabilities",
            "the same of the rejected answer",
            "rejected_",
            is_free=True,
        ),
        *layout_inputs("chosen_", "chosen ", may_be_sums=True),
        *layout_inputs("rejected_", "rejected ", may_be_sums=True),
    ),
    examples=(
        # At the first step, where policy and reference are one.
        _case(_O.SIGMOID, _pair(0.0, 0.0), LOG_2, ([-0.5], [0.5])),
        _case(
            _O.SIGMOID,
            _pair(LOG_3, 0.0),
            2 * LOG_2 - LOG_3 + 0.25 * LOG_3,
            ([0.0], [0.0]),
            label_smoothing=0.25,
            outputs=tuple(PreferenceOutput),
        ),
        # Of tokens, each of which has the derivative of the sum.
        _case(
            _O.SIGMOID,
            {
                "chosen_log_probabilities": [[-1.0, -2.0]],
                "rejected_log_probabilities": [[-1.0, -9.0]],
                "chosen_reference_log_probabilities": [[-2.0, -1.0]],
                "rejected_reference_log_probabilities": [[-1.0, -9.0]],
                "rejected_lengths": [1],
            },
            LOG_2,
            ([[-0.5, -0.5]], [[0.5, 0.0]]),
        ),
        _case(_O.IPO, _pair(2.0, 0.0), 2.25, ([3.0], [-3.0])),
        _case(
            _O.IPO,
            {**_pair(2.0, 0.0), "chosen_lengths": [4], "rejected_lengths": [2]},
            0.0,
            ([0.0], [0.0]),
            average=True,
        ),
        _case(_O.HINGE, _pair(0.5, 0.0), 0.5, ([-1.0], [1.0])),
        _case(_O.HINGE, _pair(1.0, 0.0), 0.0, ([0.0], [0.0])),
        _case(_O.ROBUST, _pair(0.0, 0.0), LOG_2, ([-1.0], [1.0]), label_smoothing=0.25),
        _case(_O.APO_ZERO, _pair(0.0, LOG_3), 1.25, ([-0.25], [3 / 16])),
        _case(_O.APO_DOWN, _pair(LOG_3, LOG_3), 1.25, ([3 / 16 - 0.25], [0.25])),
        _case(
            _O.EXO,
            _pair(LOG_3, 0.0),
            0.0,
            ([0.0], [0.0]),
            label_smoothing=1 - _EXO_SHARE,
        ),
        _case(_O.NCA, _pair(0.0, 0.0), 2 * LOG_2, ([-0.25], [0.25])),
        _case(
            _O.DISCOPOP,
            _pair(0.0, 0.0),
            0.5 + LOG_2 / 2,
            ([-0.75 + (1 - LOG_2) / 2], [0.75 - (1 - LOG_2) / 2]),
            temperature=0.5,
        ),
        _case(
            _O.SIMPO,
            _free([-1.0], [-2.0], chosen_lengths=[2], rejected_lengths=[4]),
            2 * LOG_2 - LOG_3,
            ([-0.125], [0.0625]),
            margin=-LOG_3,
        ),
        # Probabilities of a half: the odds ratio is 1, and log odds have the derivative 2.
        _case(
            _O.ORPO,
            _free([[-LOG_2, -LOG_2]], [[-LOG_2]]),
            2 * LOG_2,
            ([[-1.0, -1.0]], [[1.0]]),
        ),
        _case(
            _O.CPO,
            _free([-1.0], [-1.0]),
            LOG_2 + 2.0,
            ([-2.5], [0.5]),
            likelihood_weight=2.0,
        ),
    ),
)
def preference(  # noqa: PLR0917 - an argument an input
    xp: Any,
    chosen_log_probabilities: Array,
    rejected_log_probabilities: Array,
    chosen_reference_log_probabilities: Array | None,
    rejected_reference_log_probabilities: Array | None,
    sides: Mapping[str, Tokens],
    *,
    objective: PreferenceObjective = REQUIRED,  # type: ignore[assignment]
    beta: Annotated[float, POSITIVE] = REQUIRED,  # type: ignore[assignment]
    label_smoothing: Annotated[float, UNIT] = 0.0,
    margin: Annotated[float | None, FINITE] = None,
    likelihood_weight: Annotated[float | None, NONNEGATIVE] = None,
    temperature: Annotated[float | None, POSITIVE] = None,
    average: bool | None = None,
    outputs: Sequence[PreferenceOutput] = (),
) -> BodyResult:
    """How far a policy is from preferring chosen answers to rejected ones.

        value = -(1 - e) log sigmoid(h) - e log sigmoid(-h)                   SIGMOID
                (c - r - 1 / (2 beta))^2                                      IPO
                max(0, 1 - h)                                                 HINGE
                (-(1 - e) log sigmoid(h) + e log sigmoid(-h)) / (1 - 2e)      ROBUST
                1 - sigmoid(beta c) + sigmoid(beta r)                         APO_ZERO
                sigmoid(beta c) + 1 - sigmoid(h)                              APO_DOWN
                q log(q / (1 - e)) + (1 - q) log((1 - q) / e),  q = sigmoid(h)    EXO
                -log sigmoid(beta c) - (log sigmoid(-beta c) + log sigmoid(-beta r)) / 2    NCA
                -(1 - m) log sigmoid(h) + m exp(-h),  m = sigmoid(h / temperature)    DISCOPOP
                -log sigmoid(h - margin)                                      SIMPO
                -c - beta log sigmoid(logit exp(c) - logit exp(r))            ORPO
                as SIGMOID, -likelihood_weight c                              CPO
        h = beta (c - r)
        gradient = the derivative of the value with respect to c and r, for each token, divided by
                   the number of tokens where scores are means

    c and r are the scores of the chosen and of the rejected answer: the sum of log-probabilities of
    their tokens, less the same under the reference, which SIMPO, ORPO and CPO have none of.  With
    ``average`` they are means over the tokens, as in the papers of SIMPO and ORPO, where it is so
    unless it is said to be false; sums go with their lengths then.  e is the label smoothing, the
    share of labels that are thought to be flipped: below 1/2 for ROBUST, above 0 for EXO.  At the
    kink of the hinge the derivative is 0.  Everything is computed in float64.  A pair with an
    answer of no tokens has the status EMPTY_TARGET, and the score of that answer is 0; with ORPO,
    which has no odds of it, the value and the gradients of the pair are 0.

    Reference: R. Rafailov et al., Direct preference optimization, 2023, eq. 7; M. G. Azar et al.,
    2023, eq. 17 (IPO); Y. Zhao et al., SLiC-HF, 2023, with the scores of T. Liu et al., 2023;
    S. R. Chowdhury et al., Provably robust DPO, 2024; K. D'Oosterlinck et al., Anchored
    preference optimization, 2024, eq. 7 and 8; H. Ji et al., Towards efficient exact optimization,
    2024, eq. 16; H. Chen et al., Noise contrastive alignment, 2024; C. Lu et al., Discovering
    preference optimization algorithms, 2024, eq. 5; Y. Meng et al., SimPO, 2024, eq. 6; J. Hong et
    al., ORPO, 2024, eq. 6; H. Xu et al., Contrastive preference optimization, 2024.
    """
    del xp
    given = {
        "margin": (margin, objective is PreferenceObjective.SIMPO),
        "likelihood_weight": (likelihood_weight, objective is PreferenceObjective.CPO),
        "temperature": (temperature, objective is PreferenceObjective.DISCOPOP),
    }
    _check_numbers(objective, given, label_smoothing)
    references = chosen_reference_log_probabilities, rejected_reference_log_probabilities
    _check_references(objective, references)
    chosen, rejected = sides["chosen_"], sides["rejected_"]
    averages = _are_averages(objective, average, (chosen, rejected))
    c = scores(chosen_log_probabilities, references[0], chosen, average=averages)
    r = scores(rejected_log_probabilities, references[1], rejected, average=averages)
    numbers = Numbers(
        beta, label_smoothing, margin or 0.0, likelihood_weight or 0.0, temperature or math.nan
    )
    cost = COSTS[objective](c, r, numbers)
    if objective is PreferenceObjective.ORPO:  # nothing is certain, and its odds are infinite
        cost = cost.without(_are_empty(chosen) | _are_empty(rejected))
    rewards = _rewards(beta, c, r)
    return BodyResult(
        cost.value,
        {
            "chosen_log_probabilities": score_slope(cost.by_chosen, chosen, average=averages),
            "rejected_log_probabilities": score_slope(cost.by_rejected, rejected, average=averages),
        },
        outputs={member.value.name: rewards[member] for member in outputs},
    )


def _are_averages(
    objective: PreferenceObjective,
    average: bool | None,  # noqa: FBT001 - None is neither
    answers: tuple[Tokens, Tokens],
) -> bool:
    """Returns whether scores are means over tokens, of which there must be a number."""
    averages = objective in AVERAGES if average is None else average
    if averages and any(tokens.counts is None for tokens in answers):
        raise ParameterError(
            "average",
            "average must be false with sums that have no chosen_lengths and rejected_lengths, "
            "got true",
        )
    return averages


def _rewards(beta: float, chosen: Array, rejected: Array) -> dict[PreferenceOutput, Array]:
    """Returns all outputs, of the scores of the answers."""
    return {
        PreferenceOutput.CHOSEN_REWARD: beta * chosen,
        PreferenceOutput.REJECTED_REWARD: beta * rejected,
        PreferenceOutput.REWARD_MARGIN: beta * (chosen - rejected),
        PreferenceOutput.ACCURACY: np.where(chosen > rejected, 1.0, 0.0),
    }


def _are_empty(tokens: Tokens) -> Array:
    return np.zeros(tokens.number, np.bool_) if tokens.counts is None else tokens.counts == 0


def _check_numbers(
    objective: PreferenceObjective,
    given: Mapping[str, tuple[float | None, bool]],
    smoothing: float,
) -> None:
    for name, (number, is_taken) in given.items():
        if is_taken != (number is not None):
            raise ParameterError(
                name,
                f"{name} must be {'given' if is_taken else 'unset'} with {objective.name}, "
                f"got {'nothing' if number is None else exactly(number)}",
            )
    if smoothing and objective not in SMOOTHED:
        raise ParameterError(
            "label_smoothing",
            f"label_smoothing must be 0 with {objective.name}, got {exactly(smoothing)}",
        )


def _check_references(
    objective: PreferenceObjective, references: tuple[Array | None, Array | None]
) -> None:
    wanted = 0 if objective in WITHOUT_REFERENCE else 2
    got = sum(reference is not None for reference in references)
    if got != wanted:
        rule = "of both answers" if wanted else "left out"
        raise ParameterError(
            "objective",
            "objective must go with reference_log_probabilities "
            f"{rule} if it is {objective.name}, got {got}",
        )
