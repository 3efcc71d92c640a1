"""Losses and metrics by their names, for names and parameters that come from a configuration.

Nothing here does any input or output.
"""

from typing import Any, cast

from lossd.client import kinds
from lossd.v1.losses import Loss, LossName  # noqa: TC001 - a type hint that may be asked for
from lossd.v1.metrics import Metric, MetricName  # noqa: TC001 - a type hint that may be asked for


def make_loss(name: "LossName", /, **parameters: Any) -> "Loss":
    """Returns the loss of a name with parameters, where the message is not known before.

        make_loss("cross_entropy", prediction_kind="PROBABILITIES", label_smoothing=0.1)
        make_loss(config.loss, **config.parameters)

    All that takes a loss takes its name too, for the loss with its defaults.

    Args:
        name: Its name, as ``list_losses`` gives it.
        **parameters: Its parameters.

    Raises:
        InvalidRequestError: if there is no such loss, or a parameter is unknown or breaks its form.
    """
    return cast("Loss", kinds.loss_named(name, parameters))


def make_metric(name: "MetricName", /, **parameters: Any) -> "Metric":
    """Returns the metric of a name with parameters, where the message is not known before.

        client.evaluate([make_metric("f1", average="MACRO"), "accuracy"], ...)

    Args:
        name: Its name, for example "roc_auc".
        **parameters: Its parameters.

    Raises:
        InvalidRequestError: if there is no such metric, or a parameter is unknown or breaks its
            form.
    """
    return cast("Metric", kinds.metric_named(name, parameters))
