"""The metrics as data: for ``ListMetrics`` and the command line."""

from lossd import v1
from lossd.evaluation import METRICS, Metric
from lossd.losses import LOSSES
from lossd.serving.wire.descriptions import describe_parameter


def list_metrics() -> v1.ListMetricsResponse:
    """Describes every metric, by name."""
    return v1.ListMetricsResponse(metrics=[_describe(metric) for metric in METRICS.values()])


def _describe(metric: Metric) -> v1.MetricDescription:
    inputs = [
        v1.MetricInputDescription(
            name=one.name, description=one.description, shapes=one.shapes, sequences=one.is_text
        )
        for one in metric.inputs
    ]
    return v1.MetricDescription(
        name=metric.name,
        message=metric.message,
        summary=metric.summary,
        formula=metric.formula,
        reference=metric.reference,
        inputs=inputs,
        parameters=[describe_parameter(parameter) for parameter in metric.all_parameters],
        surrogate=next(loss.name for loss in LOSSES.values() if loss.message == metric.surrogate),
    )
