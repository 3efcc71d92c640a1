"""Evaluation metrics: lossd's own code on one thread against scikit-learn.

    python benchmarks/evaluation.py [--examples N] [--rounds N]

The contenders take turns, and medians are compared.  "state" is what lossd holds between the batch
and the result, against the bytes of the inputs; "peak" is what Python and NumPy allocate on top of
the inputs, at most.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.metrics
from rich.console import Console
from rich.table import Table

from lossd.evaluation import METRICS, MetricBatch, State

Inputs = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A metric, inputs for it, and scikit-learn's name for the same."""

    name: str
    inputs: Inputs
    oracle: Callable[[Inputs], float]


def cases(count: int) -> list[Case]:
    """The metrics on inputs of so many examples."""
    random = np.random.default_rng(0)
    yes = random.integers(0, 2, count)
    scores = random.standard_normal(count, dtype=np.float32) + yes
    labels = random.integers(0, 10, count)
    guesses = np.where(random.random(count) < 0.7, labels, random.integers(0, 10, count))
    ranking = {"predictions": scores, "targets": yes}
    tied = {"predictions": np.round(scores, 2), "targets": yes}
    classes = {"predictions": guesses, "targets": labels}
    sk = sklearn.metrics
    return [
        Case("roc_auc", ranking, lambda i: sk.roc_auc_score(i["targets"], i["predictions"])),
        Case("roc_auc", tied, lambda i: sk.roc_auc_score(i["targets"], i["predictions"])),
        Case(
            "average_precision",
            ranking,
            lambda i: sk.average_precision_score(i["targets"], i["predictions"]),
        ),
        Case("accuracy", classes, lambda i: sk.accuracy_score(i["targets"], i["predictions"])),
        Case("f1", classes, lambda i: sk.f1_score(i["targets"], i["predictions"], average="macro")),
        Case(
            "log_loss",
            ranking,
            lambda i: sk.log_loss(i["targets"], 1 / (1 + np.exp(-i["predictions"].astype(float)))),
        ),
    ]


def observe(case: Case) -> State:
    """Returns the state that lossd keeps of the inputs."""
    metric = METRICS[case.name]
    return metric.observe(MetricBatch(inputs=case.inputs), metric.complete({}))


def ours(case: Case) -> float:
    """The number of lossd."""
    metric = METRICS[case.name]
    return metric.score(observe(case), metric.complete({})).value or 0.0


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """Seconds and the number."""
    started = time.perf_counter()
    value = call()
    return time.perf_counter() - started, value


def peak(call: Callable[[], float]) -> int:
    """Bytes that a call allocates at most."""
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def measure(case: Case, rounds: int) -> tuple[str, ...]:
    """One row of the table."""
    mine, theirs = [], []
    for _ in range(rounds):
        seconds, value = timed(lambda: ours(case))
        mine.append(seconds)
        seconds, expected = timed(lambda: case.oracle(case.inputs))
        theirs.append(seconds)
        if not np.isclose(value, expected, rtol=1e-9):
            raise SystemExit(f"{case.name}: lossd {value}, scikit-learn {expected}")
    given = sum(array.nbytes for array in case.inputs.values())
    fast, slow = statistics.median(mine), statistics.median(theirs)
    return (
        case.name,
        f"{fast * 1e3:.0f}",
        f"{slow * 1e3:.0f}",
        f"{fast / slow:.2f}",
        f"{observe(case).nbytes / given:.2f}",
        f"{peak(lambda: ours(case)) / given:.1f}",
        f"{peak(lambda: case.oracle(case.inputs)) / given:.1f}",
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(
        "metric", "lossd ms", "scikit-learn ms", "ratio", "state / inputs", "lossd peak / inputs",
        "scikit-learn peak / inputs",
    )  # fmt: skip
    for case in cases(arguments.examples):
        table.add_row(*measure(case, arguments.rounds))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
