"""Losses on the CPU: tiles of a batch, run by a pool of threads.

A tile fits the second-level cache.  Its inputs are read once; its values and gradients are scaled
while they are still there and are written once, to their place in the reply.  NumPy lets other
threads run while it computes, so threads are enough.
"""

import functools
import itertools
import math
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lossd.backends import (
    BLOCK_ELEMENTS,
    Array,
    Buffers,
    Checkpoint,
    Evaluated,
    block_of,
    each_row,
    nonfinite_rows,
)
from lossd.backends._coupled import CoupledEvaluation, evaluate_coupled
from lossd.backends._images import look
from lossd.backends._opposed import OpposedEvaluation, evaluate_opposed
from lossd.backends._rounding import put
from lossd.backends._sets import SetEvaluation, evaluate_set
from lossd.batch import Batch, Operand, domain_error
from lossd.losses import Anchors, Evaluation, Opposed, Shape, Whole
from lossd.networks import Device, Placed, Placements
from lossd.reduction import Floats, block_sums

# The windows of a convolution that go into one product: 2 MiB of float32, about a cache.
PRODUCT_ELEMENTS = 1 << 19


class NumpyBackend:
    """Computes on the CPU with a pool of ``threads`` threads, shared by all calls."""

    name = "numpy"

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lossd-compute")
        # Products run on threads of ours, and their bits may not follow how BLAS would split them.
        # It holds for the process and stays, since another backend may still rely on it.
        threadpool_limits(1, user_api="blas")
        self._networks = Placements(Device(np, PRODUCT_ELEMENTS), np.asarray)

    @property
    def device(self) -> str:
        """The device, in words."""
        return f"{platform.machine()} CPU, {self.threads} threads"

    def evaluate(
        self, batch: Batch, buffers: Buffers, *, zero_nonfinite: bool, checkpoint: Checkpoint
    ) -> Evaluated:
        """See ``Backend.evaluate``."""
        if not batch.loss.shape.has_values:
            compute = functools.partial(self._compute_set, batch, checkpoint)
            return evaluate_set(batch, buffers, compute, zero_nonfinite=zero_nonfinite)
        if batch.loss.shape is Shape.OPPOSED:
            checkpoint()
            opposed = functools.partial(_compute_opposed, batch)
            return evaluate_opposed(batch, buffers, opposed, zero_nonfinite=zero_nonfinite)
        if batch.loss.shape is Shape.COUPLED:
            coupled = functools.partial(self._compute_coupled, batch, checkpoint)
            return evaluate_coupled(
                batch, buffers, coupled, zero_nonfinite=zero_nonfinite, checkpoint=checkpoint
            )
        placed = self._networks.find(batch.view.network, batch.dtype) if batch.view else None
        run = _Run(batch, buffers, zero_nonfinite, placed)
        tiles = list(_tiles(batch))

        def work(index: int) -> None:
            checkpoint()
            run.tile(tiles[index])

        try:
            self._for_each(len(tiles), work)
        except _OutsideDomainError as error:
            # Tiles run in any order; the whole tensor is looked at again for the first element.
            raise domain_error(error.operand, batch.plan.silent) from None
        return run.finished()

    def _compute_set(
        self, batch: Batch, checkpoint: Checkpoint, rows: Sequence[Array], weights: Floats
    ) -> SetEvaluation:
        checkpoint()
        whole = Whole(weights, self._pieces(checkpoint))
        with np.errstate(all="ignore"):
            found = batch.loss.body(np, *rows, whole, **batch.parameters)
            gradients = {name: found.gradient(name) for name in batch.gradients}
        return SetEvaluation(float(found.value), gradients, found.status)

    def _compute_coupled(
        self, batch: Batch, checkpoint: Checkpoint, rows: Sequence[Array | None], scales: Floats
    ) -> CoupledEvaluation:
        checkpoint()
        anchors = Anchors(scales, frozenset(batch.gradients), self._pieces(checkpoint))
        with np.errstate(all="ignore"):
            found = batch.loss.body(np, *rows, anchors, **batch.parameters)
            gradients = {name: found.gradient(name) for name in batch.gradients}
        return CoupledEvaluation(found.value, gradients, found.outputs, found.statuses)

    def _pieces(self, checkpoint: Checkpoint) -> Callable[[int, Callable[[int], None]], None]:
        """What calls the pieces of a body's work, on the pool where that pays."""

        def for_each(count: int, work: Callable[[int], None]) -> None:
            def piece(index: int) -> None:
                checkpoint()
                with np.errstate(all="ignore"):  # each thread has its own
                    work(index)

            self._for_each(count, piece)

        return for_each

    def _for_each(self, count: int, work: Callable[[int], None]) -> None:
        """Calls ``work`` with 0 to ``count`` - 1, on the pool where that pays."""
        if count <= 1 or self.threads == 1:
            for index in range(count):
                work(index)
            return
        indices = itertools.count()
        failures: list[BaseException] = []

        def drain() -> None:
            while not failures and (index := next(indices)) < count:
                try:
                    work(index)
                except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                    failures.append(error)

        futures = [self._pool.submit(drain) for _ in range(min(self.threads, count))]
        for future in futures:
            future.result()
        try:
            if failures:
                raise failures[0]
        finally:
            failures.clear()  # an error that its own frames hold would keep their arrays too

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
        self._networks.clear()


