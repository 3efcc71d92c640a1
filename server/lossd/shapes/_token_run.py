"""The evaluation of losses that have a value a token, piece by piece."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.backends import each_row, nonfinite_rows, round_into
from lossd.batch import Array, Batch
from lossd.checkpoints import Checkpoint
from lossd.losses import Axes, BodyResult, TokenAggregation, Tokens, Whole
from lossd.reduction import Floats
from lossd.shapes._shape import Buffers
from lossd.shapes._token_results import TokenResults
from lossd.shapes._token_sides import groups_of, members_of

# A dozen arrays of as many float64 numbers fit the caches of a core.
PIECE_TOKENS = 1 << 15


@dataclass(frozen=True, slots=True)
class _TokenPiece:
    """Some tokens as the body computed them: the rows they are of, those present, their cells."""

    found: BodyResult
    present: Any
    number: int
    tokens: Tokens
    cells: Any


class TokenRun(TokenResults):
    """One evaluation, of whole rows, or of one that is long block by block."""

    piece_tokens = PIECE_TOKENS

    def __init__(
        self, batch: Batch, buffers: Buffers, checkpoint: Checkpoint, *, zero_nonfinite: bool
    ) -> None:
        super().__init__(batch, buffers, checkpoint, zero_nonfinite=zero_nonfinite)
        (self._side,) = self._sides.values()
        self._counts = self._side.counts()
        self._shares = self._row_shares()
        classes = math.prod(batch.operands[0].rows.shape[1:])
        self._block = max(1, PIECE_TOKENS // classes)
        self._cuts = self._side.cuts(max(1, self.piece_tokens // classes))

    def compute(self, for_each: Callable[..., None]) -> None:
        """Computes all pieces; ``for_each`` calls a function with the number of each."""
        for_each(len(self._cuts), lambda index: self.piece(self._cuts[index]))

    def _row_shares(self) -> Floats | None:
        """Returns the factor of the sum over the tokens of each row; None for 1."""
        given = self._batch.layout_parameters
        aggregation = given["aggregation"]
        if aggregation is TokenAggregation.CONSTANT_LENGTH:
            return np.full(self._batch.rows, 1 / given["sequence_length"])
        if aggregation is TokenAggregation.SEQUENCE_MEAN:
            return 1 / np.maximum(self._counts, 1)
        if aggregation is TokenAggregation.GROUP_MEAN:
            group_of = groups_of(self._batch.operand("groups"), self._checkpoint)
            counts = np.bincount(group_of, self._counts_of_members())
            return 1 / np.maximum(counts, 1)[group_of]
        return None

    def _counts_of_members(self) -> Floats:
        """Returns how many tokens of each row a mean over its group divides by."""
        batch, plan = self._batch, self._batch.plan
        if plan.weights is None:
            return self._counts
        excluded, ignored = plan.excluded_by_request, plan.masked
        return members_of(batch.operands, batch.rows, excluded, ignored).counts()

    def piece(self, rows: slice) -> None:
        """Computes some rows, and writes what they come to."""
        if self._side.is_long(rows, self._block):
            self._compute_long(rows)
            return
        piece = self._computed(rows)
        sums = piece.tokens.sums(piece.found.value)
        self._write_results(rows, piece, sums)
        self._write_gradients(self._side.cells(rows), piece)

    def _compute_long(self, rows: slice, *, writes: bool = True) -> None:
        """Computes a row in blocks, as often as one of them needs to know more of the whole.

        Without ``writes`` only its outputs are written.
        """
        cells, (present, number) = self._side.cells(rows), self._present(rows)
        starts = range(cells.start, cells.stop, self._block)
        blocks = [slice(start, min(start + self._block, cells.stop)) for start in starts]
        whole, is_known = Whole(len(blocks), self._checkpoint), False
        while not is_known:
            total = np.zeros(1)
            for index, block in enumerate(blocks):
                self._checkpoint()
                part = whole.part(index)
                count = float(self._counts[rows.start])
                tokens, places = self._side.block(rows.start, block, count, part)
                found = self._evaluated(rows, tokens, places)
                piece = _TokenPiece(found, rows, 1, tokens, places)
                if writes and not part.is_short:
                    total += np.bincount(tokens.sequence, found.value, 1)
                    self._write_gradients(block, piece)
            is_known = not whole.learn()
        if writes:
            last = _TokenPiece(found, present, number, tokens, places)
            self._write_results(rows, last, total[:number])
        else:
            self._write_outputs(rows, present, found)

    def _write_results(self, rows: slice, piece: _TokenPiece, sums: Array) -> None:
        present = piece.present
        shares = None if self._shares is None else self._shares[present]
        self._write_rows(present, sums if shares is None else sums * shares)
        said = self._said(piece.found, {"": piece.tokens}, piece.tokens.number)
        self._statuses[present] = said[: piece.number]
        self._write_outputs(rows, present, piece.found)

    def _computed(self, rows: slice) -> _TokenPiece:
        """Returns what the body makes of some rows."""
        present, number = self._present(rows)
        tokens, cells = self._side.tokens(present, number)
        return _TokenPiece(self._evaluated(present, tokens, cells), present, number, tokens, cells)

    def _evaluated(self, rows: Any, tokens: Tokens, cells: Any) -> BodyResult:
        given = {}
        for operand in self._given():
            by_row = operand.slot.is_by_example and operand.input.axes is not Axes.TOKENS
            numbers = self._numbers(operand, rows if by_row else cells)
            is_spread = by_row and operand.input.axes is Axes.EITHER
            given[operand.name] = tokens.spread(numbers) if is_spread else numbers
        return self._run_body(given, {"": tokens})

    def _write_gradients(self, cells: slice, piece: _TokenPiece) -> None:
        """Scales derivatives and writes them to their places among some cells; 0 to the others."""
        scales = self._scales(piece.present, piece.number)
        if self._shares is not None:
            scales = scales * self._shares[piece.present]
        for name in self._batch.gradients:
            derivatives, out = piece.found.gradient(name), self._buffers.gradients[name]
            factors = each_row(piece.tokens.spread(scales), derivatives)
            sent = np.empty(derivatives.shape, out.dtype)
            round_into(np.where(factors == 0, 0, derivatives * factors), sent)
            out[cells] = 0
            out[piece.cells] = sent
            wrong = nonfinite_rows(sent)
            if wrong.any():
                rows = np.arange(self._batch.rows)[piece.present]
                self._nonfinite[rows[piece.tokens.sequence[wrong]]] = True
