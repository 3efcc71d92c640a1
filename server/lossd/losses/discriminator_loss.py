"""Loss of a critic that plays against a generator."""

from typing import Annotated, Any

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
    hinge,
    is_averaged,
    least_squares,
    real_cost,
    sides,
    wasserstein,
)
from lossd.losses._maths.gan_texts import critic_texts
from lossd.schema import UNIT, Array, ParameterError, exactly

ZEROS = {"real": [0.0], "fake": [0.0]}


@loss(
    Shape.OPPOSED,
    inputs=(REAL, FAKE),
    sides=lambda objective, **_: sides(objective, alone=False),
    is_averaged=lambda objective, **_: is_averaged(objective),
    cuda_of=critic_texts(),
    working_bytes=112,
    examples=(
        Example(ZEROS, value=2 * LOG_2, gradients={"real": [-0.5], "fake": [0.5]}),
        # log(1 + 1/3) and log(1 + 3) by softplus of -log 3 and log 3; the generated ones are
        # averaged.
        Example(
            {"real": [LOG_3], "fake": [LOG_3, 0.0]},
            value=2 * LOG_2 - LOG_3 + (2 * LOG_2 + LOG_2) / 2,
            gradients={"real": [-0.25], "fake": [0.375, 0.25]},
        ),
        Example(
            {"real": [LOG_3], "fake": [0.0]},
            parameters={"objective": GanObjective.MINIMAX},
            value=3 * LOG_2 - LOG_3,
            gradients={"real": [-0.25], "fake": [0.5]},
        ),
        Example(
            ZEROS,
            parameters={"label_smoothing": 0.25},
            value=2 * LOG_2,
            gradients={"real": [-0.25], "fake": [0.5]},
        ),
        Example(
            {"real": [3.0], "fake": [2.0]},
            parameters={"objective": GanObjective.LEAST_SQUARES, "label_smoothing": 0.5},
            value=25 / 8 + 2,
            gradients={"real": [2.5], "fake": [2.0]},
        ),
        Example(
            {"real": [0.5, 1.0], "fake": [-2.0, 1.0]},
            parameters={"objective": GanObjective.HINGE},
            value=1.25,
            gradients={"real": [-0.5, 0.0], "fake": [0.0, 0.5]},
        ),
        Example(
            {"real": [2.0, 4.0], "fake": [5.0]},
            parameters={"objective": GanObjective.WASSERSTEIN},
            value=2.0,
            gradients={"real": [-0.5, -0.5], "fake": [1.0]},
        ),
        Example(
            {"real": [LOG_3], "fake": [0.0]},
            parameters={"objective": GanObjective.RELATIVISTIC},
            value=2 * LOG_2 - LOG_3,
            gradients={"real": [-0.25], "fake": [0.25]},
        ),
        # One example of each side: both terms equal that of the pair.
        Example(
            {"real": [LOG_3], "fake": [0.0]},
            parameters={"objective": GanObjective.RELATIVISTIC_AVERAGE},
            value=4 * LOG_2 - 2 * LOG_3,
            gradients={"real": [-0.5], "fake": [0.5]},
        ),
    ),
)
def discriminator_loss(
    xp: Any,
    real: Array,
    fake: Array,
    *,
    objective: GanObjective = GanObjective.NON_SATURATING,
    label_smoothing: Annotated[float, UNIT] = 0.0,
) -> BodyResult:
    """Loss of a critic that tells real from generated examples, for the usual GAN objectives.

        value = softplus(-r) + e r,  softplus(f)                 MINIMAX, NON_SATURATING
                (r - 1 + e)^2 / 2,  f^2 / 2                      LEAST_SQUARES
                max(0, 1 - r),  max(0, 1 + f)                    HINGE
                -r,  f                                           WASSERSTEIN
                softplus(-(r - f)) + e (r - f)                   RELATIVISTIC
                as MINIMAX, of r - mean f and f - mean r         RELATIVISTIC_AVERAGE
        gradient = -sigmoid(-r) + e,  sigmoid(f)                 MINIMAX, NON_SATURATING

    e is the label smoothing, which is one-sided.  The values are those of the real examples,
    then those of the generated ones; both kinds of mean add the means of the two sides.  Elements
    of an example are averaged.  The means of RELATIVISTIC_AVERAGE are weighted by the examples'
    weights, and gradients go through them; without examples on one side all others have the status
    UNDEFINED, value 0 and gradient 0.  At the kink of the hinge the gradient is 0.

    Reference: I. Goodfellow et al., Generative adversarial nets, 2014, section 3; X. Mao et al.,
    2017; J. H. Lim and J. C. Ye, 2017; M. Arjovsky et al., 2017; A. Jolicoeur-Martineau, 2018.
    """
    if label_smoothing and objective in (GanObjective.HINGE, GanObjective.WASSERSTEIN):
        raise ParameterError(
            "label_smoothing",
            f"label_smoothing must be 0 with {objective.name}, which knows no targets, "
            f"got {exactly(label_smoothing)}",
        )
    high, low = {
        GanObjective.LEAST_SQUARES: (least_squares(1, label_smoothing), least_squares(0)),
        GanObjective.HINGE: (hinge(1), hinge(-1)),
        GanObjective.WASSERSTEIN: (wasserstein(1), wasserstein(-1)),
    }.get(objective, (real_cost(label_smoothing), fake_cost))
    given = ScoredSide("real", real, high), ScoredSide("fake", fake, low)
    return costs(xp, objective, *given)
