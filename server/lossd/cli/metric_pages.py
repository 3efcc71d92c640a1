"""Pages about metrics, from their declarations and from the contract."""

from dataclasses import replace

from lossd import v1
from lossd.cli import snippets
from lossd.cli.page import InputEntry, Page
from lossd.cli.page_parts import declared_page, parameter_entry
from lossd.cli.tasks import METRIC_TASKS, by_task, task_of
from lossd.evaluation import METRICS, Metric
from lossd.losses import LOSSES
from lossd.serving.wire import descriptions


def metric_pages() -> list[Page]:
    """Returns the pages of all metrics, by task."""
    return by_task(map(_page_of_metric, METRICS.values()), METRIC_TASKS)


def _page_of_metric(metric: Metric) -> Page:
    inputs = [
        InputEntry(one.name, one.description, one.shapes, (), "none", is_optional=False)
        for one in metric.inputs
    ]
    surrogate = next(loss.name for loss in LOSSES.values() if loss.message == metric.surrogate)
    parameters = [
        parameter_entry(metric.message, parameter, descriptions.type_name(parameter), "none")
        for parameter in metric.all_parameters
    ]
    first = metric.examples[0]
    files = {one.name: "txt" if one.is_text else "npy" for one in metric.inputs}
    task = task_of(v1.MetricSpec, metric.name, METRIC_TASKS)
    return replace(
        declared_page(metric, task, inputs, parameters),
        surrogate=surrogate,
        example=snippets.example(first, first.values if first.value is None else first.value),
        command=snippets.evaluate_command(metric.name, files, first.parameters),
        python=snippets.evaluate_python(metric.message, list(files), first.parameters),
    )
