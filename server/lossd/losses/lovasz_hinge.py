"""Lovász hinge."""

from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint, never_stop
from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import PREDICTIONS, Content, Input
from lossd.losses._maths.lovasz import jaccard_steps
from lossd.schema import Array, Choices


@loss(
    Shape.REGIONWISE,
    inputs=(
        PREDICTIONS,
        Input(
            "targets",
            "whether each element is in the region",
            content=Content.NUMBERS,
            domain=Choices((0, 1)),
        ),
    ),
    is_ordered=True,
    examples=(
        # Errors 1/2 and 3/2; with both in the set the Jaccard loss is 1, with the second alone 1/2.
        Example(
            {"predictions": [[0.5, 0.5]], "targets": [[1, 0]]},
            value=1.0,
            gradients={"predictions": [[-0.5, 0.5]]},
        ),
        # No target: the largest false positive is all that counts.
        Example(
            {"predictions": [[0.5, -3.0, 0.25]], "targets": [[0, 0, 0]]},
            value=1.5,
            gradients={"predictions": [[1.0, 0.0, 0.0]]},
        ),
        # All scores are beyond the margin.
        Example(
            {"predictions": [[2.0, -1.5]], "targets": [[1, 0]]},
            value=0.0,
            gradients={"predictions": [[0.0, 0.0]]},
        ),
    ),
)
def lovasz_hinge(
    xp: Any, predictions: Array, targets: Array, checkpoint: Checkpoint = never_stop
) -> BodyResult:
    """Convex surrogate of the Jaccard loss of one region, from logits.

        value = sum_i g_i max(0, e_i),  e_i = 1 - x_i (2 t_i - 1)
        g_i = increase of the Jaccard loss by i when errors are added from the largest down
        gradient = -(2 t_i - 1) g_i where e_i > 0, else 0

    Among equal errors the lowest index is added first.

    Reference: M. Berman et al., The Lovász-Softmax loss, 2018, section 3.1; J. Yu and M. Blaschko,
    Learning submodular losses with the Lovász hinge, 2015.
    """
    signs = 2 * targets - 1
    scores = predictions * signs
    # Sorted by score and not by error, which is rounded: scores below 1e-16 have an order too.
    steps = jaccard_steps(xp, -scores, targets == 1, checkpoint)
    checkpoint()
    errors = 1 - scores
    active = xp.where(xp.isnan(errors), errors, errors > 0)

    def gradient() -> Array:
        derivatives = active * steps
        derivatives *= -signs
        return derivatives

    costs = xp.maximum(errors, 0) * steps
    costs = xp.where((errors == np.inf) & (steps == 0), 0, costs)
    return BodyResult(costs.sum(axis=-1), {"predictions": gradient})
