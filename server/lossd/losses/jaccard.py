"""Jaccard loss."""

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
from lossd.schema import NONNEGATIVE, Array

PROBABILITIES = DistributionKind.PROBABILITIES
LOG_PROBABILITIES = DistributionKind.LOG_PROBABILITIES


@loss(
    Shape.REGIONWISE,
    inputs=INPUTS,
    layout=(OPTIONAL_CLASS_AXIS,),
    cuda=overlap_texts(1, "1", "1"),
    ignores=without_target,
    ignores_when={"empty_target": EmptyTarget.SKIP},
    examples=(
        Example(
            {"predictions": [[0.5, 0.5]], "targets": [[1.0, 0.0]]},
            parameters={"prediction_kind": PROBABILITIES, "smooth": 0.0},
            value=2 / 3,
            gradients={"predictions": [[-2 / 3, 2 / 9]], "targets": [[-2 / 9, -2 / 9]]},
        ),
        Example(
            {"predictions": [[0.0, 0.0]], "targets": [[1, 0]]},
            parameters={"smooth": 0.0},
            value=2 / 3,
            gradients={"predictions": [[-1 / 6, 1 / 18]]},
        ),
        Example(
            {"predictions": [[-LOG_2, -LOG_2]], "targets": [[1, 0]]},
            parameters={"prediction_kind": LOG_PROBABILITIES, "smooth": 0.0},
            value=2 / 3,
            gradients={"predictions": [[-1 / 3, 1 / 9]]},
        ),
        # One of two classes is present, with p = 1/2; the other has only a false positive of 1/2.
        Example(
            {"predictions": [[[0.0], [0.0]]], "targets": [[0]]},
            parameters={"class_axis": 1, "smooth": 0.0},
            value=3 / 4,
            gradients={"predictions": [[[-1 / 8], [1 / 8]]]},
        ),
        Example(
            {"predictions": [[[0.0], [0.0]]], "targets": [[0]]},
            parameters={"class_axis": 1, "smooth": 0.0, "empty_target": EmptyTarget.SKIP},
            value=1 / 2,
            gradients={"predictions": [[[-1 / 4], [1 / 4]]]},
        ),
    ),
)
def jaccard(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    smooth: Annotated[float, NONNEGATIVE] = 1e-5,
    empty_target: EmptyTarget = EmptyTarget.SMOOTH,
) -> BodyResult:
    """One minus the Jaccard index, intersection over union, of the predicted and the true region.

        value = 1 - (tp + s) / (tp + fp + fn + s),  s = smooth
        tp = sum p t,  fp = sum p (1 - t),  fn = sum (1 - p) t
        gradient = (-t + (1 - t) (1 - v)) p (1 - p) / (tp + fp + fn + s), with respect to a logit

    p is the sigmoid of a logit; with a class axis it is the softmax, and the value is the mean over
    the classes.  An example without a target has the value fp / (fp + s); with SKIP it is ignored
    and has the status EMPTY_TARGET; a class without one is left out of its example's mean.  Where
    all counts and s are 0, value and gradient are 0.

    Reference: P. Jaccard, The distribution of the flora in the alpine zone, 1912; as a loss: M. A.
    Rahman and Y. Wang, Optimizing intersection-over-union in deep neural networks, 2016, section 3.
    """
    return region_loss(
        xp,
        predictions,
        targets,
        prediction_kind=prediction_kind,
        index=Index(1, 1, 1, smooth),
        empty_target=empty_target,
    )
