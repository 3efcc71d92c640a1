"""Brier score."""

import numpy as np

from lossd.evaluation._classification import BINARY, PROBABILITIES, Scores
from lossd.evaluation._declare import BatchState, Floats, MetricExample, Score, metric
from lossd.evaluation._means import keep_mean, mean
from lossd.evaluation._probabilities import probabilities, tiles
from lossd.evaluation._state import State
from lossd.losses import DistributionKind


def _result(state: State, *, scale_by_half: bool | None) -> Score:
    del scale_by_half
    return mean(state)


@metric(
    PROBABILITIES,
    result=_result,
    surrogate="SquaredError",
    tallies={"values": 1, "weights": 1},
    examples=(
        MetricExample(
            {"predictions": [0.1, 0.9, 0.8, 0.3], "targets": [0, 1, 1, 0]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=0.0375,
        ),
        MetricExample({"predictions": [[0.0, 0.0], [1.0, 1.0]], "targets": [0, 1]}, value=0.5),
        MetricExample(
            {"predictions": [[0.0, 0.0], [1.0, 1.0]], "targets": [0, 1]},
            parameters={"scale_by_half": True},
            value=0.25,
        ),
    ),
)
def brier(prepared: Scores, *, scale_by_half: bool | None = None) -> BatchState:
    """Mean squared difference between probabilities and outcomes.

        value = sum_i w_i sum_c (p_ic - y_ic)^2 / sum(w), over both answers or all classes

    By default it is halved for a binary task, which makes it the mean of (p - y)^2.

    Reference: G. W. Brier, Verification of forecasts expressed in terms of probability, 1950.
    """
    halved = prepared.task is BINARY if scale_by_half is None else scale_by_half
    distances = np.concatenate([np.zeros(0), *map(_distances, tiles(prepared))])
    values = distances * (0.5 if halved else 1.0)
    return keep_mean(values, prepared.weights, prepared.checkpoint)


def _distances(prepared: Scores) -> Floats:
    found = probabilities(prepared)
    if prepared.task is BINARY:
        return 2 * (found - prepared.targets) ** 2
    found[np.arange(len(found)), prepared.targets] -= 1
    distances: Floats = (found**2).sum(axis=1)
    return distances
