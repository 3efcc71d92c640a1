"""Thirty wrong uses of the client, one on each line: type checkers find them before they run."""

import numpy as np

from lossd.client import (
    AsyncLossClient,
    LossClient,
    LossResult,
    make_loss,
    make_metric,
    weighted_sum,
)
from lossd.client.jax import remote_loss
from lossd.client.torch import RemoteLoss
from lossd.v1 import F1, Accuracy, CrossEntropy, Dice, Huber, RocAuc

client = LossClient("localhost:50051")
x, y = np.zeros((32, 10), np.float32), np.arange(32) % 10


# Losses and metrics.
client.compute(Accuracy(), x, y)  # wrong: a metric is no loss
client.compute(CrossEntropy, x, y)  # wrong: the class instead of a message
client.compute("cros_entropy", x, y)  # wrong: a misspelt name
client.compute("accuracy", x, y)  # wrong: the name of a metric
client.evaluate(Huber(), predictions=x, targets=y)  # wrong: a loss is no metric
client.evaluate([Accuracy(), "f2"], predictions=x, targets=y)  # wrong: a misspelt name in a list
client.compute(Huber(), x, x, metrics=[Dice()])  # wrong: a loss among metrics
make_loss("crossentropy")  # wrong: a misspelt name
make_metric("huber")  # wrong: a loss is no metric
weighted_sum((1.0, RocAuc()))  # wrong: a metric in a sum of losses
RemoteLoss(F1(), "localhost:50051")  # wrong: a metric is no loss

# Parameters.
CrossEntropy(label_smothing=0.1)  # wrong: a misspelt parameter
CrossEntropy(label_smoothing="0.1")  # wrong: a text for a number
CrossEntropy(prediction_kind="PROBS")  # wrong: no member of the enum
CrossEntropy(prediction_kind="probabilities")  # wrong: members are upper case
CrossEntropy(outputs="ENTROPY")  # wrong: a text for a list
Huber(delta=[1.0])  # wrong: a list for a number

# Options and inputs.
client.compute(Huber(), x, x, reduction="avg")  # wrong: no such reduction
client.compute(Huber(), x, x, empty="skip")  # wrong: no such policy
client.compute(Huber(), x, x, nonfinite="ignore")  # wrong: no such policy
client.compute(Huber(), preds=x, targets=x)  # wrong: no loss has such an input
client.compute(Huber(), x, x, weight=y)  # wrong: a misspelt option
client.submit(CrossEntropy(), x, y, timeout="5s")  # wrong: a text for seconds
client.evaluate(Accuracy(), preds=x, targets=y)  # wrong: no metric has such an input
remote_loss(Huber(), reduction="total")  # wrong: no such reduction

# Results.
misspelt = client.submit(Huber(), x, x).result().los  # wrong: a misspelt field
client.compute(Huber(), x, x).loss.backward()  # wrong: a float is no tensor
client.compute(Huber(), x, x, reduction="none").loss * 2  # wrong: none gives no aggregate
attribute = client.compute(Huber(), x, x).gradients.predictions  # wrong: gradients are a mapping


async def asynchronous(other: AsyncLossClient) -> LossResult:
    """Shows what is left out easily with asyncio."""
    return other.compute(Huber(), x, x)  # wrong: it is not awaited
