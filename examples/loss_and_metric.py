"""A loss and the metrics that people care about, where they disagree.

    python examples/loss_and_metric.py [--address ADDRESS]

A model is trained on a loss, which the optimiser can follow, and judged by a metric, which it
cannot: accuracy and F1 are steps, flat almost everywhere.  Under class imbalance the two part.
Here 3 examples in 100 are positive.  The same linear model is trained three times on binary
cross-entropy, with the positives weighing 1, 5 and 30 times; beside it stands a model that knows
the share of the positives only.

Of the trained models the plain one has the lowest cross-entropy and the highest accuracy, and finds
the fewest positives.  Weighing them makes both numbers worse and F1 better, up to a point; ROC AUC,
which asks about order only, hardly moves.  Which model is best is a question to the metric, not to
the loss.
"""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from lossd.cli.served import running_server
from lossd.client import LossClient, MetricResult
from lossd.v1 import F1, Accuracy, BinaryCrossEntropy, LogLoss, Recall, RocAuc

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

POSITIVE_SHARE = 0.03
STEPS = 150
METRICS = {
    "cross-entropy": LogLoss(),
    "accuracy": Accuracy(),
    "balanced accuracy": Accuracy(balanced=True),
    "recall": Recall(),
    "F1": F1(),
    "ROC AUC": RocAuc(),
}


@dataclass(frozen=True, slots=True)
class Data:
    """Points in the plane with a constant 1, and whether each is positive."""

    inputs: Floats
    targets: Labels


def sample(random: np.random.Generator, count: int) -> Data:
    """Two overlapping clouds, one of them rare."""
    targets = (random.random(count) < POSITIVE_SHARE).astype(np.int64)
    points = random.standard_normal((count, 2)) + 1.5 * targets[:, None]
    return Data(np.column_stack([points, np.ones(count)]), targets)


def train(client: LossClient, data: Data, positive_weight: float) -> Floats:
    """Gradient descent on the weighted loss, whose gradients come from lossd."""
    loss = BinaryCrossEntropy(positive_weights=[positive_weight])
    weights = np.zeros(3)
    for _ in range(STEPS):
        logits = data.inputs @ weights
        result = client.compute(loss, predictions=logits, targets=data.targets, per_example=False)
        weights -= 20 / (10 + positive_weight) * (data.inputs.T @ result.gradients["predictions"])
    return weights


def judge(client: LossClient, logits: Floats, targets: Labels) -> list[MetricResult]:
    """Every metric of the same predictions, in one call."""
    return client.evaluate(list(METRICS.values()), predictions=logits, targets=targets)


def compare(client: LossClient) -> dict[str, list[MetricResult]]:
    """The models and what the metrics say of each, on data that no model has seen."""
    random = np.random.default_rng(0)
    seen, unseen = sample(random, 4000), sample(random, 20000)
    chance = np.full(len(unseen.targets), np.log(POSITIVE_SHARE / (1 - POSITIVE_SHARE)))
    judged = {"always the same chance": judge(client, chance, unseen.targets)}
    for weight in (1, 5, 30):
        weights = train(client, seen, weight)
        name = f"positives weigh {weight}"
        judged[name] = judge(client, unseen.inputs @ weights, unseen.targets)
    return judged


def table_of(judged: dict[str, list[MetricResult]]) -> Table:
    """A row a model, a column a metric."""
    table = Table("model", *METRICS)
    for name, results in judged.items():
        table.add_row(name, *map(_cell, results))
    return table


def _cell(result: MetricResult) -> str:
    return result.reason if result.value is None else f"{result.value:.4f}"


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[LossClient]:
    """A client of a server that runs, or of one of its own."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(
            LossClient(address or stack.enter_context(running_server()).address)
        )


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--address", help="of a server; one is started without")
    with connected(parser.parse_args().address) as client:
        Console(width=110).print(table_of(compare(client)))


if __name__ == "__main__":
    main()
