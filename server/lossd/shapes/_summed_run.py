"""The evaluation of losses that take the sums over sequences, and nothing else of their tokens.

First the tokens are summed, then the body computes some rows at a time from the sums, and last each
token gets the derivative with respect to the sum that it is in.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lossd.backends import round_into
from lossd.batch import Array, Batch, Operand
from lossd.checkpoints import Checkpoint
from lossd.kernels.host import TokenInput, TokenSums
from lossd.losses import Axes, Part, Tokens, Whole
from lossd.shapes._shape import Buffers
from lossd.shapes._token_results import BLOCK_ROWS, TokenResults
from lossd.shapes._token_sides import TokenSide

# Cells that are summed or written together.
PIECE_CELLS = 1 << 15
# A kernel makes no arrays of them, and a thread waits for the interpreter's lock between pieces.
KERNEL_CELLS = 1 << 18


class SummedRun(TokenResults):
    """One evaluation, in three steps of pieces side by side."""

    def __init__(
        self,
        kernel: TokenSums | None,
        batch: Batch,
        buffers: Buffers,
        checkpoint: Checkpoint,
        *,
        zero_nonfinite: bool,
    ) -> None:
        super().__init__(batch, buffers, checkpoint, zero_nonfinite=zero_nonfinite)
        self._kernel = kernel
        of_tokens = [o for o in self._given() if self._is_of_tokens(o)]
        subtracted = {o.input.subtracted_from: o for o in of_tokens}
        self._pairs = [(o, subtracted.get(o.name)) for o in of_tokens if not _is_subtracted(o)]
        # A sum is that of an input less the other, whose own is 0 then.
        self._sums = {o.name: np.zeros(batch.rows) for o, _ in self._pairs}
        nothing = np.broadcast_to(np.float64(0), batch.rows)
        self._sums |= {o.name: nothing for o in subtracted.values() if _is_subtracted(o)}
        self._counts = {name: side.counts() for name, side in self._sides.items() if _has(side)}
        self._sent = {
            name: np.zeros(batch.rows, buffers.gradients[name].dtype)
            for name in batch.gradients
            if self._is_of_tokens(batch.operand(name))
        }

    def _is_of_tokens(self, operand: Operand) -> bool:
        side = self._sides[operand.input.side]
        return operand.input.axes is Axes.TOKENS and not side.is_sums

    def compute(self, for_each: Callable[..., None]) -> None:
        """Computes all pieces; ``for_each`` calls a function with the number of each."""
        for pair in self._pairs:
            self._add(pair, for_each)
        blocks = range(0, max(self._batch.rows, 1), BLOCK_ROWS)
        cuts = [slice(i, min(i + BLOCK_ROWS, self._batch.rows)) for i in blocks]
        whole, is_known = Whole(len(cuts)), False
        while not is_known:
            for_each(len(cuts), lambda index: self._compute_rows(cuts[index], whole.part(index)))
            is_known = not whole.learn()
        for name, sent in self._sent.items():
            self._spread(name, sent, for_each)

    def _add(self, pair: tuple[Operand, Operand | None], for_each: Callable[..., None]) -> None:
        """Sums an input, less the other, over each sequence."""
        side, sums = self._sides[pair[0].input.side], self._sums[pair[0].name]
        if self._kernel is not None:
            kernel = self._kernel
            given = [_as_input(one) for one in pair if one is not None]
            large = side.cuts(KERNEL_CELLS)
            for_each(
                len(large),
                lambda index: kernel(
                    given, side.starts, side.lengths, side.mask, sums, large[index]
                ),
            )
            return
        cuts = side.cuts(PIECE_CELLS)
        for_each(len(cuts), lambda index: _add_rows(pair, side, sums, cuts[index]))

    def _compute_rows(self, rows: slice, part: Part) -> None:
        """Computes some rows from their sums, and writes what each of them has."""
        present, number = self._present(rows)
        order, counts = np.arange(number), {n: self._counts.get(n) for n in self._sides}
        tokens = {
            name: Tokens(order, None if own is None else own[present], number, of_batch=part)
            for name, own in counts.items()
        }
        given = {o.name: self._row_numbers(o, present) for o in self._given()}
        found = self._run_body(given, tokens)
        if part.is_short:
            return
        self._write_rows(present, found.value)
        self._statuses[present] = self._said(found, tokens, number)
        self._write_outputs(rows, present, found)
        scales = self._scales(present, number)
        for name in self._batch.gradients:
            derivatives = found.gradient(name)
            out = self._sent.get(name, self._buffers.gradients[name])
            sent = np.empty(number, out.dtype)
            round_into(np.where(scales == 0, 0, derivatives * scales), sent)
            out[rows] = 0
            out[present] = sent
            is_wrong = ~np.isfinite(sent)
            if name in self._sent:  # no token has it where there is none
                is_wrong &= self._counts[self._batch.operand(name).input.side][present] > 0
            self._nonfinite[present] |= is_wrong

    def _row_numbers(self, operand: Operand, present: Any) -> Array:
        found = self._sums.get(operand.name)
        return self._numbers(operand, present) if found is None else found[present]

    def _spread(self, name: str, sent: Array, for_each: Callable[..., None]) -> None:
        """Gives each token that counts the number of its row, and 0 to all others."""
        side, out = self._sides[self._batch.operand(name).input.side], self._buffers.gradients[name]
        cuts = side.cuts(PIECE_CELLS if self._kernel is None else KERNEL_CELLS)
        for_each(len(cuts), lambda index: _spread_rows(side, sent, out, cuts[index]))


def _as_input(operand: Operand) -> TokenInput:
    return TokenInput.of(operand.rows, None, is_by_sequence=False)


def _is_subtracted(operand: Operand) -> bool:
    return bool(operand.input.subtracted_from)


def _has(side: TokenSide) -> bool:
    """Returns whether it is known how many tokens there are."""
    return not side.is_sums or side.summed is not None


def _add_rows(
    pair: tuple[Operand, Operand | None], side: TokenSide, sums: Array, rows: slice
) -> None:
    if not side.is_long(rows, PIECE_CELLS):
        tokens, cells = side.tokens(rows, rows.stop - rows.start)
        sums[rows] = tokens.sums(_apart(pair, cells))
        return
    cells = side.cells(rows)
    for start in range(cells.start, cells.stop, PIECE_CELLS):
        block = slice(start, min(start + PIECE_CELLS, cells.stop))
        tokens, within = side.block(rows.start, block)
        sums[rows] += np.bincount(tokens.sequence, _apart(pair, within), 1)


def _apart(pair: tuple[Operand, Operand | None], cells: Any) -> Array:
    first, second = pair
    found: Array = first.rows[cells].astype(np.float64)
    if second is not None:
        found -= second.rows[cells].astype(np.float64)
    return found


def _spread_rows(side: TokenSide, sent: Array, out: Array, rows: slice) -> None:
    cells, number = side.cells(rows), rows.stop - rows.start
    if cells.start == cells.stop:
        return
    width = (cells.stop - cells.start) // number
    if (side.sizes[rows] == width).all():  # to fill is quicker than to repeat
        out[cells].reshape(number, width)[...] = sent[rows, None]
    else:
        out[cells] = np.repeat(sent[rows], side.sizes[rows])
    if side.used is not None:
        side.clear(out, rows, side.used[rows])
    if side.mask is not None:
        out[cells][~side.mask[cells]] = 0