def _compute_opposed(
    batch: Batch, given: list[Array | None], opposed: Opposed
) -> OpposedEvaluation:
    found = batch.loss.body(np, *given, opposed, **batch.parameters)
    gradients = {name: found.gradient(name) for name in batch.gradients}
    return OpposedEvaluation(found.value, gradients, found.statuses)


class _OutsideDomainError(Exception):
    def __init__(self, operand: Operand) -> None:
        super().__init__()
        self.operand = operand


@dataclass(frozen=True, slots=True)
class _Tile:
    """Some rows, and of a row that is too long for the cache some columns."""

    rows: slice
    columns: slice  # of the last axis; all of it unless the row is cut
    segment: int  # which part of its row it is

    @property
    def window(self) -> tuple[Any, ...]:
        return self.rows, ..., self.columns


def _segments(batch: Batch) -> int:
    """Into how many parts a row is cut: only pointwise losses can be."""
    if batch.loss.shape is not Shape.POINTWISE:
        return 1
    return math.ceil(batch.length / BLOCK_ELEMENTS)


def _tiles(batch: Batch) -> list[_Tile]:
    """Tiles of one block each, whose bounds depend on the shape alone."""
    step = block_of(batch)
    segments = _segments(batch)
    return [
        _Tile(
            slice(start, min(start + step, batch.rows)),
            _columns(segment, batch.length) if segments > 1 else slice(None),
            segment,
        )
        for start in range(0, batch.rows, step)
        for segment in range(segments)
    ]


def _columns(segment: int, length: int) -> slice:
    return slice(segment * BLOCK_ELEMENTS, min((segment + 1) * BLOCK_ELEMENTS, length))


