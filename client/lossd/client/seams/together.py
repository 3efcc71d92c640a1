"""Together: the body of ``custom-forward-backward`` of a training session."""

from typing import Any

from lossd.client.arrays import Array
from lossd.client.seams._flat import split


def gradients(by_log_probabilities: Array, offsets: Array) -> list[dict[str, Any]]:
    """Returns the ``gradients`` of the body: with respect to log-probabilities, as they are.

    They are not negated, as Tinker's weights are.
    """
    return [
        {"data": one.astype("float32").tolist(), "dtype": "float32"}
        for one in split(by_log_probabilities, offsets)
    ]
