"""Binary classifier optimization."""

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Output
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import Axes, Content, Input
from lossd.losses._maths.constants import LOG_2, LOG_3
from lossd.losses._maths.preferences import REFERENCE, of_log_probabilities, score_slope, scores
from lossd.losses._maths.sigmoid import softplus
from lossd.losses._maths.tokens import Tokens, layout_inputs
from lossd.schema import FINITE, POSITIVE, Array, Choices


class BinaryClassifierOptimizationOutput(enum.Enum):
    """Auxiliary outputs of each answer."""

    REWARD = Output("reward", "beta times how much more likely it is than under the reference")
    SHIFT = Output("shift", "what its reward is compared with, the same for all")


@loss(
    Shape.TOKENS,
    inputs=(
        of_log_probabilities(
            "log_probabilities", "log-probability of each token of an answer, or their sum", ""
        ),
        REFERENCE,
        Input(
            "desirable",
            "whether each answer is desirable",
            content=Content.NUMBERS,
            domain=Choices((0, 1)),
            axes=Axes.EXAMPLES,
        ),
        *layout_inputs(may_be_sums=True),
    ),
    examples=(
        # Rewards log 3 and -log 3, halfway between which is 0.
        Example(
            {
                "log_probabilities": [LOG_3 - 4, -LOG_3 - 4],
                "reference_log_probabilities": [-4.0, -4.0],
                "desirable": [1, 0],
            },
            parameters={"beta": 1.0},
            value=2 * LOG_2 - LOG_3,
            gradients={"log_probabilities": [-0.125, 0.125]},
        ),
        Example(
            {
                "log_probabilities": [-1.0],
                "reference_log_probabilities": [-1.0],
                "desirable": [1],
            },
            parameters={
                "beta": 1.0,
                "shift": LOG_3,
                "outputs": tuple(BinaryClassifierOptimizationOutput),
            },
            value=2 * LOG_2,
            gradients={"log_probabilities": [-0.75]},
        ),
    ),
)
def binary_classifier_optimization(
    xp: Any,
    log_probabilities: Array,
    reference_log_probabilities: Array,
    desirable: Array,
    sides: Mapping[str, Tokens],
    *,
    beta: Annotated[float, POSITIVE] = 0.1,
    shift: Annotated[float | None, FINITE] = None,
    outputs: Sequence[BinaryClassifierOptimizationOutput] = (),
) -> BodyResult:
    """Cross-entropy of telling desirable answers from undesirable ones by their rewards.

        value = -log sigmoid(beta s - d)       of a desirable answer
                -log sigmoid(-(beta s - d))    of an undesirable one
        d = shift, or (mean reward of the desirable + mean reward of the others) / 2, held constant
        gradient = -beta sigmoid(-(beta s - d)) of a desirable answer, for each token, and
                   beta sigmoid(beta s - d) of an undesirable one

    s is the log-probability of an answer less that under the reference, summed over its tokens, and
    beta s its reward.  Without a shift it is that of this batch, over the answers that are kept and
    have weight, and of one kind if there is no other; whoever splits a batch, or keeps a running
    mean, gives the shift.  Everything is computed in float64.

    Reference: S. Jung et al., Binary classifier optimization for large language model alignment,
    2024.
    """
    tokens = sides[""]
    apart = scores(log_probabilities, reference_log_probabilities, tokens, average=False)
    rewards = beta * apart
    point = _halfway(rewards, desirable, tokens) if shift is None else shift
    sign = np.where(desirable == 1, 1.0, -1.0)
    value, derivative = softplus(xp, -sign * (rewards - point))
    found: dict[BinaryClassifierOptimizationOutput, Any] = {
        BinaryClassifierOptimizationOutput.REWARD: rewards,
        BinaryClassifierOptimizationOutput.SHIFT: np.full(tokens.number, point),
    }
    return BodyResult(
        value,
        {"log_probabilities": score_slope(-sign * beta * derivative, tokens, average=False)},
        outputs={member.value.name: found[member] for member in outputs},
    )


def _halfway(rewards: Array, desirable: Array, tokens: Tokens) -> float:
    """Returns the middle between the means of both kinds, or the mean of the one there is."""
    kinds = rewards[desirable == 1], rewards[desirable != 1]
    counts = [tokens.total(np.ones(len(kind))) for kind in kinds]
    sums = [tokens.total(kind) for kind in kinds]
    means = [total / count for total, count in zip(sums, counts, strict=True) if count]
    return sum(means) / max(len(means), 1)