class _Run:
    """One evaluation: every tile writes to places of its own, so no lock is needed."""

    def __init__(
        self,
        batch: Batch,
        buffers: Buffers,
        zero_nonfinite: bool,  # noqa: FBT001
        network: Placed | None = None,
    ) -> None:
        self._batch = batch
        self._network = network
        self._buffers = buffers
        self._zero_nonfinite = zero_nonfinite
        self._step = block_of(batch)
        self._sums = np.zeros(math.ceil(batch.rows / self._step))
        self._nonfinite = np.zeros(batch.rows, np.bool_)
        self._statuses: list[tuple[slice, Array]] = []  # few losses give any
        self._vectors = [name for name in batch.loss.vectors if len(batch.parameters[name])]
        # Sums over the parts of long rows, which become values when all parts are there.
        segments = _segments(batch)
        self._parts = np.zeros((batch.rows, segments)) if segments > 1 else None

    def tile(self, tile: _Tile) -> None:
        """Computes one tile."""
        with np.errstate(all="ignore"):
            evaluation = self._evaluate(tile)
            if evaluation.statuses is not None:
                self._statuses.append((tile.rows, evaluation.statuses))
            for name, buffer in self._buffers.gradients.items():
                self._write_gradient(tile, evaluation.gradient(name), buffer[tile.window])
            for name, buffer in self._buffers.outputs.items():
                self._write_output(tile.rows, evaluation.outputs[name], buffer[tile.rows])
            if self._parts is None:
                self._write_values(tile.rows, self._example_values(evaluation.value))
            else:
                self._parts[tile.rows, tile.segment] = np.add.reduce(evaluation.value, axis=-1)

    def _evaluate(self, tile: _Tile) -> Evaluation:
        batch = self._batch
        operands = [self._read(operand, tile) for operand in batch.operands]
        if self._network is not None:
            return look(batch, self._network, operands, batch.parameters)
        cut = {name: batch.parameters[name][tile.columns] for name in self._vectors}
        return batch.loss.body(np, *operands, **{**batch.parameters, **cut})

    def _read(self, operand: Operand, tile: _Tile) -> Array:
        if operand.is_classes:
            return operand.rows[tile.rows]
        values = operand.rows[tile.rows] if operand.rows.ndim == 1 else operand.rows[tile.window]
        self._check_domain(operand, values, tile)
        if not values.flags.aligned:  # as bytes lie in a message; one copy now spares many later
            values = values.copy()
        return np.ascontiguousarray(values, self._batch.dtype)

    def _check_domain(self, operand: Operand, values: Array, tile: _Tile) -> None:
        if operand.input.domain is None:
            return
        wrong = operand.input.domain.outside(values)
        silent = self._batch.plan.silent
        if silent is not None:
            wrong[silent[tile.rows]] = False
        if wrong.any():
            raise _OutsideDomainError(operand)

    def _write_gradient(self, tile: _Tile, gradient: Array, out: Array) -> None:
        scale = self._scale(tile.rows)
        factor = each_row(scale, gradient) if scale.ndim else scale
        if out.dtype == np.float16:
            put(gradient * factor, out)
        else:
            np.multiply(gradient, factor, out=out, casting="unsafe")
        if not scale.all():  # a scale of 0 takes nothing, also of infinity and NaN
            out[scale == 0] = 0
        silent = self._batch.plan.silent
        if silent is not None:
            out[silent[tile.rows]] = 0
        if not np.isfinite(out).all():
            self._flag(tile.rows, nonfinite_rows(out))

    def _write_output(self, rows: slice, output: Array, out: Array) -> None:
        out[...] = output
        silent = self._batch.plan.silent
        if silent is not None:
            out[silent[rows]] = 0

    def _flag(self, rows: slice, wrong: Array) -> None:
        """Only ever sets: the parts of one long row may flag it at the same time."""
        self._nonfinite[rows][wrong] = True

    def _scale(self, rows: slice) -> Any:
        """One number of the compute type, or one a row."""
        batch = self._batch
        scale = batch.plan.gradient_scale
        if batch.loss.shape is Shape.POINTWISE:
            scale = scale / batch.length
        if isinstance(scale, float):
            return batch.dtype.type(scale)
        return scale[rows].astype(batch.dtype)

    def _example_values(self, value: Array) -> Array:
        """One value a row: elements of pointwise losses are averaged."""
        if value.ndim == 1:
            return value
        if self._batch.length == 1:
            return value[:, 0]
        means: Array = np.add.reduce(value, axis=-1)
        means /= self._batch.length
        return means

    def _write_values(self, rows: slice, values: Array) -> None:
        plan = self._batch.plan
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
        self._sums[rows.start // self._step] = block_sums(values, weights, self._step)[0]

    def finished(self) -> Evaluated:
        """What is left to do when every tile is done."""
        if self._parts is not None:
            self._write_joined(self._parts)
        if self._zero_nonfinite and self._nonfinite.any():
            for buffer in (*self._buffers.gradients.values(), *self._buffers.outputs.values()):
                buffer[self._nonfinite] = 0
        return Evaluated(self._sums, self._nonfinite, self._all_statuses())

    def _write_joined(self, parts: Array) -> None:
        with np.errstate(all="ignore"):
            means = np.add.reduce(parts, axis=-1) / self._batch.length
            values = means.astype(self._batch.dtype)
            for row in range(self._batch.rows):  # rows this long are blocks of one
                self._write_values(slice(row, row + 1), values[row : row + 1])

    def _all_statuses(self) -> Array | None:
        if not self._statuses:
            return None
        found = np.zeros(self._batch.rows, np.uint8)
        for rows, statuses in self._statuses:
            found[rows] = statuses
        return found
