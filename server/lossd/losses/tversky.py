"""Tversky loss."""

from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import OPTIONAL_CLASS_AXIS, DistributionKind
from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.overlap import (
    INPUTS,
    EmptyTarget,
    Index,
    overlap_texts,
    region_loss,
    without_target,
)
from lossd.schema import NONNEGATIVE, POSITIVE, Array

PROBABILITIES = DistributionKind.PROBABILITIES
LOG_PROBABILITIES = DistributionKind.LOG_PROBABILITIES


@loss(
    Shape.REGIONWISE,
    inputs=INPUTS,
    layout=(OPTIONAL_CLASS_AXIS,),
    cuda=overlap_texts(1, "alpha", "beta", "gamma"),
    ignores=without_target,
    ignores_when={"empty_target": EmptyTarget.SKIP},
    examples=(
        # tp = 1/2, fp = 1/4, fn = 1/2: with alpha alone a third, with beta alone a half.
        Example(
            {"predictions": [[0.5, 0.25]], "targets": [[1.0, 0.0]]},
            parameters={"prediction_kind": PROBABILITIES, "smooth": 0.0, "alpha": 1.0, "beta": 0.0},
            value=1 / 3,
            gradients={"predictions": [[-4 / 9, 8 / 9]], "targets": [[-2 / 3, -1 / 3]]},
        ),
        Example(
            {"predictions": [[0.5, 0.25]], "targets": [[1.0, 0.0]]},
            parameters={"prediction_kind": PROBABILITIES, "smooth": 0.0, "alpha": 0.0, "beta": 1.0},
            value=1 / 2,
            gradients={"predictions": [[-1.0, 0.0]]},
        ),
        Example(
            {"predictions": [[0.5, 0.5]], "targets": [[1.0, 0.0]]},
            parameters={
                "prediction_kind": PROBABILITIES,
                "smooth": 0.0,
                "alpha": 1.0,
                "beta": 0.0,
                "gamma": 2.0,
            },
            value=1 / 4,
            gradients={"predictions": [[-1 / 2, 1 / 2]]},
        ),
        Example(
            {"predictions": [[0.0, 0.0]], "targets": [[1, 0]]},
            parameters={"smooth": 0.0},
            value=1 / 2,
            gradients={"predictions": [[-3 / 16, 1 / 16]]},
        ),
        Example(
            {"predictions": [[-LOG_2, -LOG_2]], "targets": [[1, 0]]},
            parameters={"prediction_kind": LOG_PROBABILITIES, "smooth": 0.0},
            value=1 / 2,
            gradients={"predictions": [[-3 / 8, 1 / 8]]},
        ),
        # Only one of two classes is present, with p = 1/2.
        Example(
            {"predictions": [[[0.0], [0.0]]], "targets": [[0]]},
            parameters={"class_axis": 1, "smooth": 0.0, "empty_target": EmptyTarget.SKIP},
            value=1 / 3,
            gradients={"predictions": [[[-2 / 9], [2 / 9]]]},
        ),
    ),
)
def tversky(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    smooth: Annotated[float, NONNEGATIVE] = 1e-5,
    empty_target: EmptyTarget = EmptyTarget.SMOOTH,
    alpha: Annotated[float, NONNEGATIVE] = 0.5,
    beta: Annotated[float, NONNEGATIVE] = 0.5,
    gamma: Annotated[float, POSITIVE] = 1.0,
) -> BodyResult:
    """One minus the Tversky index, with separate weights for false positives and false negatives.

        value = u^gamma,  u = 1 - (tp + s) / (tp + alpha fp + beta fn + s),  s = smooth
        tp = sum p t,  fp = sum p (1 - t),  fn = sum (1 - p) t
        gradient = gamma u^(gamma - 1) p (1 - p) / (tp + alpha fp + beta fn + s)
                   (t (-u - beta (1 - u)) + (1 - t) alpha (1 - u)) with respect to a logit

    alpha = beta = 1/2 is the Dice loss with twice the smoothing, alpha = beta = 1 the Jaccard loss;
    with gamma other than 1 it is the focal Tversky loss, whose gradient at a value of 0 is taken as
    0.  p is the sigmoid of a logit; with a class axis it is the softmax, and the value is the mean
    over the classes.  With SKIP an example without a target is ignored and has the status
    EMPTY_TARGET; a class without one is left out of its example's mean.

    Reference: S. S. M. Salehi et al., Tversky loss function for image segmentation, 2017, section
    2, where alpha goes with the false positives; focal: N. Abraham and N. M. Khan, A novel focal
    Tversky loss function, 2019, section 2.
    """
    return region_loss(
        xp,
        predictions,
        targets,
        prediction_kind=prediction_kind,
        index=Index(1, alpha, beta, smooth),
        empty_target=empty_target,
        gamma=gamma,
    )
