"""Kahneman-Tversky optimization."""

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Output
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import Axes, Content, Input
from lossd.losses._maths.constants import LOG_3
from lossd.losses._maths.preferences import (
    REFERENCE,
    bell,
    of_log_probabilities,
    score_slope,
    scores,
    sigmoid,
)
from lossd.losses._maths.tokens import Tokens, layout_inputs
from lossd.schema import NONNEGATIVE, POSITIVE, Array, Choices, ParameterError


class KahnemanTverskyOutput(enum.Enum):
    """Auxiliary outputs of each answer."""

    REWARD = Output("reward", "beta times how much more likely it is than under the reference")
    BASELINE = Output("baseline", "what its log-ratio is compared with, the same for all")


DESIRABLE = Input(
    "desirable",
    "whether each answer is desirable",
    content=Content.NUMBERS,
    domain=Choices((0, 1)),
    axes=Axes.EXAMPLES,
)
PLAIN = {
    "log_probabilities": [-1.0, -1.0],
    "reference_log_probabilities": [-1.0, -1.0],
    "desirable": [1, 0],
}


@loss(
    Shape.TOKENS,
    inputs=(
        of_log_probabilities(
            "log_probabilities", "log-probability of each token of an answer, or their sum", ""
        ),
        REFERENCE,
        DESIRABLE,
        *layout_inputs(may_be_sums=True),
        of_log_probabilities(
            "log_probabilities",
            "those of answers to other prompts, of which the baseline is made",
            "mismatched_",
            is_free=True,
        ),
        of_log_probabilities(
            "reference_log_probabilities",
            "the same under the reference",
            "mismatched_",
            is_free=True,
        ),
        *layout_inputs("mismatched_", "mismatched ", may_be_sums=True),
    ),
    examples=(
        Example(
            PLAIN,
            parameters={"baseline": 0.0, "beta": 2.0, "desirable_weight": 3.0},
            value=1.0,
            gradients={"log_probabilities": [-0.75, 0.25]},
        ),
        # The baseline is the mean of log 3 and log 3, and so are the log-ratios of the answers.
        Example(
            {
                "log_probabilities": [LOG_3 - 4, LOG_3 - 4],
                "reference_log_probabilities": [-4.0, -4.0],
                "desirable": [1, 0],
                "mismatched_log_probabilities": [2 * LOG_3 - 5, -5.0],
                "mismatched_reference_log_probabilities": [-5.0, -5.0],
            },
            parameters={
                "undesirable_weight": 2.0,
                "beta": 1.0,
                "outputs": tuple(KahnemanTverskyOutput),
            },
            value=0.75,
            gradients={"log_probabilities": [-0.125, 0.25]},
        ),
        Example(
            {**PLAIN, "reference_log_probabilities": [-1.0 - LOG_3, -1.0 + LOG_3]},
            parameters={"baseline": 0.0, "beta": 1.0},
            value=0.25,
            gradients={"log_probabilities": [-3 / 32, 3 / 32]},
        ),
    ),
)
def kahneman_tversky(  # noqa: PLR0917 - an argument an input
    xp: Any,
    log_probabilities: Array,
    reference_log_probabilities: Array,
    desirable: Array,
    mismatched_log_probabilities: Array | None,
    mismatched_reference_log_probabilities: Array | None,
    sides: Mapping[str, Tokens],
    *,
    beta: Annotated[float, POSITIVE] = 0.1,
    desirable_weight: Annotated[float, NONNEGATIVE] = 1.0,
    undesirable_weight: Annotated[float, NONNEGATIVE] = 1.0,
    baseline: Annotated[float | None, NONNEGATIVE] = None,
    outputs: Sequence[KahnemanTverskyOutput] = (),
) -> BodyResult:
    """How far desirable answers are from a gain, and undesirable ones from a loss.

        value = desirable_weight (1 - sigmoid(beta (s - z)))       of a desirable answer
                undesirable_weight (1 - sigmoid(beta (z - s)))     of an undesirable one
        z = baseline, or max(0, mean of the mismatched answers' s), held constant
        gradient = -w beta sigmoid'(beta (s - z)) of a desirable answer, for each token, and the
                   like with a plus of an undesirable one

    s is the log-probability of an answer less that under the reference, summed over its tokens.
    Without a baseline it is that of this batch, over the answers that are kept and have weight,
    from mismatched answers to each prompt; whoever splits a batch gives the baseline of the whole.
    Everything is computed in float64.

    Reference: K. Ethayarajh et al., KTO: Model alignment as prospect theoretic optimization, 2024,
    eq. 7.
    """
    del xp
    tokens = sides[""]
    point = _baseline(
        baseline,
        mismatched_log_probabilities,
        mismatched_reference_log_probabilities,
        sides.get("mismatched_"),
    )
    apart = scores(log_probabilities, reference_log_probabilities, tokens, average=False)
    sign = np.where(desirable == 1, 1.0, -1.0)
    weight = np.where(desirable == 1, desirable_weight, undesirable_weight)
    ahead = beta * (apart - point)
    found: dict[KahnemanTverskyOutput, Any] = {
        KahnemanTverskyOutput.REWARD: beta * apart,
        KahnemanTverskyOutput.BASELINE: np.full(tokens.number, point),
    }
    return BodyResult(
        weight * sigmoid(-sign * ahead),
        {
            "log_probabilities": score_slope(
                -sign * weight * beta * bell(ahead), tokens, average=False
            )
        },
        outputs={member.value.name: found[member] for member in outputs},
    )


def _baseline(
    given: float | None,
    log_probabilities: Array | None,
    reference: Array | None,
    tokens: Tokens | None,
) -> float:
    is_there = log_probabilities is not None and reference is not None
    if (given is not None) == is_there:
        got = "both" if is_there else "neither"
        raise ParameterError(
            "baseline",
            "baseline must be given, or mismatched_log_probabilities with their reference, "
            f"got {got}",
        )
    if given is not None or log_probabilities is None or tokens is None:
        return given or 0.0
    apart = scores(log_probabilities, reference, tokens, average=False)
    mean = tokens.total(apart) / max(tokens.total(np.ones(len(apart))), 1)
    return float(np.maximum(mean, 0))  # NaN stays NaN
