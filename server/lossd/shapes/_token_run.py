"""The evaluation of a batch of tokens, piece by piece."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.backends import each_row, nonfinite_rows, round_into
from lossd.batch import (
    Array,
    Batch,
    Operand,
    value_error,
)
from lossd.losses import Axes, BodyResult, Input, Status
from lossd.losses._maths.tokens import TokenAggregation, Tokens
from lossd.reduction import Floats, block_sums
from lossd.shapes._shape import Buffers, Evaluated
from lossd.shapes._token_forms import LAYS_OUT, aggregates
from lossd.shapes._token_sides import groups_of, sides_of

# A dozen arrays of as many float64 numbers fit the caches of a core.
PIECE_TOKENS = 1 << 15
BLOCK_ROWS = 1 << 12


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows as the body computed those that are ``present``, with their tokens and cells."""

    found: BodyResult
    present: Any
    number: int
    tokens: Mapping[str, Tokens]
    cells: Mapping[str, Any]


class TokenRun:
    """One evaluation: every piece writes to places of its own, so no lock is needed."""

    piece_tokens = PIECE_TOKENS

    def __init__(self, batch: Batch, buffers: Buffers, *, zero_nonfinite: bool) -> None:
        self._batch = batch
        self._buffers = buffers
        self._zero_nonfinite = zero_nonfinite
        self._sides = sides_of(batch.operands, batch.rows, batch.plan.excluded_by_request)
        self._aggregates = aggregates(batch.loss)
        self._shares = self._row_shares() if self._aggregates else None
        self._values = np.zeros(batch.rows)
        self._statuses = np.zeros(batch.rows, np.uint8)
        self._nonfinite = np.zeros(batch.rows, np.bool_)
        self.cuts = self._cuts()

    def _row_shares(self) -> Floats | None:
        """Returns the factor of the sum over the tokens of each row; None for 1."""
        given = self._batch.layout_parameters
        aggregation = given["aggregation"]
        if aggregation is TokenAggregation.CONSTANT_LENGTH:
            return np.full(self._batch.rows, 1 / given["sequence_length"])
        if aggregation is TokenAggregation.SEQUENCE_MEAN:
            return 1 / np.maximum(self._sides[""].counts(), 1)
        if aggregation is TokenAggregation.GROUP_MEAN:
            members, group_of = groups_of(self._batch.operand("groups"), self._batch.plan.masked)
            counts = np.bincount(group_of, members * self._sides[""].counts())
            return 1 / np.maximum(counts, 1)[group_of]
        return None

    def _cuts(self) -> list[slice]:
        """Whole rows, of about as many tokens as fit the cache; all where rows know each other."""
        rows = self._batch.rows
        if not self._aggregates or rows == 0:
            return [slice(0, rows)]
        side = self._sides[""]
        ends = side.starts + side.sizes
        step = max(
            1, self.piece_tokens * int(ends[-1]) // max(1, self._batch.operands[0].rows.size)
        )
        wanted = np.arange(step, int(ends[-1]) + step, step)
        stops = np.unique(np.append(np.searchsorted(ends, wanted, "right"), rows))
        stops = stops[(stops > 0) & (stops <= rows)]
        return [slice(int(a), int(b)) for a, b in zip([0, *stops[:-1]], stops, strict=True)]

    def piece(self, rows: slice) -> None:
        """Computes some rows, and writes what they come to."""
        batch = self._batch
        of_rows = self._computed(rows)
        found, present, tokens = of_rows.found, of_rows.present, of_rows.tokens
        values = found.value
        if self._aggregates:
            values = tokens[""].sums(values)
            if self._shares is not None:
                values = values * self._shares[present]
        self._values[present] = values
        sent = self._values[present].astype(batch.dtype)
        self._nonfinite[present] |= ~np.isfinite(sent)
        self._statuses[present] = self._said(found, tokens, of_rows.number)
        for name in batch.gradients:
            self._write(name, rows, present, found.gradient(name), of_rows.cells)
        self._write_outputs(rows, of_rows, self._buffers.outputs)

    def _write_outputs(self, rows: slice, of_rows: "_Rows", wanted: Iterable[str]) -> None:
        for name in wanted:
            out = self._buffers.outputs[name]
            out[rows] = 0
            out[of_rows.present] = of_rows.found.outputs[name]

    def _computed(self, rows: slice) -> "_Rows":
        """Returns what the body makes of some rows."""
        batch = self._batch
        present: Any = rows
        number = rows.stop - rows.start
        if batch.plan.excluded_by_request is not None:
            present = rows.start + np.flatnonzero(~batch.plan.excluded_by_request[rows])
            number = len(present)
        found_of = {name: side.tokens(present, number) for name, side in self._sides.items()}
        tokens = {name: found for name, (found, _) in found_of.items()}
        inputs = [self._input(i, present, found_of) for i in batch.loss.inputs]
        given = [
            a for i, a in zip(batch.loss.inputs, inputs, strict=True) if i.content not in LAYS_OUT
        ]
        found = batch.loss.body(np, *given, tokens, **batch.parameters)
        return _Rows(found, present, number, tokens, found_of)

    def _input(self, declared: Input, present: Any, found_of: Mapping[str, Any]) -> Array | None:
        """Returns the part of an input that the body sees; None if it is absent or only layout."""
        operand = self._batch.find(declared.name)
        if operand is None or declared.content in LAYS_OUT:
            return None
        tokens, cells = found_of[declared.side]
        by_row = operand.slot.is_by_example and declared.axes is not Axes.TOKENS
        picked = operand.rows[present if by_row else cells]
        if declared.domain is not None:
            self._check_domain(operand, picked, present if by_row else cells)
        numbers = np.asarray(picked, np.float64)
        return tokens.spread(numbers) if by_row and declared.axes is Axes.EITHER else numbers

    @staticmethod
    def _check_domain(operand: Operand, picked: Array, places: Any) -> None:
        domain = operand.input.domain
        if domain is None or not domain.outside(picked).any():
            return
        wrong = np.zeros(len(operand.rows), np.bool_)
        wrong[places] = domain.outside(picked)
        given = operand.slot.as_given
        raise value_error(operand.name, given(operand.rows), given(wrong), str(domain))

    def _said(self, found: BodyResult, tokens: Mapping[str, Tokens], number: int) -> Array:
        """Returns the status of each row: that it has no token, or what the body says."""
        said = np.zeros(number, np.uint8) if found.statuses is None else found.statuses
        for one in tokens.values():
            if one.counts is not None:
                said = np.where((said == 0) & (one.counts == 0), int(Status.EMPTY_TARGET), said)
        return said

    def _write(
        self, name: str, rows: slice, present: Any, derivatives: Array, found_of: Mapping[str, Any]
    ) -> None:
        """Scales the derivatives of an input and writes them to their places; 0 goes elsewhere."""
        batch, out = self._batch, self._buffers.gradients[name]
        operand = batch.operand(name)
        tokens, cells = found_of[operand.input.side]
        side = self._sides[operand.input.side]
        by_row = operand.input.axes is Axes.EXAMPLES
        scale = np.broadcast_to(np.asarray(batch.plan.gradient_scale, np.float64), batch.rows)
        scales = scale[present]
        if self._shares is not None:
            scales = scales * self._shares[present]
        if not by_row:
            scales = tokens.spread(scales)
        scales = each_row(scales, derivatives)
        sent = np.empty(derivatives.shape, out.dtype)
        round_into(np.where(scales == 0, 0, derivatives * scales), sent)
        if by_row:
            out[rows], places = 0, present
        else:
            if rows.stop > rows.start:
                last = rows.stop - 1
                out[side.starts[rows.start] : side.starts[last] + side.sizes[last]] = 0
            places = cells
        out[places] = sent
        wrong = nonfinite_rows(sent)
        if wrong.any():
            which = np.flatnonzero(wrong) if by_row else tokens.sequence[wrong]
            self._nonfinite[np.arange(batch.rows)[present][which]] = True

    def finished(self) -> Evaluated:
        """Finishes when every piece is done."""
        batch = self._batch
        lost = self._nonfinite
        if self._zero_nonfinite and lost.any():
            self._values[lost] = 0
            for output in self._buffers.outputs.values():
                output[lost] = 0
            for name, out in self._buffers.gradients.items():
                operand = batch.operand(name)
                if operand.input.axes is Axes.EXAMPLES:
                    out[lost] = 0
                    continue
                side = self._sides[operand.input.side]
                for row in np.flatnonzero(lost):
                    out[side.starts[row] : side.starts[row] + side.sizes[row]] = 0
        with np.errstate(all="ignore"):
            if self._buffers.values is not None:
                self._buffers.values[:] = self._values
            sums = block_sums(self._values, batch.plan.weights, BLOCK_ROWS)
        statuses = self._statuses if self._statuses.any() else None
        return Evaluated(sums, lost, statuses)
