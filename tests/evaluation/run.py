"""Runs a metric as a server does, without one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.evaluation import METRICS, MetricBatch, Score, Sequences, State, merged

Array = npt.NDArray[Any]


def batch(*, weights: Any = None, mask: Any = None, **inputs: Any) -> MetricBatch:
    """A batch of array-likes; hypotheses and references are sequences."""
    texts = {name: sequences(name, inputs.pop(name)) for name in _TEXTS if name in inputs}
    return MetricBatch(
        inputs={name: np.asarray(value) for name, value in inputs.items()},
        sequences=texts,
        weights=None if weights is None else np.asarray(weights),
        mask=None if mask is None else np.asarray(mask),
    )


_TEXTS = ("hypotheses", "references")


def sequences(name: str, given: Sequence[Any]) -> Sequences:
    """One hypothesis for each example; references as they are."""
    groups = [[one] for one in given] if name == "hypotheses" else given
    made = tuple(
        tuple(one if isinstance(one, str) else tuple(one) for one in group) for group in groups
    )
    return Sequences(made, any(isinstance(one, str) for group in made for one in group))


def state(name: str, parameters: Mapping[str, Any] | None = None, **given: Any) -> State:
    """The state of one batch."""
    metric = METRICS[name]
    return metric.observe(batch(**given), metric.complete(parameters or {}))


def score(name: str, parameters: Mapping[str, Any] | None = None, **given: Any) -> Score:
    """The result of one batch."""
    return score_of(name, [state(name, parameters, **given)], parameters)


def score_of(
    name: str, states: Sequence[State], parameters: Mapping[str, Any] | None = None
) -> Score:
    """The result of several states."""
    metric = METRICS[name]
    return metric.score(merged(states), metric.complete(parameters or {}))


def value(name: str, parameters: Mapping[str, Any] | None = None, **given: Any) -> float:
    """The number of one batch, which is defined."""
    found = score(name, parameters, **given).value
    assert found is not None
    return found


def values_of(found: Score) -> Array:
    """The numbers of the classes, which there are."""
    assert found.values is not None
    return found.values
