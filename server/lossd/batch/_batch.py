"""A batch: a job that was checked and laid out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lossd.batch._layout import Operand
from lossd.batch._parameters import parameter_error
from lossd.batch._rows import domain_error
from lossd.losses import Choices, Interval, Loss, Output, ParameterError
from lossd.networks import ImagePipeline
from lossd.reduction import RowPlan


@dataclass(slots=True)  # not frozen: that would take twice the time, for every call
class Batch:
    """A checked job, laid out: ``rows`` examples of ``length`` elements, in all classes."""

    loss: Loss
    parameters: Mapping[str, Any]  # what the body takes; vectors as arrays of ``dtype``
    operands: tuple[Operand, ...]
    example_shape: tuple[int, ...]
    rows: int
    length: int
    dtype: np.dtype[Any]  # the type to compute in: float32 or float64
    plan: RowPlan
    gradients: tuple[str, ...]
    outputs: tuple[Output, ...]
    parts: tuple[slice, ...] = ()  # which examples an operand has rows of, where not of all
    pipeline: ImagePipeline | None = None  # the network that images are looked at through
    layout_parameters: Mapping[str, Any] = field(default_factory=dict)  # what no body takes

    def filled(self, operands: tuple[Operand, ...], plan: RowPlan) -> "Batch":
        """Returns a batch like this one, of other data."""
        return Batch(  # by position and in full: ``replace`` would take ten times as long
            self.loss,
            self.parameters,
            operands,
            self.example_shape,
            self.rows,
            self.length,
            self.dtype,
            plan,
            self.gradients,
            self.outputs,
            self.parts,
            self.pipeline,
            self.layout_parameters,
        )

    def operand(self, name: str) -> Operand:
        """Returns the operand of that name."""
        return next(operand for operand in self.operands if operand.name == name)

    def find(self, name: str) -> Operand | None:
        """Returns the operand of that name; None for an optional one not given, or a parameter."""
        return next((operand for operand in self.operands if operand.name == name), None)


def check_rules(batch: Batch, *beside: Any) -> None:
    """Lets the body check its rules between parameters, where nothing else would call it.

    Nothing else does without rows, or where a kernel takes its place.  ``beside`` holds the
    arguments that the body is given after its inputs.

    Raises:
        InvalidParameter: if a parameter breaks one.
    """
    none = {o.name: replace(o, rows=_none_of(o.rows)).as_type(batch.dtype) for o in batch.operands}
    rows: list[Any] = list(none.values())
    if not batch.loss.inputs[0].is_list:
        rows = [none.get(declared.name) for declared in batch.loss.inputs]
    try:
        with np.errstate(all="ignore"):
            batch.loss.body(np, *rows, *beside, **_of_no_rows(batch))
    except ParameterError as error:
        raise parameter_error(batch.loss, error) from error


def _none_of(rows: Any) -> Any:
    """Returns no rows, on the host wherever those are."""
    return np.empty((0, *rows.shape[1:]), rows.dtype)


def _of_no_rows(batch: Batch) -> dict[str, Any]:
    """Returns the parameters for no rows, where vectors with a number for each row are empty."""
    by_row = (name for name in batch.loss.vectors if np.ndim(batch.parameters[name]) > 1)
    return {**batch.parameters, **{name: batch.parameters[name][:0] for name in by_row}}


def check_domains(batch: Batch) -> None:
    """Checks all inputs at once against their domains.

    Raises:
        InvalidTensor: for the first number of the first input that is outside its domain.
    """
    for operand in batch.operands:
        if operand.is_classes or operand.input.domain is None:
            continue
        with np.errstate(invalid="ignore"):  # comparing bfloat16's NaN warns
            if _are_all_within(operand.input.domain, operand.rows):
                continue
            wrong = operand.outside(operand.input.domain, operand.rows)
        if batch.plan.excluded is not None:
            wrong[batch.plan.excluded] = False
        if wrong.any():
            raise domain_error(operand, wrong)


def _are_all_within(domain: Interval | Choices, rows: Any) -> bool:
    """Returns whether the least and the largest number are in an interval, and none is NaN.

    This takes a third of the time of a look at each.
    """
    if not isinstance(domain, Interval) or not rows.size:
        return False
    ends = np.array([rows.min(), rows.max()], rows.dtype)
    is_number = bool((ends == ends).all())  # noqa: PLR0124 - NaN is not
    return is_number and not domain.outside(ends).any()
