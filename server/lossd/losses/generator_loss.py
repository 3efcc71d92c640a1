"""Loss of a generator that plays against a critic."""

from dataclasses import replace
from typing import Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._maths.constants import LOG_2, LOG_3
from lossd.losses._maths.gan_costs import (
    FAKE,
    REAL,
    GanObjective,
    ScoredSide,
    costs,
    fake_cost,
    is_averaged,
    least_squares,
    minimax,
    real_cost,
    sides,
    wasserstein,
)
from lossd.losses._maths.gan_texts import generator_texts
from lossd.schema import Array


@loss(
    Shape.OPPOSED,
    inputs=(FAKE, replace(REAL, is_optional=True)),
    sides=lambda objective: sides(objective, alone=True),
    is_averaged=is_averaged,
    cuda_of=generator_texts(),
    examples=(
        Example({"fake": [0.0]}, value=LOG_2, gradients={"fake": [-0.5]}),
        Example(
            {"fake": [LOG_3, 0.0]},
            parameters={"objective": GanObjective.MINIMAX},
            value=-1.5 * LOG_2,
            gradients={"fake": [-0.375, -0.25]},
        ),
        Example(
            {"fake": [3.0]},
            parameters={"objective": GanObjective.LEAST_SQUARES},
            value=2.0,
            gradients={"fake": [2.0]},
        ),
        Example(
            {"fake": [3.0]},
            parameters={"objective": GanObjective.HINGE},
            value=-3.0,
            gradients={"fake": [-1.0]},
        ),
        Example(
            {"fake": [3.0, 4.0]},
            parameters={"objective": GanObjective.WASSERSTEIN},
            value=-3.5,
            gradients={"fake": [-0.5, -0.5]},
        ),
        Example(
            {"fake": [0.0], "real": [LOG_3]},
            parameters={"objective": GanObjective.RELATIVISTIC},
            value=2 * LOG_2,
            gradients={"fake": [-0.75], "real": [0.75]},
        ),
        Example(
            {"fake": [0.0], "real": [LOG_3]},
            parameters={"objective": GanObjective.RELATIVISTIC_AVERAGE},
            value=4 * LOG_2,
            gradients={"fake": [-1.5], "real": [1.5]},
        ),
    ),
)
def generator_loss(
    xp: Any,
    fake: Array,
    real: Array,
    *,
    objective: GanObjective = GanObjective.NON_SATURATING,
) -> BodyResult:
    """Loss of a generator whose examples a critic should take for real, for the GAN objectives.

        value = -softplus(f)                                     MINIMAX
                softplus(-f)                                     NON_SATURATING
                (f - 1)^2 / 2                                    LEAST_SQUARES
                -f                                               HINGE, WASSERSTEIN
                softplus(-(f - r))                               RELATIVISTIC
                softplus(r - mean f),  softplus(-(f - mean r))   RELATIVISTIC_AVERAGE
        gradient = -sigmoid(-f)                                  NON_SATURATING

    The relativistic objectives are those of the critic with the roles exchanged, so they take the
    real scores too.  The values of RELATIVISTIC_AVERAGE are those of the real examples followed by
    those of the generated ones; both kinds of mean add the means of the two sides.  Its inner means
    are weighted by the examples' weights, and gradients go through them; without examples on one
    side all others have the status UNDEFINED, value 0 and gradient 0.  Elements of an example are
    averaged.

    Reference: I. Goodfellow et al., Generative adversarial nets, 2014, section 3; X. Mao et al.,
    2017; J. H. Lim and J. C. Ye, 2017; M. Arjovsky et al., 2017; A. Jolicoeur-Martineau, 2018.
    """
    cost = {
        GanObjective.MINIMAX: minimax,
        GanObjective.LEAST_SQUARES: least_squares(1),
        GanObjective.HINGE: wasserstein(1),
        GanObjective.WASSERSTEIN: wasserstein(1),
    }.get(objective, real_cost())
    high, low = ScoredSide("fake", fake, cost), ScoredSide("real", real, fake_cost)
    return costs(xp, objective, high, low)
