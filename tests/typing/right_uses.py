"""Thirty right uses of the client, in which type checkers are to find nothing."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np

from lossd import v1
from lossd.client import (
    AsyncLossClient,
    LossClient,
    LossResult,
    MetricResult,
    TermResult,
    balanced_weights,
    make_loss,
    make_metric,
    weighted_sum,
)
from lossd.client.hints import EmptyPolicy, Reduction
from lossd.client.jax import remote_loss
from lossd.client.torch import RemoteLoss
from lossd.v1.losses import CrossEntropy, Ctc, Huber, InfoNce, Loss, PolicyGradient
from lossd.v1.metrics import F1, Accuracy, ConfusionMatrix, Metric, RocAuc

client = LossClient("localhost:50051", timeout=5)
x, y = np.zeros((32, 10), np.float32), np.arange(32) % 10
batch: dict[str, Any] = {"predictions": x, "targets": y}


def numbers(result: LossResult) -> float:  # right: one number, without asking for None
    """Returns something of each number."""
    return result.loss * 2 + result.loss_sum / result.weight_sum + result.example_count


def arrays(result: LossResult[Any]) -> float:  # right: any reduction
    """Returns something of each array."""
    gradient = result.gradients["predictions"]
    return float(result.per_example.max() + gradient.sum() + gradient[0, 0])


def aggregate(loss: Loss, reduction: Reduction, empty: EmptyPolicy) -> float | None:
    """Returns the loss, whatever the options."""
    return client.compute(loss, x, y, reduction=reduction, empty=empty).loss  # right


def metric_of(metric: Metric) -> MetricResult:
    """Returns one result for one metric."""
    return client.evaluate(metric, predictions=x, targets=y)  # right


def named(values: Mapping[str, MetricResult]) -> dict[str, float | None]:
    """Returns what each came to."""
    return {name: result.value for name, result in values.items()}  # right


# Losses.
numbers(client.compute(CrossEntropy(label_smoothing=0.1), x, y))  # right: by position
numbers(client.compute(CrossEntropy(), predictions=x, targets=y))  # right: by name
arrays(client.compute(CrossEntropy(), **batch))  # right: a batch in a dictionary
numbers(client.compute("cross_entropy", x, y))  # right: the name of a loss
numbers(client.compute(make_loss("huber", delta=2.0), x, x))  # right: a name with parameters
numbers(client.compute(v1.LossSpec(huber=Huber()), x, x))  # right: a spec
vector: None = client.compute(Huber(), x, x, reduction="none").loss  # right: no aggregate
both_losses = weighted_sum((0.7, CrossEntropy()), (0.3, "dice", {"predictions": "masks"}))  # right
total = client.compute(both_losses, masks=x, **batch)  # right: inputs have names of its own
terms: list[TermResult] = list(total.terms)  # right
CrossEntropy(prediction_kind="PROBABILITIES", outputs=["ENTROPY"])  # right: short names
CrossEntropy(prediction_kind=v1.DISTRIBUTION_KIND_PROBABILITIES)  # right: constants
CrossEntropy(class_weights=balanced_weights(np.bincount(y)), ignore_index=np.int64(3))  # right
Huber(delta=np.float32(0.5), batch_dims=2)  # right: NumPy's numbers
client.compute(Ctc(), x[None], y[None], target_lengths=[3], weights=[1.0])  # right: lists
client.compute(InfoNce(), queries=x, keys=x, gradients=["queries", "temperature"])  # right
client.compute(PolicyGradient(), log_probabilities=y, advantages=y, token_mask=y > 3)  # right
client.compute(Huber(), x, x, mask=y > 3, normalizer=512, cotangent=2.0, timeout=1)  # right
found = client.compute(CrossEntropy(), x, y, metrics=[Accuracy(), "log_loss"]).metrics  # right

# Metrics.
score: float | None = client.evaluate(RocAuc(), predictions=x, targets=y).value  # right
several = [Accuracy(top_k=5), F1(average="MACRO"), ConfusionMatrix()]
first, *others = client.evaluate(several, predictions=x, targets=y)  # right: a list for a list
named({one.metric: one for one in client.evaluate(["f1", RocAuc()], **batch)})  # right
make_metric("f1", average="MACRO")  # right
with client.evaluation(RocAuc()) as run:
    run.update(predictions=x, targets=y)
    auc: MetricResult = run.result()  # right: one result for one metric
with client.evaluation(RocAuc(), Accuracy(), return_state=True) as both:
    both.merge(both.state)
    area, accuracy = both.result()  # right: a list for several

# Futures.
numbers(client.submit(CrossEntropy(), x, y, timeout=1).result())  # right
later: None = client.submit("huber", x, x, reduction="none").result().loss  # right
scores: list[MetricResult] = client.submit([Accuracy(), "f1"], **batch).result()  # right
streamed: list[MetricResult] = client.evaluation([Accuracy(), "f1"]).result()  # right
one: Future[MetricResult] = client.submit(RocAuc(), predictions=x, targets=y)  # right

# Frameworks and asyncio.
criterion = RemoteLoss(CrossEntropy(label_smoothing=0.1), client, reduction="sum")  # right
last = criterion.last.per_example if criterion.last is not None else None  # right
remote_loss("cross_entropy", client, reduction="none")  # right


async def asynchronous(other: AsyncLossClient) -> float:
    """Awaits what ``LossClient`` waits for."""
    result = await other.compute(Huber(), x, x)  # right
    metric = await other.evaluate(RocAuc(), **batch)
    return result.loss + (metric.value or 0.0)
