"""Log loss."""

import numpy as np

from lossd.evaluation._classification import BINARY, PROBABILITIES, Scores
from lossd.evaluation._declare import BatchState, Floats, MetricExample, metric
from lossd.evaluation._means import keep_mean, mean
from lossd.evaluation._probabilities import tiles
from lossd.losses import DistributionKind, log_rest

_HALF = 0.6931471805599453


@metric(
    PROBABILITIES,
    result=mean,
    surrogate="CrossEntropy",
    tallies={"values": 1, "weights": 1},
    examples=(
        MetricExample({"predictions": [0.0, 0.0], "targets": [0, 1]}, value=_HALF),
        MetricExample(
            {"predictions": [[0.25, 0.75], [0.5, 0.5]], "targets": [0, 1]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=1.5 * _HALF,
        ),
    ),
)
def log_loss(prepared: Scores) -> BatchState:
    """Mean negative log-likelihood of the targets, in nats.

        value = sum(w -log p(target)) / sum(w)

    Probabilities are clipped to [e, 1 - e], with e the rounding error of the type in which they
    were given; logits and log-probabilities are not clipped.

    Reference: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108.
    """
    return keep_mean(negative_logs(prepared), prepared.weights, prepared.checkpoint)


def negative_logs(prepared: Scores) -> Floats:
    """Returns -log p of each target."""
    return np.concatenate([np.zeros(0), *map(_negative_logs, tiles(prepared))])


def _negative_logs(prepared: Scores) -> Floats:
    scores = prepared.scores.astype(np.float64)
    with np.errstate(all="ignore"):
        if prepared.kind is DistributionKind.PROBABILITIES:
            scores = np.clip(scores, prepared.rounding, 1 - prepared.rounding)
        if prepared.task is BINARY:
            return _of_answers(scores, prepared)
        return _of_classes(scores, prepared)


def _of_answers(scores: Floats, prepared: Scores) -> Floats:
    if prepared.kind is DistributionKind.LOGITS:
        return np.logaddexp(0, np.where(prepared.targets, -scores, scores))
    if prepared.kind is DistributionKind.LOG_PROBABILITIES:
        return -np.where(prepared.targets, scores, log_rest(scores))
    return -np.where(prepared.targets, np.log(scores), np.log1p(-scores))


def _of_classes(scores: Floats, prepared: Scores) -> Floats:
    rows = np.arange(len(scores))
    if prepared.kind is DistributionKind.LOG_PROBABILITIES:
        return np.negative(scores[rows, prepared.targets])
    if prepared.kind is DistributionKind.PROBABILITIES:
        return -np.log(scores[rows, prepared.targets])
    best = scores.argmax(axis=1)
    below = scores - scores[rows, best][:, None]
    shares = np.exp(below)
    shares[rows, best] = 0  # so that a confident answer keeps its digits
    values: Floats = np.log1p(shares.sum(axis=1)) - below[rows, prepared.targets]
    return values
