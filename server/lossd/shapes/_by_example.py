"""Shapes whose examples are computed each by itself: piece by piece, on any backend.

A piece fits the cache of the CPU, or the memory of a device.  Its inputs are read once; its values
and gradients are scaled while they are still there and are written once, to their place in the
reply.  What follows from them (flags, sums) is the same code for every backend.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.backends import Backend, Body, Compute, Piece
from lossd.batch import Array, Batch, check_domains
from lossd.losses import Choices, Interval
from lossd.reduction import block_sums
from lossd.shapes._blocks import BLOCK_ELEMENTS, block_rows
from lossd.shapes._shape import Buffers, Checkpoint, Evaluated, ShapeRules

Domain = Interval | Choices


class ByExample(ShapeRules):
    """A shape whose examples do not know of each other.

    With ``is_mean_of_elements`` the value of an example, and with it the gradient, is the mean of
    what its elements come to each by itself, so that a long row can be cut.
    """

    is_mean_of_elements = False

    def block_rows(self, length: int) -> int:
        """How many rows are summed together, and computed by one thread."""
        return block_rows(length)

    def body(self, batch: Batch, backend: Backend) -> Body:
        """What is run over each piece: the body of the loss."""
        del backend
        return batch.loss.body

    def evaluate(
        self,
        batch: Batch,
        buffers: Buffers,
        backend: Backend,
        *,
        zero_nonfinite: bool,
        checkpoint: Checkpoint,
    ) -> Evaluated:
        """See ``ShapeRules.evaluate``."""
        cutting = _Cutting.of(self, batch, backend)
        compute = backend.over_rows(batch, self.body(batch, backend))
        run = _Run(batch, buffers, cutting, compute, zero_nonfinite=zero_nonfinite)
        cuts = list(cutting.cuts(batch))

        def work(index: int) -> None:
            checkpoint()
            run.piece(cuts[index])

        backend.side_by_side(len(cuts), work)
        return run.finished()


@dataclass(slots=True)
class _Cut:
    """Some rows, and of a row that is too long for the cache some columns."""

    rows: slice
    columns: slice | None = None  # None for all
    segment: int = 0  # which part of its row it is

    @property
    def window(self) -> Any:
        return self.rows if self.columns is None else (self.rows, self.columns)


@dataclass(slots=True)
class _Cutting:
    """How a batch is cut, by its shape and what a backend takes at a time.

    A piece is some blocks, or one of the ``segments`` of a row; ``elements`` are what a value is
    the mean of.
    """

    block: int
    step: int
    segments: int
    elements: int

    @classmethod
    def of(cls, shape: ByExample, batch: Batch, backend: Backend) -> "_Cutting":
        block = shape.block_rows(batch.length)
        blocks = max(1, backend.piece_elements // (block * batch.length))
        is_cut = shape.is_mean_of_elements and backend.cuts_rows
        return cls(
            block=block,
            step=block * blocks,
            segments=math.ceil(batch.length / BLOCK_ELEMENTS) if is_cut else 1,
            elements=batch.length if shape.is_mean_of_elements else 1,
        )

    def cuts(self, batch: Batch) -> Iterator[_Cut]:
        for start in range(0, batch.rows, self.step):
            rows = slice(start, min(start + self.step, batch.rows))
            if self.segments == 1:
                yield _Cut(rows)
                continue
            for segment in range(self.segments):
                first = segment * BLOCK_ELEMENTS
                columns = slice(first, min(first + BLOCK_ELEMENTS, batch.length))
                yield _Cut(rows, columns, segment)


class _Run:
    """One evaluation: every piece writes to places of its own, so no lock is needed."""

    def __init__(
        self,
        batch: Batch,
        buffers: Buffers,
        cutting: _Cutting,
        compute: Compute,
        *,
        zero_nonfinite: bool,
    ) -> None:
        self._batch = batch
        self._buffers = buffers
        self._cutting = cutting
        self._compute = compute
        self._zero_nonfinite = zero_nonfinite
        self._scale = batch.plan.gradient_scale
        if cutting.elements > 1:
            self._scale = self._scale / cutting.elements
        self._sums = np.zeros(math.ceil(batch.rows / cutting.block))
        self._nonfinite = np.zeros(batch.rows, np.bool_)
        self._statuses: list[tuple[slice, Array]] = []  # few losses give any
        # Sums over the parts of long rows, which become values when all parts are there.
        is_cut = cutting.segments > 1
        self._parts = np.zeros((batch.rows, cutting.segments)) if is_cut else None

    def piece(self, cut: _Cut) -> None:
        """Computes one piece."""
        with np.errstate(all="ignore"):
            piece = self._piece(cut)
            found = self._compute(piece)
            if found.statuses is not None:
                self._statuses.append((cut.rows, found.statuses))
            for gradient in piece.gradients.values():
                self._settle_gradient(cut.rows, piece, gradient)
            for output in piece.outputs.values():
                if piece.silent is not None:
                    output[piece.silent] = 0
            if self._parts is None:
                self._settle_values(cut.rows, found.values)
            else:
                self._parts[cut.rows, cut.segment] = found.values

    def _piece(self, cut: _Cut) -> Piece:
        batch, plan, window = self._batch, self._batch.plan, cut.window
        silent = None if plan.silent is None else plan.silent[cut.rows]
        inputs = {}
        for operand in batch.operands:
            rows = operand.rows[window]
            if operand.input.domain is not None and not operand.is_classes:
                self._check_domain(operand.input.domain, rows, silent)
            inputs[operand.name] = rows, operand.compute_type(batch.dtype)
        parameters = batch.parameters
        if cut.columns is not None:
            vectors = (name for name in batch.loss.vectors if len(parameters[name]))
            parameters = {**parameters, **{name: parameters[name][cut.columns] for name in vectors}}
        scale = self._scale
        return Piece(
            count=cut.rows.stop - cut.rows.start,
            inputs=inputs,
            parameters=parameters,
            scale=batch.dtype.type(scale)
            if isinstance(scale, float)
            else scale[cut.rows].astype(batch.dtype),
            silent=silent,
            elements=self._cutting.elements if cut.columns is None else 1,
            gradients={name: out[window] for name, out in self._buffers.gradients.items()},
            outputs={name: out[cut.rows] for name, out in self._buffers.outputs.items()},
        )

    def _check_domain(self, domain: Domain, rows: Array, silent: Array | None) -> None:
        """Looks at the inputs while they are in the cache anyway."""
        wrong = domain.outside(rows)
        if silent is not None:
            wrong[silent] = False
        if wrong.any():
            # Pieces run in any order; all is looked at again for the first element.
            check_domains(self._batch)

    def _settle_gradient(self, rows: slice, piece: Piece, gradient: Array) -> None:
        """Takes nothing where the scale is 0, or the row is silent, also of infinity and NaN."""
        if not piece.scale.all():
            gradient[piece.scale == 0] = 0
        if piece.silent is not None:
            gradient[piece.silent] = 0
        if not np.isfinite(gradient).all():
            axes = tuple(range(1, gradient.ndim))
            self._flag(rows, np.logical_not(np.isfinite(gradient).all(axis=axes)))

    def _flag(self, rows: slice, wrong: Array) -> None:
        """Only ever sets: the parts of one long row may flag it at the same time."""
        self._nonfinite[rows][wrong] = True

    def _settle_values(self, rows: slice, values: Array) -> None:
        plan, block = self._batch.plan, self._cutting.block
        if plan.silent is not None:
            values[plan.silent[rows]] = 0
        finite = np.isfinite(values)
        if not finite.all():
            self._flag(rows, ~finite)
        if self._zero_nonfinite:
            values[self._nonfinite[rows]] = 0
        if self._buffers.values is not None:
            self._buffers.values[rows] = values
        weights = None if plan.weights is None else plan.weights[rows]
        found = block_sums(values, weights, block)
        first = rows.start // block
        self._sums[first : first + len(found)] = found

    def finished(self) -> Evaluated:
        """What is left to do when every piece is done."""
        if self._parts is not None:
            self._settle_joined(self._parts)
        if self._zero_nonfinite and self._nonfinite.any():
            for buffer in (*self._buffers.gradients.values(), *self._buffers.outputs.values()):
                buffer[self._nonfinite] = 0
        return Evaluated(self._sums, self._nonfinite, self._all_statuses())

    def _settle_joined(self, parts: Array) -> None:
        with np.errstate(all="ignore"):
            means = np.add.reduce(parts, axis=-1) / self._batch.length
            values = means.astype(self._batch.dtype)
            for row in range(self._batch.rows):  # rows this long are blocks of one
                self._settle_values(slice(row, row + 1), values[row : row + 1])

    def _all_statuses(self) -> Array | None:
        if not self._statuses:
            return None
        found = np.zeros(self._batch.rows, np.uint8)
        for rows, statuses in self._statuses:
            found[rows] = statuses
        return found
