"""Clipped loss of a value function."""

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Output
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import Axes, Input
from lossd.losses._maths.tokens import (
    AGGREGATION,
    GROUPS,
    TokenAggregation,
    Tokens,
    layout_inputs,
)
from lossd.schema import POSITIVE, REQUIRED, Array, Differentiable

TEXT = """
    const Policy policy{CLIPPED_VALUE, NO_RATIO, NO_ESTIMATOR, NO_CORRECTION, {clip_range}};
    value = T(cost_of_sequence(tokens, policy));
"""


class ClippedValueOutput(enum.Enum):
    """Auxiliary outputs of each sequence."""

    CLIP_FRACTION = Output("clip_fraction", "share of the tokens whose slope is clipped away")


def _case(
    inputs: Any, value: float, derivative: Any, aggregation: TokenAggregation, **others: Any
) -> Example:
    names = ("values", "old_values", "returns")
    groups = {"groups": [1]} if aggregation is TokenAggregation.GROUP_MEAN else {}
    return Example(
        {**dict(zip(names, inputs, strict=True)), **groups},
        parameters={"clip_range": 0.5, "aggregation": aggregation, **others},
        value=value,
        gradients={"values": derivative},
    )


@loss(
    Shape.TOKENS,
    cuda=(CudaText(TEXT),),
    inputs=(
        Input(
            "values",
            "what the value function says of each token",
            differentiable=Differentiable.BY_DEFAULT,
            axes=Axes.TOKENS,
        ),
        Input("old_values", "what it said when the tokens were sampled", axes=Axes.TOKENS),
        Input("returns", "what it should have said", axes=Axes.TOKENS),
        *layout_inputs(),
        GROUPS,
    ),
    layout=AGGREGATION,
    examples=(
        # Unclipped; beyond the range away from the return; and beyond it towards the return.
        _case(([[1.0]], [[1.0]], [[3.0]]), 2.0, [[-2.0]], TokenAggregation.SUM),
        _case(([[0.0]], [[1.0]], [[3.0]]), 4.5, [[-3.0]], TokenAggregation.TOKEN_MEAN),
        _case(
            ([[2.0, 2.0]], [[1.0, 2.0]], [[3.0, 2.0]]),
            0.5625,
            [[0.0, 0.0]],
            TokenAggregation.SEQUENCE_MEAN,
            outputs=tuple(ClippedValueOutput),
        ),
        _case(
            ([[1.0]], [[1.0]], [[3.0]]),
            0.5,
            [[-0.5]],
            TokenAggregation.CONSTANT_LENGTH,
            sequence_length=4.0,
        ),
        _case(
            ([[1.0, 3.0]], [[1.0, 3.0]], [[3.0, 3.0]]),
            1.0,
            [[-1.0, 0.0]],
            TokenAggregation.GROUP_MEAN,
        ),
    ),
)
def clipped_value(
    xp: Any,
    values: Array,
    old_values: Array,
    returns: Array,
    sides: Mapping[str, Tokens],
    *,
    clip_range: Annotated[float, POSITIVE] = REQUIRED,  # type: ignore[assignment]
    outputs: Sequence[ClippedValueOutput] = (),
) -> BodyResult:
    """Squared error of a value function that may not move far from what it was.

        value = max((v - y)^2, (clip(v, old - clip_range, old + clip_range) - y)^2) / 2
        gradient = v - y, 0 where the clipped error is larger and v beyond the range

    v is the value of a token, y its return.  Where both errors are equal the derivative is v - y.
    Everything is computed in float64.

    Reference: J. Schulman et al., Proximal policy optimization algorithms, 2017, as clipped by
    P. Dhariwal et al., OpenAI Baselines, 2017, ppo2.
    """
    tokens = sides[""]
    error = values - returns
    held = xp.clip(values, old_values - clip_range, old_values + clip_range) - returns
    is_held, is_lost = abs(held) > abs(error), xp.isnan(held)
    outputs_of = {
        ClippedValueOutput.CLIP_FRACTION: lambda: tokens.means(is_held.astype(np.float64))
    }
    worse = xp.where(is_held | is_lost, held, error)
    return BodyResult(
        worse * worse / 2,
        {"values": xp.where(is_held, 0, xp.where(is_lost, held, error))},
        outputs={member.value.name: outputs_of[member]() for member in outputs},
    )
