"""Lovász softmax."""

from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint, never_stop
from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import CLASS_AXIS, PREDICTIONS, Content, DistributionKind, Input
from lossd.losses._maths.constants import LOG_2, LOG_3
from lossd.losses._maths.lovasz import jaccard_steps
from lossd.losses._maths.region_probabilities import class_log_odds, class_shares
from lossd.schema import Array

_AT_ONCE = 1 << 18  # numbers whose shares and odds are computed together


@loss(
    Shape.REGIONWISE,
    inputs=(
        PREDICTIONS,
        Input("targets", "the class of each element", content=Content.INDICES),
    ),
    layout=(CLASS_AXIS,),
    is_ordered=True,
    working_bytes=208,
    examples=(
        Example(
            {"predictions": [[[0.0, LOG_3]]], "targets": [[0]]},
            value=3 / 4,
            gradients={"predictions": [[[-3 / 16, 3 / 16]]]},
        ),
        # Two elements, p = 1/2 everywhere; equal errors, so the first goes first in both classes.
        Example(
            {"predictions": [[[0.0, 0.0], [0.0, 0.0]]], "targets": [[0, 1]]},
            value=1 / 2,
            gradients={"predictions": [[[-3 / 16, 3 / 16], [1 / 16, -1 / 16]]]},
        ),
        # Three classes, the last of which is absent: p is 1/2 for the true one, 1/4 for the others.
        Example(
            {"predictions": [[[LOG_2, 0.0], [0.0, LOG_2], [0.0, 0.0]]], "targets": [[0, 1]]},
            parameters={"class_axis": 1},
            value=1 / 2,
            gradients={"predictions": [[[-1 / 8, 1 / 16], [1 / 16, -1 / 8], [1 / 16, 1 / 16]]]},
        ),
    ),
)
def lovasz_softmax(
    xp: Any, predictions: Array, targets: Array, checkpoint: Checkpoint = never_stop
) -> BodyResult:
    """Lovász extension of the Jaccard loss of each class, averaged over the classes present.

        value = 1 / |present| sum_c sum_i g_ci e_ci
        e_ci = 1 - p_ci where i is of class c, else p_ci,  p = softmax(x)
        g_ci = increase of the Jaccard loss of c by i when errors are added from the largest down
        gradient = p_ci (h_ci - sum_k p_ki h_ki),  h_ci = -+g_ci / |present|

    Errors are compared in float64; among equal ones the lowest index is added first.

    Reference: M. Berman et al., The Lovász-Softmax loss, 2018, section 3.2.
    """
    examples, classes, elements = predictions.shape
    own = targets[:, None, :] == xp.arange(classes)[:, None]
    errors, odds = xp.empty(predictions.shape), xp.empty(predictions.shape)
    shares = []
    parts = _parts(xp, predictions)
    for part in parts:
        checkpoint()
        logits = predictions[part].astype(np.float64)
        shares.append(class_shares(xp, logits, DistributionKind.LOGITS))
        errors[part] = xp.where(own[part], shares[-1].outside, shares[-1].inside)
        # Sorted by odds and not by error, which is rounded: 1 - 1e-20 and 1 - 1e-30 have an order.
        of_true = class_log_odds(xp, logits)
        odds[part] = xp.where(own[part], -of_true, of_true)
    regions = (examples * classes, elements)
    of_regions = odds.reshape(regions), own.reshape(regions)
    steps = jaccard_steps(xp, *of_regions, checkpoint).reshape(errors.shape)
    checkpoint()
    present = own.any(axis=-1)
    steps *= (present / present.sum(axis=-1)[:, None])[..., None]
    steps[~present] = 0
    value = (errors * steps).sum(axis=-1).sum(axis=-1)

    def gradient() -> Array:
        derivatives = xp.empty_like(predictions)
        for part, share in zip(parts, shares, strict=True):
            checkpoint()
            derivatives[part] = share.back(xp.where(own[part], -steps[part], steps[part]))
        return derivatives

    return BodyResult(value.astype(predictions.dtype), {"predictions": gradient})


def _parts(xp: Any, predictions: Array) -> list[tuple[Any, ...]]:
    """Returns where parts of the elements are that are computed together: on the device one."""
    examples, classes, elements = predictions.shape
    step = max(1, _AT_ONCE // classes) if xp is np else max(1, elements)
    starts = range(0, elements if examples else 0, step)
    return [(..., slice(start, start + step)) for start in starts]
