"""The evaluation of a batch of tokens by a compiled kernel, where there is one for its loss."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from lossd.backends import nonfinite_rows, round_into
from lossd.batch import Array, Batch, Operand, parameter_error
from lossd.checkpoints import Checkpoint
from lossd.kernels.host import SAID, TokenInput, TokenKernel, TokenRows
from lossd.losses import Axes, Content, Input, ParameterError, Status, Tokens
from lossd.shapes._shape import Buffers
from lossd.shapes._token_forms import LAYS_OUT
from lossd.shapes._token_run import PIECE_TOKENS, TokenRun

# A thread waits for the interpreter's lock between pieces, so these are few; but enough for all
# threads to end at about the same time.
PIECES_A_THREAD, MOST_TOKENS = 8, 1 << 18
# Numbers of a part of a sequence whose tokens have distributions, which take so long that threads
# share one sequence: half a millisecond.  No bit depends on how many threads there are.
PART_NUMBERS = 1 << 17
# What a kernel writes; derivatives of other types are rounded from float64.
WRITTEN = (np.dtype(np.float32), np.dtype(np.float64))


def check_parameters(batch: Batch) -> None:
    """Lets the body check its rules, which a kernel does not look at.

    Raises:
        InvalidParameter: if a parameter breaks one.
    """
    tokens = Tokens(np.zeros(0, np.intp), np.zeros(0), 0)
    given = [
        None if (operand := batch.find(declared.name)) is None else np.zeros(_no_rows(operand))
        for declared in batch.loss.inputs
        if declared.content not in LAYS_OUT
    ]
    try:
        batch.loss.body(np, *given, {"": tokens}, **batch.parameters)
    except ParameterError as error:
        raise parameter_error(batch.loss, error) from error


def _no_rows(operand: Operand) -> tuple[int, ...]:
    return (0, *operand.rows.shape[1:])


def _asking(parameters: Mapping[str, Any], outputs: Collection[str]) -> Mapping[str, Any]:
    """Returns the parameters of a loss, of whose outputs the body gives some."""
    if "outputs" not in parameters:
        return parameters
    asked = tuple(member for member in parameters["outputs"] if member.value.name in outputs)
    return {**parameters, "outputs": asked}


def _is_read(declared: Input) -> bool:
    return declared.content is Content.FLOATS


class CompiledTokenRun(TokenRun):
    """One evaluation by a kernel; the body gives the outputs that it does not.

    What the kernel gives comes from it whatever else is asked for, so that no bit depends on that.
    It is given whole sequences; of distributions, which do not depend on other tokens, the parts of
    long ones as if they were sequences (``_row_of`` tells of which), and these are joined at last.
    """

    def __init__(
        self,
        kernel: TokenKernel,
        threads: int,
        batch: Batch,
        buffers: Buffers,
        checkpoint: Checkpoint,
        *,
        zero_nonfinite: bool,
    ) -> None:
        tokens = batch.operands[0].rows.size
        told = {name: position for position, name in enumerate(SAID) if name in buffers.outputs}
        beside = buffers.outputs.keys() - told.keys() - {"token_count"}
        wanted = tokens // (threads * PIECES_A_THREAD)
        most = PIECE_TOKENS if beside else MOST_TOKENS
        self.piece_tokens = min(max(wanted, PIECE_TOKENS), most)
        super().__init__(batch, buffers, checkpoint, zero_nonfinite=zero_nonfinite)
        self._tell, self._wanted = told, beside
        self._parameters = _asking(batch.parameters, beside)
        self._first = batch.loss.inputs[0].name
        self._row_of: Array | None = None
        classes = math.prod(batch.operands[0].rows.shape[1:])
        step = max(1, PART_NUMBERS // classes)
        is_cut = batch.loss.inputs[0].axes is Axes.CLASSES and not beside
        self._parts = self._side
        if is_cut and len(self._side.sizes) and self._side.sizes.max() > step:
            self._parts, self._row_of = self._side.in_parts(step)
            self._cuts = self._parts.cuts(max(step, self.piece_tokens // classes))
        self._rows = self._token_rows()
        inputs = [self._token_input(i) for i in batch.loss.inputs if _is_read(i)]
        self._run = kernel.over(inputs, batch.parameters, self._rows)

    def _token_input(self, declared: Input) -> TokenInput | None:
        operand = self._batch.find(declared.name)
        if operand is None:
            return None
        is_by_sequence = operand.slot.is_by_example and declared.axes is Axes.EITHER
        return TokenInput.of(operand.rows, declared.domain, is_by_sequence=is_by_sequence)

    def _token_rows(self) -> TokenRows:
        batch, side = self._batch, self._parts
        shares = np.ones(batch.rows) if self._shares is None else self._shares
        scales = np.broadcast_to(np.asarray(batch.plan.gradient_scale, np.float64), batch.rows)
        scales, silent = scales * shares, batch.plan.excluded_by_request
        values, nonfinite = self._values, self._nonfinite
        if self._row_of is not None:
            scales, shares = scales[self._row_of], np.ones(side.rows)
            silent = None if silent is None else silent[self._row_of]
            values, nonfinite = np.zeros(side.rows), np.zeros(side.rows, np.bool_)
        return TokenRows(
            starts=np.ascontiguousarray(side.starts, np.int64),
            sizes=np.ascontiguousarray(side.sizes, np.int64),
            used=np.ascontiguousarray(side.lengths, np.int64),
            mask=side.mask,
            silent=silent,
            scales=scales,
            shares=shares,
            values=values,
            nonfinite=nonfinite,
            said=np.zeros((side.rows, len(SAID))) if self._tell else None,
        )

    def compute(self, for_each: Callable[..., None]) -> None:
        """See ``TokenRun.compute``."""
        super().compute(for_each)
        if self._row_of is not None:
            self._join(self._row_of)
            self._finish(slice(0, self._batch.rows))

    def _join(self, row_of: Array) -> None:
        """Makes of what parts have what their sequences have."""
        rows, count = self._rows, self._batch.rows
        sums = np.bincount(row_of, rows.values, count)  # part after part
        self._values[:] = sums if self._shares is None else sums * self._shares
        self._nonfinite[row_of[rows.nonfinite]] = True
        if rows.said is None:
            return
        counts = self._parts.counts()
        for name, column in self._tell.items():
            told = np.bincount(row_of, rows.said[:, column] * counts, count)
            self._buffers.outputs[name][:] = told / np.maximum(self._counts, 1)

    def piece(self, rows: slice) -> None:
        """See ``TokenRun.piece``; of sequences that are cut, computes some parts."""
        out = self._buffers.gradients.get(self._first)
        if out is None or (out.dtype in WRITTEN and out.flags.c_contiguous):
            self._run_kernel(rows, out)
        else:
            cells = self._parts.cells(rows)
            found = np.empty((cells.stop - cells.start, *out.shape[1:]))
            self._run_kernel(rows, found, cells.start)
            self._round(found, out, cells)
        if self._row_of is None:
            self._finish(rows)

    def _finish(self, rows: slice) -> None:
        """Writes what follows from the values of some sequences."""
        sent = self._values[rows].astype(self._batch.dtype)
        self._nonfinite[rows] |= ~np.isfinite(sent)
        self._statuses[rows] = self._empty(rows)
        if self._rows.said is not None and self._row_of is None:
            for name, column in self._tell.items():
                self._buffers.outputs[name][rows] = self._rows.said[rows, column]
        if "token_count" in self._buffers.outputs:
            self._buffers.outputs["token_count"][rows] = self._counts[rows]
        if self._wanted:
            self._tell_beside(rows)

    def _run_kernel(self, rows: slice, gradient: Array | None, first: int = 0) -> None:
        if not self._run(rows, gradient, first):
            if self._row_of is not None:
                rows = slice(int(self._row_of[rows.start]), int(self._row_of[rows.stop - 1]) + 1)
            super().piece(rows)  # which says what is wrong

    def _tell_beside(self, rows: slice) -> None:
        if self._side.is_long(rows, self._block):
            self._compute_long(rows, writes=False)
        else:
            piece = self._computed(rows)
            self._write_outputs(rows, piece.present, piece.found)

    def _empty(self, rows: slice) -> Array:
        """Returns the statuses of sequences: those without a token that counts have one."""
        is_empty = self._counts[rows] == 0
        silent = self._batch.plan.excluded_by_request
        if silent is not None:
            is_empty &= ~silent[rows]
        return np.where(is_empty, int(Status.EMPTY_TARGET), 0)

    def _round(self, found: Array, out: Array, cells: slice) -> None:
        """Rounds derivatives to what is sent, where the kernel does not."""
        ends = self._rows.starts + self._rows.sizes
        for start in range(0, len(found), self._block):
            part = found[start : start + self._block]
            first = cells.start + start
            sent = out[first : first + len(part)]
            round_into(part, sent)
            wrong = np.flatnonzero(nonfinite_rows(sent)) + first
            self._rows.nonfinite[np.searchsorted(ends, wrong, "right")] = True
