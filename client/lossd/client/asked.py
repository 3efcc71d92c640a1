"""Arguments of ``compute`` that are no inputs, as ``requests`` takes them."""

from collections.abc import Iterable
from typing import Any

from lossd import v1
from lossd.client import arguments
from lossd.client import metrics as metrics_wire


def asked_of(
    *,
    gradients: Iterable[str] | v1.GradientSelection | None,
    metrics: object,
    lint: object,
    **others: Any,
) -> dict[str, Any]:
    """Returns the arguments of a call as ``request_for`` takes them, more than once if need be.

    Raises:
        InvalidRequestError: if the gradients are no names, a metric is none, or lint is no flag.
    """
    return {
        **others,
        # Read once, since it may be an iterator and a request may be built twice.
        "gradients": arguments.selection(gradients),
        "metrics": metrics_wire.beside(metrics),
        "lint": arguments.flag("lint", lint),
    }
