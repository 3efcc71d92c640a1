"""Bradley-Terry loss of reward models."""

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Output
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import Axes, Input
from lossd.losses._maths.constants import LOG_2, LOG_3
from lossd.losses._maths.sigmoid import softplus
from lossd.losses._maths.tokens import Tokens
from lossd.schema import NONNEGATIVE, Array, Differentiable


class BradleyTerryOutput(enum.Enum):
    """Auxiliary outputs of each pair."""

    REWARD_MARGIN = Output("reward_margin", "the reward of the chosen answer less the other's")
    ACCURACY = Output("accuracy", "1 where the chosen answer has the higher reward, else 0")


def _rewards(side: str) -> Input:
    return Input(
        f"{side}rewards",
        f"what the {side.removesuffix('_')} answer of each pair is worth",
        differentiable=Differentiable.BY_DEFAULT,
        axes=Axes.TOKENS,
        side=side,
    )


@loss(
    Shape.TOKENS,
    inputs=(
        _rewards("chosen_"),
        _rewards("rejected_"),
        Input(
            "margins",
            "by how much each chosen answer has to be better; 0 if not given",
            is_optional=True,
            axes=Axes.EXAMPLES,
        ),
    ),
    examples=(
        Example(
            {"chosen_rewards": [1.0], "rejected_rewards": [1.0]},
            value=LOG_2,
            gradients={"chosen_rewards": [-0.5], "rejected_rewards": [0.5]},
        ),
        Example(
            {"chosen_rewards": [2.0], "rejected_rewards": [1.0], "margins": [1.0 - LOG_3]},
            parameters={"centering": 0.5, "outputs": tuple(BradleyTerryOutput)},
            value=2 * LOG_2 - LOG_3 + 4.5,
            gradients={"chosen_rewards": [2.75], "rejected_rewards": [3.25]},
        ),
    ),
)
def bradley_terry(
    xp: Any,
    chosen_rewards: Array,
    rejected_rewards: Array,
    margins: Array | None,
    sides: Mapping[str, Tokens],
    *,
    centering: Annotated[float, NONNEGATIVE] = 0.0,
    outputs: Sequence[BradleyTerryOutput] = (),
) -> BodyResult:
    """Negative log-likelihood that chosen answers win, of the rewards of a model.

        value = -log sigmoid(c - r - margin) + centering (c + r)^2
        gradient = -sigmoid(-(c - r - margin)) + 2 centering (c + r) by c, and the like with a plus
                   by r

    Everything is computed in float64.

    Reference: R. A. Bradley and M. E. Terry, Rank analysis of incomplete block designs, 1952;
    H. Touvron et al., Llama 2, 2023, eq. 2 (margin); J. Eisenstein et al., Helping or herding?,
    2023, eq. 2 (centering).
    """
    del sides
    apart = chosen_rewards - rejected_rewards
    value, derivative = softplus(xp, -(apart if margins is None else apart - margins))
    both = chosen_rewards + rejected_rewards
    centering_gradient = 2 * centering * both if centering else 0.0
    found: dict[BradleyTerryOutput, Any] = {
        BradleyTerryOutput.REWARD_MARGIN: apart,
        BradleyTerryOutput.ACCURACY: np.where(apart > 0, 1.0, 0.0),
    }
    return BodyResult(
        value + centering * both * both if centering else value,
        {
            "chosen_rewards": centering_gradient - derivative,
            "rejected_rewards": centering_gradient + derivative,
        },
        outputs={member.value.name: found[member] for member in outputs},
    )
