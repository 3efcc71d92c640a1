"""Shapes whose examples are computed independently: piece by piece, on any backend.

A piece fits the cache of the CPU, or the memory of a device.  Its inputs are read once; its values
and gradients are scaled while they are still there and are written once, to their place in the
reply.  The rest (flags, sums) is the same code for every backend.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.backends import Backend, Body, Compute, Computed, Piece, settle
from lossd.batch import Array, Batch, Layout, Operand, check_domains, check_rules
from lossd.checkpoints import Checkpoint
from lossd.losses import Loss
from lossd.reduction import Floats, block_sums
from lossd.shapes._blocks import BLOCK_ELEMENTS, block_rows
from lossd.shapes._memory import FEW_ELEMENTS, elements_at_once, no_flags
from lossd.shapes._shape import Buffers, Evaluated, Evaluator, ShapeRules

_NO_SUMS: Floats = np.zeros(0)
# A piece of so many blocks takes no longer than a thread may wait for another.
_FEW_BLOCKS = 4


@dataclass(slots=True)
class Cut:
    """Some rows; of a row that is too long for the cache, some of its columns."""

    rows: slice
    columns: slice | None = None  # None for all
    segment: int = 0  # the index of the part within its row

    @property
    def window(self) -> Any:
        """The index of its elements in the rows of an operand."""
        return self.rows if self.columns is None else (self.rows, self.columns)


class ByExample(ShapeRules):
    """A shape whose examples do not depend on each other.

    With ``is_mean_of_elements`` the value of an example, and so its gradient, is the mean over its
    elements, each computed independently, so that a long row can be cut.
    """

    is_mean_of_elements = False
    is_quick = True  # whether an element takes no longer than the few operations of a formula
    working_bytes = 112  # of an element in float32, unless the loss says otherwise

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: what is made of a piece."""
        del parameters
        elements = elements_at_once(
            layout.rows, layout.length, workers, may_be_cut=self.is_mean_of_elements
        )
        return elements * (loss.working_bytes or self.working_bytes)

    def is_brief(self, layout: Layout) -> bool:
        """See ``ShapeRules.is_brief``."""
        return self.is_quick and layout.rows * layout.length <= FEW_ELEMENTS

    def block_rows(self, length: int) -> int:
        """Returns how many rows are summed together and computed by one thread."""
        return block_rows(length)

    def cuts(self, batch: Batch, backend: Backend, compute: Compute) -> Sequence[Cut]:
        """Returns whole blocks of rows, as many as are taken at a time, or parts of a row.

        Sums are those of blocks and parts, whose bounds depend on the shape alone, so that results
        have the same bits however many threads there are.
        """
        if self.is_mean_of_elements and backend.in_cache and batch.length > BLOCK_ELEMENTS:
            return list(_cuts_of_long_rows(batch))
        block = self.block_rows(batch.length)
        blocks = compute.piece_elements // (block * batch.length)
        if backend.in_cache and blocks > _FEW_BLOCKS:
            return list(ever_fewer_rows(batch.rows, backend.threads, block, blocks))
        return cuts_of_rows(batch.rows, block * max(1, blocks))

    def body(self, batch: Batch, backend: Backend) -> Body:
        """Returns the function that is run over each piece: the body of the loss."""
        del backend
        return batch.loss.body

    def evaluator(self, template: Batch, backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
        """See ``ShapeRules.evaluator``."""
        compute = backend.over_rows(template, self.body(template, backend))
        cuts = self.cuts(template, backend, compute)
        pieces = _Pieces(
            cuts,
            compute,
            block=self.block_rows(template.length),
            elements=template.length if self.is_mean_of_elements else 1,
            segments=1 + cuts[-1].segment if cuts else 1,
            zero_nonfinite=zero_nonfinite,
            looked_at=frozenset(o.name for o in template.operands if _is_looked_at(o, compute)),
            fetch=_as_it_is if backend.exports is None else backend.exports.fetch,
        )

        def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
            run = _Run(pieces, batch, buffers, checkpoint)
            if compute.each is not None:
                compute.each(len(cuts), run.piece, run.take)
            else:
                backend.side_by_side(len(cuts), run.compute)
            return run.finished()

        return evaluate


def cuts_of_rows(rows: int, step: int) -> Sequence[Cut]:
    """Returns whole rows, so many at a time."""
    return [Cut(slice(start, min(start + step, rows))) for start in range(0, rows, step)]


def ever_fewer_rows(rows: int, threads: int, block: int, blocks: int) -> Iterator[Cut]:
    """Yields whole blocks of rows, at most ``blocks``, and towards the end fewer at a time.

    A thread whose core something else needs for a while would have the others wait for its last
    piece: 1 ms of 28, where a trainer's threads still look for work.
    """
    start = 0
    while start < rows:
        share = (rows - start) // (2 * threads * block)
        end = min(start + block * min(max(1, share), blocks), rows)
        yield Cut(slice(start, end))
        start = end


def _cuts_of_long_rows(batch: Batch) -> Iterator[Cut]:
    for row in range(batch.rows):
        for segment, first in enumerate(range(0, batch.length, BLOCK_ELEMENTS)):
            columns = slice(first, min(first + BLOCK_ELEMENTS, batch.length))
            yield Cut(slice(row, row + 1), columns, segment)


def _as_it_is(array: Array) -> Array:
    return array


def _is_looked_at(operand: Operand, compute: Compute) -> bool:
    """Returns whether an operand has a domain that nothing else checks."""
    is_checked = operand.is_classes or compute.checks_domains
    return operand.input.domain is not None and not is_checked


@dataclass(frozen=True, slots=True)
class _Pieces:
    """How batches of one kind are computed: their pieces, and what is done to each.

    ``block`` rows are summed together, ``segments`` are the parts of a row, and ``elements`` what
    its sum is divided by.  ``looked_at`` are the operands whose domains are checked here, and
    ``fetch`` brings what is on a device to the host.
    """

    cuts: Sequence[Cut]
    compute: Compute
    block: int
    elements: int
    segments: int
    zero_nonfinite: bool
    looked_at: frozenset[str]
    fetch: Callable[[Array], Array]


class _Run:
    """One evaluation: every piece writes to places of its own, so no lock is needed."""

    def __init__(
        self, pieces: _Pieces, batch: Batch, buffers: Buffers, checkpoint: Checkpoint
    ) -> None:
        self._pieces = pieces
        self._batch = batch
        self._buffers = buffers
        self._checkpoint = checkpoint
        self._scale = batch.plan.gradient_scale
        if pieces.elements > 1:
            self._scale = self._scale / pieces.elements
        self._sums: list[Floats] = [_NO_SUMS] * len(pieces.cuts)
        self._nonfinite = no_flags(batch.rows)
        self._is_flagged = False
        self._statuses: list[tuple[slice, Array]] = []  # few losses have any
        # What the parts of long rows add to their means: a sum may be beyond the type.
        self._parts = np.zeros((batch.rows, pieces.segments)) if pieces.segments > 1 else None

    def compute(self, index: int) -> None:
        """Computes one piece."""
        piece = self.piece(index)
        with np.errstate(all="ignore"):
            found = self._pieces.compute.piece(piece)
        self.take(index, piece, found)

    def piece(self, index: int) -> Piece:
        """Returns one piece."""
        self._checkpoint()
        with np.errstate(all="ignore"):
            return self._piece(self._pieces.cuts[index])

    def take(self, index: int, piece: Piece, found: Computed) -> None:
        """Takes what was computed of a piece."""
        with np.errstate(all="ignore"):
            self._take(index, piece, found)

    def _take(self, index: int, piece: Piece, found: Computed) -> None:
        cut = self._pieces.cuts[index]
        if found.is_outside:
            self._refuse_outside()
        if found.statuses is not None:
            self._statuses.append((cut.rows, found.statuses))
        if found.is_flagged is None:
            nonfinite = settle(piece) if found.nonfinite is None else found.nonfinite
            if nonfinite is not None and np.count_nonzero(nonfinite):  # 6 times as quick as any()
                self._flag(cut.rows, nonfinite)
        elif found.is_flagged:
            self._is_flagged = True
        if self._parts is not None and found.values is not None:
            share = piece.elements / self._batch.length
            self._parts[cut.rows, cut.segment] = np.multiply(found.values, share, dtype=np.float64)
        elif found.values is not None and (found.sums is None or self._pieces.zero_nonfinite):
            self._sums[index] = self._settled_sums(cut.rows, found.values)
        elif found.sums is not None:
            self._sums[index] = found.sums

    def _piece(self, cut: Cut) -> Piece:
        batch, plan, window = self._batch, self._batch.plan, cut.window
        excluded = None if plan.excluded is None else plan.excluded[cut.rows]
        inputs = {}
        for operand in batch.operands:
            rows = operand.rows[window]
            if operand.name in self._pieces.looked_at:
                self._check_domain(operand, rows, cut.rows)
            inputs[operand.name] = rows, operand.compute_type(batch.dtype)
        scale = self._scale
        return Piece(
            count=cut.rows.stop - cut.rows.start,
            inputs=inputs,
            parameters=self._parameters(cut),
            scale=batch.dtype.type(scale)
            if isinstance(scale, float)
            else scale[cut.rows].astype(batch.dtype),
            excluded=excluded,
            elements=self._pieces.elements
            if cut.columns is None
            else cut.columns.stop - cut.columns.start,
            gradients={name: out[window] for name, out in self._buffers.gradients.items()},
            outputs={name: out[cut.rows] for name, out in self._buffers.outputs.items()},
            block=self._pieces.block,
            nonfinite=self._nonfinite[cut.rows],
            values=self._value_place(cut.rows),
            weights=None if plan.weights is None else plan.weights[cut.rows],
        )

    def _value_place(self, rows: slice) -> Array | None:
        if self._parts is None and self._buffers.values is not None:
            return self._buffers.values[rows]
        if self._parts is None and not self._pieces.zero_nonfinite:
            return None
        return np.empty(rows.stop - rows.start, self._batch.dtype)

    def _parameters(self, cut: Cut) -> Mapping[str, Any]:
        """Returns the parameters; of vectors, the part for these columns or rows."""
        given = self._batch.parameters
        if self._batch.loss.is_ordered:
            given = {**given, "checkpoint": self._checkpoint}
        vectors = {name: given[name] for name in self._batch.loss.vectors if len(given[name])}
        by_row = {name: v[cut.rows] for name, v in vectors.items() if v.ndim > 1}
        if cut.columns is None:
            return {**given, **by_row} if by_row else given
        by_column = {name: v[cut.columns] for name, v in vectors.items() if v.ndim == 1}
        return {**given, **by_row, **by_column}

    def _check_domain(self, operand: Operand, rows: Array, place: slice) -> None:
        """Checks an input against its domain while it is in the cache anyway."""
        if operand.input.domain is None:
            return
        wrong = operand.outside(operand.input.domain, rows, place)
        excluded = self._batch.plan.excluded
        if excluded is not None:
            wrong[excluded[place]] = False
        if wrong.any():
            self._refuse_outside()

    def _refuse_outside(self) -> None:
        """Raises for the first element outside its domain; pieces run in any order.

        There is none any more where a client changed it on its device, to its own cost.
        """
        check_rules(self._batch)  # what is wrong may be the kind of the numbers, told by a rule
        checked = [o for o in self._batch.operands if o.input.domain is not None]
        operands = tuple([replace(o, rows=self._pieces.fetch(o.rows)) for o in checked])
        check_domains(replace(self._batch, operands=operands))

    def _flag(self, rows: slice, wrong: Array) -> None:
        """Sets flags and clears none, since the parts of a long row may do so at the same time."""
        self._nonfinite[rows][wrong] = True
        self._is_flagged = True

    def _settled_sums(self, rows: slice, values: Array) -> Floats:
        """Writes values that are complete; returns their sums over blocks."""
        plan = self._batch.plan
        if plan.excluded is not None:
            values[plan.excluded[rows]] = 0
        finite = np.isfinite(values)
        if not finite.all():
            self._flag(rows, ~finite)
        if self._pieces.zero_nonfinite:
            values[self._nonfinite[rows]] = 0
        if self._buffers.values is not None:
            self._buffers.values[rows] = values
        weights = None if plan.weights is None else plan.weights[rows]
        return block_sums(values, weights, self._pieces.block)

    def finished(self) -> Evaluated:
        """Returns the result, with what is left to do when every piece is done."""
        if self._parts is not None:
            self._sums = [self._joined_sums(self._parts)]
        if self._pieces.zero_nonfinite and self._is_flagged:
            for buffer in (*self._buffers.gradients.values(), *self._buffers.outputs.values()):
                buffer[self._nonfinite] = 0
        sums = self._sums[0] if len(self._sums) == 1 else np.concatenate([_NO_SUMS, *self._sums])
        nonfinite = self._nonfinite if self._is_flagged else None
        return Evaluated(sums, nonfinite, self._all_statuses())

    def _joined_sums(self, parts: Array) -> Floats:
        with np.errstate(all="ignore"):
            means = np.add.reduce(parts, axis=-1)
            # Rounding alone makes none of finite numbers larger than the largest number.
            most, are_finite = np.finfo(self._batch.dtype).max, np.isfinite(parts).all(axis=-1)
            means = np.where(are_finite, means.clip(-most, most), means)
            return self._settled_sums(slice(0, len(means)), means.astype(self._batch.dtype))

    def _all_statuses(self) -> Array | None:
        if not self._statuses:
            return None
        found = np.zeros(self._batch.rows, np.uint8)
        for rows, statuses in self._statuses:
            found[rows] = statuses
        return found
