"""A loss with parameters and inputs: what contracts run."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import Content, Differentiable, Loss
from lossd.reduction import Reduction

Array = npt.NDArray[Any]


class Form(enum.Enum):
    """The kinds of elements of a target."""

    FLOATS = "floats"
    INTEGERS = "integers"
    CLASSES = "classes"


@dataclass(frozen=True, repr=False)
class Case:
    """A loss with parameters and inputs."""

    loss: Loss
    parameters: Mapping[str, Any]
    form: Form
    inputs: Mapping[str, Array]

    def __repr__(self) -> str:
        return f"{self.loss.name} {dict(self.parameters)} {self.form.name}"

    def job(self, **options: Any) -> Job:
        """A request for it."""
        inputs: dict[str, list[Array]] = {}
        for name, array in self.inputs.items():  # "maps[0]" is one of several tensors
            inputs.setdefault(name.partition("[")[0], []).append(array)
        return Job(loss=self.loss, parameters=self.parameters, inputs=inputs, **options)

    def with_inputs(self, **inputs: Array) -> "Case":
        """The same with other inputs."""
        return replace(self, inputs={**self.inputs, **inputs})

    def rows(self, index: Any) -> "Case":
        """The same with some of its examples, which lie along the first axis."""
        return replace(self, inputs={name: array[index] for name, array in self.inputs.items()})

    def astype(self, dtype: npt.DTypeLike) -> "Case":
        """The same with its floating-point inputs rounded."""
        rounded = {n: a.astype(dtype) for n, a in self.inputs.items() if _is_float(a)}
        return self.with_inputs(**rounded)

    @property
    def first(self) -> str:
        """The name of what the loss judges, its first input."""
        return self.loss.inputs[0].name

    @property
    def count(self) -> int:
        """How many examples it has."""
        return len(self.inputs[self.first])

    @property
    def differentiable(self) -> tuple[str, ...]:
        """Inputs whose gradient can be had in this form."""
        floats = {name.partition("[")[0] for name, a in self.inputs.items() if _is_float(a)}
        return tuple(
            i.name
            for i in self.loss.inputs
            if i.differentiable is not Differentiable.NO and i.name in floats
        )

    @property
    def derivatives(self) -> tuple[str, ...]:
        """All gradients that can be had: of inputs, and of numbers among the parameters."""
        numbers = (
            p.name for p in self.loss.parameters if p.differentiable is not Differentiable.NO
        )
        return (*self.differentiable, *numbers)

    @property
    def class_weights(self) -> Array:
        """The denominator of each example under MEAN."""
        weights = self.parameters.get("class_weights", ())
        if self.form is not Form.CLASSES or not len(weights):
            return np.ones(self.count)
        return np.asarray(weights)[self.inputs[class_input(self.loss)]]


def _is_float(array: Array) -> bool:
    return array.dtype.kind not in "iub"  # bfloat16 is of kind V


def class_input(loss: Loss) -> str:
    """The input that may hold class indices."""
    return next(i.name for i in loss.inputs if i.content in (Content.CLASSES, Content.INDICES))


def by_row(numbers: Array, array: Array) -> Array:
    """One number for each row, shaped to go with the elements of an array's rows."""
    return numbers.reshape(-1, *(1,) * (array.ndim - 1))


def values(result: Result) -> Array:
    """The value of each example, which was asked for."""
    assert result.per_example is not None
    return result.per_example


def total(result: Result) -> float:
    """The loss, where there is a reduction."""
    assert result.loss is not None
    return result.loss


def unreduced(engine: Engine, case: Case) -> Array:
    """The value of each example, without weights, a reduction or gradients."""
    return values(engine.run(case.job(reduction=Reduction.NONE, gradients=())))


def looks_of(engine: Engine, job: Job) -> int:
    """How often a job looks whether anybody waits for it."""
    looks: list[None] = []
    engine.run(job, checkpoint=lambda: looks.append(None))
    return len(looks)
