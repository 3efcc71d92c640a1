"""Types of arguments, for editors and type checkers: they know a misspelt option or input.

Nothing here is looked at when a call is made.  A signature names in quotes what stands for many
types, which Python would write out in ``help()``.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from lossd.v1 import GradientSelection, LossSpec, MetricSpec
from lossd.v1.losses import Loss, LossName, SingleLoss, WeightedSum
from lossd.v1.metrics import Metric, MetricName

Aggregate: TypeAlias = Literal["mean", "batch_mean", "sum"]
Reduction: TypeAlias = Literal["mean", "batch_mean", "sum", "none"]
EmptyPolicy: TypeAlias = Literal["zero", "nan", "error"]
NonfinitePolicy: TypeAlias = Literal["propagate", "zero", "error"]

# Losses whose inputs have the names of ``LossInputs``, and those whose inputs may have any name.
NamedLoss: TypeAlias = SingleLoss | LossName
Combined: TypeAlias = WeightedSum | LossSpec
AnyLoss: TypeAlias = Loss | LossName | LossSpec
AnyMetric: TypeAlias = Metric | MetricName | MetricSpec


class LossInputs(TypedDict, total=False):
    """The inputs of all losses, by name."""

    predictions: Any
    targets: Any
    variances: Any
    prediction_lengths: Any
    target_lengths: Any
    log_probabilities: Any
    risks: Any
    # Embeddings.
    embeddings: Any
    labels: Any
    anchor: Any
    positive: Any
    negative: Any
    left: Any
    right: Any
    queries: Any
    keys: Any
    negatives: Any
    ids: Any
    # Adversaries.
    real: Any
    fake: Any
    input_gradients: Any
    # Tokens of policies and preferences.
    token_mask: Any
    token_weights: Any
    lengths: Any
    offsets: Any
    groups: Any
    advantages: Any
    sampling_log_probabilities: Any
    reference_log_probabilities: Any
    rollout_log_probabilities: Any
    entropies: Any
    desirable: Any
    mismatched_log_probabilities: Any
    mismatched_reference_log_probabilities: Any
    mismatched_token_mask: Any
    mismatched_lengths: Any
    mismatched_offsets: Any
    chosen_log_probabilities: Any
    chosen_reference_log_probabilities: Any
    chosen_token_mask: Any
    chosen_lengths: Any
    chosen_offsets: Any
    rejected_log_probabilities: Any
    rejected_reference_log_probabilities: Any
    rejected_token_mask: Any
    rejected_lengths: Any
    rejected_offsets: Any
    chosen_rewards: Any
    rejected_rewards: Any
    margins: Any
    values: Any
    old_values: Any
    returns: Any


class ComputeArguments(LossInputs, total=False):
    """The arguments of ``LossClient.compute`` besides the loss and the reduction."""

    weights: Any
    mask: Any
    gradients: Iterable[str] | GradientSelection | None
    per_example: bool
    cotangent: Any
    normalizer: float | None
    empty: EmptyPolicy
    nonfinite: NonfinitePolicy
    metrics: Sequence[AnyMetric]
    lint: bool
    timeout: float | None
    request_id: str | None


class EvaluateArguments(TypedDict, total=False):
    """The arguments of ``LossClient.evaluate`` besides the metrics."""

    predictions: Any
    targets: Any
    hypotheses: Any
    references: Any
    weights: Any
    mask: Any
    states: Iterable[bytes]
    timeout: float | None
    request_id: str | None


class EvaluationArguments(TypedDict, total=False):
    """The arguments of ``LossClient.evaluation`` besides the metrics."""

    return_state: bool
    timeout: float
    request_id: str | None
    progress: bool | int
