"""Penalty on the norm of a critic's gradients."""

import enum
from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import Input
from lossd.schema import NONNEGATIVE, Array, Differentiable, ParameterError, exactly


class GradientPenaltyVariant(enum.Enum):
    """The variants of a gradient penalty."""

    WGAN_GP = "squared distance of the norm to a target"
    R1 = "half the squared norm"


# A power of two, far below the largest number of a float.
HUGE = 2.0**64

TEXTS = (
    CudaText(
        """
        const double squares = row.sums(AT_PLACE(x.first * x.first)).items[0];
        const Length length = length_of(row, squares, First{});
        // A norm may overflow where its part of a component does not: then both are reduced.
        const bool is_reduced = length.unit < 1;
        const double unit = is_reduced ? length.unit : 1;
        const double beyond =
            is_reduced ? length.size - target_norm * unit : length.value - target_norm;
        const double excess = one_sided != 0 && beyond < 0 ? 0 : beyond;
        const double twice = 2 / unit;
        value = T(excess / unit * (excess / unit));
        row.write(AT_PLACE(excess * length.direction(x.first) * twice));
        """,
        when={"variant": GradientPenaltyVariant.WGAN_GP},
    ),
    CudaText(
        """
        value = T(row.sums(AT_PLACE(x.first * (x.first / 2))).items[0]);
        row.write(First{});
        """,
        when={"variant": GradientPenaltyVariant.R1},
    ),
)


@loss(
    Shape.REGIONWISE,
    cuda=TEXTS,
    inputs=(
        Input(
            "input_gradients",
            "the gradient of the critic's score of each example with respect to that example",
            differentiable=Differentiable.BY_DEFAULT,
        ),
    ),
    examples=(
        Example(
            {"input_gradients": [[3.0, 4.0]]},
            value=16.0,
            gradients={"input_gradients": [[4.8, 6.4]]},
        ),
        Example(
            {"input_gradients": [[0.0, 0.0]]},
            value=1.0,
            gradients={"input_gradients": [[0.0, 0.0]]},
        ),
        Example(
            {"input_gradients": [[[0.3], [0.4]]]},
            parameters={"one_sided": True},
            value=0.0,
            gradients={"input_gradients": [[[0.0], [0.0]]]},
        ),
        Example(
            {"input_gradients": [[3.0, 4.0]]},
            parameters={"target_norm": 0.0},
            value=25.0,
            gradients={"input_gradients": [[6.0, 8.0]]},
        ),
        Example(
            {"input_gradients": [[3.0, 4.0]]},
            parameters={"variant": GradientPenaltyVariant.R1},
            value=12.5,
            gradients={"input_gradients": [[3.0, 4.0]]},
        ),
    ),
)
def gradient_penalty(
    xp: Any,
    input_gradients: Array,
    *,
    variant: GradientPenaltyVariant = GradientPenaltyVariant.WGAN_GP,
    target_norm: Annotated[float, NONNEGATIVE] = 1.0,
    one_sided: bool = False,
) -> BodyResult:
    """Penalty on the norm of a critic's gradient: squared, or its squared distance to a target.

        value = (|g| - K)^2             WGAN_GP, K = target_norm
                max(0, |g| - K)^2       WGAN_GP, one-sided
                |g|^2 / 2               R1
        gradient = 2 (|g| - K) g / |g|  WGAN_GP
                   g                    R1

    g is the gradient of the critic's score with respect to the critic's input, which the caller
    computes.  The gradient returned is with respect to g: going on from there into the critic is a
    second differentiation, which is left to the caller.  The norm is over all axes except the first
    and does not overflow; where it is 0 the subgradient is 0.

    Reference: I. Gulrajani et al., Improved training of Wasserstein GANs, 2017, section 4;
    one-sided: H. Petzka et al., 2018; R1: L. Mescheder et al., 2018, section 4.1.
    """
    if variant is GradientPenaltyVariant.R1:
        _check_r1(target_norm, one_sided=one_sided)
        return BodyResult(
            (input_gradients * (input_gradients / 2)).sum(axis=-1),
            {"input_gradients": input_gradients},
        )
    # Prescaled by the largest element, so that no square is too large or too small.
    largest = abs(input_gradients).max(axis=-1)
    scale = xp.where((largest > 0) & (largest < xp.inf), largest, 1)
    parts = input_gradients / scale[:, None]
    # Of an infinite component nothing can be told of the norm's slope: NaN, as kernels have it.
    relative = xp.sqrt((parts * parts).sum(axis=-1)) + (largest - largest)
    # The norm may overflow where its part of a component does not: then both are reduced.
    unit = xp.where(scale > HUGE, 1 / HUGE, 1).astype(scale.dtype)
    excess = scale * unit * relative - target_norm * unit
    if one_sided:
        excess = xp.maximum(excess, 0)
    derivative = xp.where(relative == 0, 0, 2 * excess / relative)
    parts *= derivative[:, None]
    parts /= unit[:, None]
    return BodyResult((excess / unit) ** 2, {"input_gradients": parts})


def _check_r1(target_norm: float, *, one_sided: bool) -> None:
    if target_norm != 1:
        raise ParameterError(
            "target_norm", f"target_norm must be 1 with R1, got {exactly(target_norm)}"
        )
    if one_sided:
        raise ParameterError("one_sided", "one_sided must be false with R1, got true")
