"""The results of a batch of tokens, whatever computes them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lossd.batch import Array, Batch, Operand, value_error
from lossd.checkpoints import Checkpoint
from lossd.losses import Axes, BodyResult, Input, Status, Tokens
from lossd.reduction import block_sums
from lossd.shapes._shape import Buffers, Evaluated
from lossd.shapes._token_forms import LAYS_OUT
from lossd.shapes._token_sides import sides_of

BLOCK_ROWS = 1 << 12
# Cells that are looked at together where rows are left out.
_CLEARED = 1 << 15


class TokenResults:
    """Values, statuses and flags of all rows; every piece writes to places of its own.

    ``checkpoint`` is called on the way of what takes long, and may raise to stop.
    """

    def __init__(
        self, batch: Batch, buffers: Buffers, checkpoint: Checkpoint, *, zero_nonfinite: bool
    ) -> None:
        self._batch = batch
        self._buffers = buffers
        self._checkpoint = checkpoint
        self._zero_nonfinite = zero_nonfinite
        self._sides = sides_of(batch.operands, batch.rows, batch.plan.excluded_by_request)
        self._values = np.zeros(batch.rows)
        self._statuses = np.zeros(batch.rows, np.uint8)
        self._nonfinite = np.zeros(batch.rows, np.bool_)
        self._wanted = set(buffers.outputs)  # of the body
        self._parameters = batch.parameters

    def _present(self, rows: slice) -> tuple[Any, int]:
        """Returns those of some rows that are to be looked at, and their number."""
        excluded = self._batch.plan.excluded_by_request
        if excluded is None:
            return rows, rows.stop - rows.start
        present = rows.start + np.flatnonzero(~excluded[rows])
        return present, len(present)

    def _scales(self, rows: Any, number: int) -> Array:
        scale = np.asarray(self._batch.plan.gradient_scale, np.float64)
        return scale[rows] if scale.ndim else np.full(number, scale)

    def _run_body(self, given: Mapping[str, Array], tokens: Mapping[str, Tokens]) -> BodyResult:
        batch = self._batch
        inputs = [given.get(i.name) for i in batch.loss.inputs if i.content not in LAYS_OUT]
        return batch.loss.body(np, *inputs, tokens, **self._parameters)

    def _numbers(self, operand: Operand, places: Any) -> Array:
        """Returns some numbers of an input, in float64."""
        # Those of a copy: a client may change what lies in shared memory.
        picked = np.array(operand.rows[places], np.float64)
        domain = operand.input.domain
        if domain is not None and (outside := domain.outside(picked)).any():
            wrong = np.zeros(len(operand.rows), np.bool_)
            wrong[places] = outside
            given = operand.slot.as_given
            raise value_error(operand.name, given(operand.rows), given(wrong), str(domain))
        return picked

    def _given(self) -> list[Operand]:
        """Returns the inputs of which a body sees a part, those that are not only layout."""
        return [o for o in self._batch.operands if o.input.content not in LAYS_OUT]

    def _write_rows(self, present: Any, values: Array) -> None:
        self._values[present] = values
        sent = self._values[present].astype(self._batch.dtype)
        self._nonfinite[present] |= ~np.isfinite(sent)

    def _write_outputs(self, rows: slice, present: Any, found: BodyResult) -> None:
        for name in self._wanted:
            out = self._buffers.outputs[name]
            out[rows] = 0
            out[present] = found.outputs[name]

    @staticmethod
    def _said(found: BodyResult, tokens: Mapping[str, Tokens], number: int) -> Array:
        """Returns the status of each row: that it has no token, or what the body says."""
        said = np.zeros(number, np.uint8) if found.statuses is None else found.statuses
        for one in tokens.values():
            if one.counts is not None:
                said = np.where((said == 0) & (one.counts == 0), int(Status.EMPTY_TARGET), said)
        return said

    def finished(self) -> Evaluated:
        """Finishes when every piece is done."""
        batch = self._batch
        lost = self._nonfinite
        if self._zero_nonfinite and lost.any():
            self._values[lost] = 0
            for output in self._buffers.outputs.values():
                output[lost] = 0
            for name, out in self._buffers.gradients.items():
                self._leave_out(batch.operand(name).input, out, lost)
        with np.errstate(all="ignore"):
            if self._buffers.values is not None:
                self._buffers.values[:] = self._values
            sums = block_sums(self._values, batch.plan.weights, BLOCK_ROWS)
        statuses = self._statuses if self._statuses.any() else None
        return Evaluated(sums, lost, statuses)

    def _leave_out(self, declared: Input, out: Array, lost: Array) -> None:
        side = self._sides[declared.side]
        if declared.axes is Axes.EXAMPLES or side.is_sums:
            out[lost] = 0
            return
        for rows in side.cuts(_CLEARED):  # not row by row, of which there may be a million
            self._checkpoint()
            side.clear(out, rows, np.where(lost[rows], 0, side.sizes[rows]))
