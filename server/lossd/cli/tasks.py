"""The tasks of losses and metrics, by which they are listed."""

from collections.abc import Iterable, Mapping
from typing import Any

from lossd.cli.page import Page

# The tasks of the contract, by the first field number of each in its spec.
LOSS_TASKS = {
    1: "regression", 20: "classification", 40: "overlap and ranking", 60: "embeddings",
    80: "sequences, adversaries and features", 100: "sums of losses",
    120: "policies, preferences and distillation",
}  # fmt: skip
METRIC_TASKS = {
    1: "classification", 20: "ranking and probabilities", 40: "regression",
    60: "text and sequences", 80: "retrieval",
}  # fmt: skip
UNKNOWN_TASK = "unknown to this version"


def task_of(spec: Any, name: str, tasks: Mapping[int, str]) -> str:
    """Returns the task of a loss or a metric, by its field in the spec of the contract."""
    number = spec.DESCRIPTOR.fields_by_name[name].number
    return tasks[max(first for first in tasks if first <= number)]


def by_task(pages: Iterable[Page], tasks: Mapping[int, str]) -> list[Page]:
    """Returns pages in the order of their tasks, those of tasks unknown here at the end."""
    order = [*tasks.values(), UNKNOWN_TASK]
    return sorted(pages, key=lambda page: (order.index(page.task), page.name))
