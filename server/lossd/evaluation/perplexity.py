"""Perplexity."""

import math

from lossd.evaluation._classification import (
    IGNORE_INDEX,
    MULTICLASS,
    PREDICTION_KIND,
    Scores,
    lay_out_scores,
)
from lossd.evaluation._declare import (
    BatchState,
    MetricBatch,
    MetricExample,
    MetricInput,
    MetricLayout,
    Score,
    metric,
)
from lossd.evaluation._means import keep_mean, mean
from lossd.evaluation._state import State
from lossd.evaluation.log_loss import negative_logs
from lossd.losses import DistributionKind


def _lay_out(
    batch: MetricBatch, *, prediction_kind: DistributionKind, ignore_index: int | None
) -> Scores:
    return lay_out_scores(
        batch, task=MULTICLASS, prediction_kind=prediction_kind, ignore_index=ignore_index
    )


TOKENS = MetricLayout(
    (
        MetricInput("predictions", "a score of each token of the vocabulary", ("(N, ..., C)",)),
        MetricInput("targets", "the tokens that came", ("(N, ...)",)),
    ),
    _lay_out,
    (PREDICTION_KIND, IGNORE_INDEX),
)


def _result(state: State) -> Score:
    logs = mean(state)
    return logs if logs.value is None else Score(value=math.exp(logs.value))


@metric(
    TOKENS,
    result=_result,
    surrogate="CrossEntropy",
    tallies={"values": 1, "weights": 1},
    examples=(
        MetricExample({"predictions": [[0.0, 0.0, 0.0, 0.0]], "targets": [2]}, value=4.0),
        MetricExample(
            {"predictions": [[[0.5, 0.5], [0.125, 0.875]]], "targets": [[0, 0]]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=4.0,
        ),
    ),
)
def perplexity(prepared: Scores) -> BatchState:
    """How many equally likely tokens a model hesitates between, on average.

        value = exp(sum(w -log p(token)) / sum(w))

    All tokens count equally, whatever sequence they are in.

    Reference: F. Jelinek et al., Perplexity, a measure of the difficulty of speech recognition
    tasks, 1977.
    """
    return keep_mean(negative_logs(prepared), prepared.weights, prepared.checkpoint)
