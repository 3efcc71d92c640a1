"""The interface of a shape: everything that the shape of a loss decides."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lossd.backends import Backend
from lossd.batch import (
    Array,
    Batch,
    Given,
    Job,
    Layout,
    Operand,
    check_rules,
    plan_each,
    safe_classes,
)
from lossd.checkpoints import Checkpoint
from lossd.losses import Input, Loss, Status
from lossd.reduction import Flags, Floats, Reduction, RowPlan
from lossd.shapes._memory import FEW_ELEMENTS, gradient_bytes, laid_bytes, row_bytes, widened


@dataclass(slots=True)
class Buffers:
    """The arrays that the results are written to.

    ``values`` has one number for each row, of the compute type; None if nobody wants them.
    ``gradients`` are laid out like the rows of their operands, in the type that is sent.
    ``outputs`` have one number for each row, of the compute type or int64.
    """

    values: Array | None
    gradients: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(slots=True)  # not frozen: that would take four times as long, for every call
class Evaluated:
    """The results that are not in the buffers.

    ``sums`` are the weighted sums of the values over blocks of rows, in index order.
    ``nonfinite`` flags the rows whose value or gradient is not finite; None where all are.
    ``statuses`` has the status that the loss gives each row, excluded ones too; None without any.
    ``status`` is that of a whole set, or of gradients that belong to no example.
    """

    sums: Floats
    nonfinite: Flags | None
    statuses: npt.NDArray[np.uint8] | None = None
    status: Status | None = None


class ShapeRules(abc.ABC):
    """Everything that follows from the shape of a loss, from layout to results."""

    on_host = False  # whether it is computed on the host, whatever the backend
    reads_rows = False  # whether a backend reads its inputs row by row, and nothing else does

    @abc.abstractmethod
    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """Returns the shapes that an input may have, in the words of the catalogue."""

    @abc.abstractmethod
    def lay_out(self, given: Given) -> Layout:
        """Checks the shapes of the inputs, and says how they are laid out.

        Raises:
            InvalidRequest: or a subclass, naming the thing, the rule and the value.
            TooLarge: for more than can be computed at once.
        """

    def row_axis(self, loss: Loss, parameters: Mapping[str, Any]) -> int | None:
        """Returns the axis of the rows, where inputs are read row by row; None elsewhere."""
        del loss, parameters
        return None

    def in_place(self, loss: Loss) -> frozenset[str]:
        """Returns the inputs, floating point, that are no more than numbers wherever they are read.

        They may be read where a caller can change them meanwhile, however they are laid out.
        """
        del loss
        return frozenset()

    def needed(  # noqa: PLR0917 - all that it follows from
        self,
        job: Job,
        layout: Layout,
        arrays: Mapping[str, Array],
        parameters: Mapping[str, Any],
        dtype: np.dtype[Any],
        workers: int,
    ) -> int:
        """Returns the bytes of a job beside its inputs and gradients; ``workers`` compute it."""
        if layout.rows * layout.length <= FEW_ELEMENTS:
            return 0
        moved = gradient_bytes(job, layout, arrays, only_moved=True)
        beside = laid_bytes(layout, arrays) + moved
        working = self.working(job.loss, layout, parameters, workers)
        return beside + row_bytes(job, layout.rows) + widened(dtype, working)

    def is_brief(self, layout: Layout) -> bool:
        """Returns whether computing takes no longer than waiting for a turn would."""
        del layout
        return False

    @abc.abstractmethod
    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """Returns the bytes of what the body makes on its way, computing in float32."""

    def plan(
        self,
        job: Job,
        layout: Layout,
        operands: Sequence[Operand],
        parameters: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> RowPlan:
        """Decides what is done to each row; ``checkpoint`` is called while that takes long.

        Raises:
            InvalidRequest: or a subclass, for a mask, weights, cotangent or labels that break a
                rule.
        """
        del checkpoint  # it is brief

        def factors(ignored: Flags | None, weights: Floats | None) -> Floats | None:
            return self.factors(job, layout, operands, ignored, weights)

        return plan_each(job, layout, operands, parameters, factors)

    def factors(
        self,
        job: Job,
        layout: Layout,
        operands: Sequence[Operand],
        ignored: Flags | None,
        weights: Floats | None,
    ) -> Floats | None:
        """Returns what the loss multiplies each example by before it averages."""
        del layout, ignored, weights
        if job.loss.mean_factor is None or job.reduction is not Reduction.MEAN:
            return None
        found: Floats = job.loss.mean_factor(*(operand.rows for operand in operands))
        return found

    def checked(
        self,
        loss: Loss,
        operands: tuple[Operand, ...],
        excluded: Flags | None,
        parameters: Mapping[str, Any],
    ) -> tuple[Operand, ...]:
        """Returns the operands with indices that are safe to use, whatever excluded rows hold."""
        del loss, parameters
        return tuple([safe_classes(operand, excluded) for operand in operands])

    def check_rules(self, batch: Batch) -> None:
        """Lets the body check its rules between parameters, where there are no rows to compute."""
        check_rules(batch)

    @abc.abstractmethod
    def evaluator(self, template: Batch, backend: Backend, *, zero_nonfinite: bool) -> "Evaluator":
        """Returns the function that computes batches like ``template``, which has no rows itself.

        Excluded rows are exactly 0.  With ``zero_nonfinite``, rows that are not finite are made 0
        and stay flagged.

        Raises:
            InvalidParameter: for a parameter that the body refuses.
        """


class Evaluator(Protocol):
    """Computes values, scaled gradients and outputs of batches that differ in their data alone."""

    def __call__(self, batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
        """Computes a batch; ``checkpoint`` is called between pieces and may raise to stop.

        Raises:
            InvalidRequest: for a target outside its domain, or a parameter that the body refuses.
            DeviceFull: if the device does not have enough memory.
        """
