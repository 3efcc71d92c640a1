"""TOKENS: one example a sequence of tokens, or a pair of them, of any lengths.

Tokens come padded (N, T), with ``lengths``; or flat (tokens,), with the ``offsets`` of the
sequences; and where a loss takes no more than sums over sequences, as these sums (N,).  Inputs
whose names begin alike, such as those of the chosen and of the rejected answers, have their own
tokens.  Where tokens have a number for each class, these lie along one more axis, the last.

The body is given the tokens that count of all sequences, flat and in float64, None for an input
that is not given, and for each side its ``Tokens``; of examples that have no part in anything it
sees nothing.  It returns the value of each example, or where the shape aggregates, of each token,
and the derivatives of the sum of all values with respect to each token.

It computes on the host, whatever the backend: to bring the few numbers of a token to a device and
back takes longer than to compute with them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import Backend, each_row, nonfinite_rows, round_into
from lossd.batch import (
    Array,
    Batch,
    Given,
    Job,
    Layout,
    Operand,
    Slot,
    cotangent_of,
    ignored_examples,
    shape_error,
    value_error,
    weights_of,
)
from lossd.errors import InvalidParameter, InvalidTensor
from lossd.losses import Axes, BodyResult, Content, Input, Loss, Status
from lossd.losses._maths.tokens import AGGREGATION, TokenAggregation, Tokens
from lossd.reduction import Flags, Floats, RowPlan, block_sums, plan_rows
from lossd.shapes._memory import largest
from lossd.shapes._shape import Buffers, Checkpoint, Evaluated, Evaluator, ShapeRules

Indices = npt.NDArray[np.intp]

# A dozen arrays of as many float64 numbers fit the caches of a core.
PIECE_TOKENS = 1 << 15
BLOCK_ROWS = 1 << 12

_LAYS_OUT = (Content.FLAGS, Content.LENGTHS, Content.OFFSETS, Content.LABELS)
_OF_TOKENS = (Axes.TOKENS, Axes.EITHER, Axes.CLASSES)


class TokensShape(ShapeRules):
    """See the module."""

    on_host = True
    working_bytes = 128  # a dozen numbers in double precision for each token

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: what is made of all tokens."""
        del parameters, workers
        elements = largest([slot.rows_shape for slot in layout.slots])
        return elements * (loss.working_bytes or self.working_bytes)

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        if declared.content is Content.OFFSETS:
            return ("(N + 1,)",)
        if declared.axes not in _OF_TOKENS:
            return ("(N,)",)
        of_tokens = ("(N, T)", "(tokens,)") if _is_ragged(loss, declared.side) else ()
        if declared.axes is Axes.CLASSES:
            return ("(N, T, K)", "(tokens, K)")
        of_sums = not _aggregates(loss) and declared.content is not Content.FLAGS
        may_be_one = of_sums or declared.axes is Axes.EITHER
        return (*of_tokens, "(N,)") if may_be_one else of_tokens

    def lay_out(self, given: Given) -> Layout:
        """Slots of all inputs that are given, of sides that have as many sequences each."""
        present = [i for i in given.loss.inputs if i.name in given.arrays]
        forms = {side: _Form.of(given, side) for side in dict.fromkeys(i.side for i in present)}
        first = next(iter(forms.values()))
        for side, form in forms.items():
            if form.rows != first.rows:
                name = _first_of(given, side).name
                rule = f"as many sequences as {given.first.name}, {first.rows}"
                raise shape_error(name, rule, given.arrays[name].shape)
        slots = tuple(forms[i.side].slot(i, given.arrays[i.name].shape) for i in present)
        length = max(1, first.cells // max(1, first.rows)) * math.prod(first.classes)
        return Layout(slots, (first.rows,), first.rows, length)

    def plan(
        self, job: Job, layout: Layout, operands: Sequence[Operand], parameters: Mapping[str, Any]
    ) -> RowPlan:
        """See ``ShapeRules.plan``; the tokens that count are what a mean of tokens divides by."""
        ignored = ignored_examples(job, layout, None, parameters)
        weights = weights_of(job, layout, ignored)
        excluded_by_request = _union(ignored, None if weights is None else weights == 0)
        sides = _sides(operands, layout.rows, excluded_by_request)
        denominators = None
        if _aggregates(job.loss):
            denominators = _denominators(job.loss, operands, parameters, sides, ignored)
        found = plan_rows(
            layout.rows,
            ignored=ignored,
            weights=weights,
            denominators=denominators,
            cotangent=cotangent_of(job, layout),
            reduction=job.reduction,
            normalizer=job.normalizer,
        )
        return replace(found, excluded_by_request=excluded_by_request)

    def checked(
        self,
        loss: Loss,
        operands: tuple[Operand, ...],
        excluded: Flags | None,
        parameters: Mapping[str, Any],
    ) -> tuple[Operand, ...]:
        """The operands as they are: what lays tokens out was checked for the plan."""
        del loss, excluded, parameters
        return operands

    def check_rules(self, batch: Batch) -> None:
        """See ``ShapeRules.check_rules``; a batch of no rows is evaluated like any other."""

    def evaluator(self, template: Batch, backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
        """See ``ShapeRules.evaluator``."""
        del template

        def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
            run = _TokenRun(batch, buffers, zero_nonfinite=zero_nonfinite)

            def work(index: int) -> None:
                checkpoint()
                with np.errstate(all="ignore"):
                    run.piece(run.cuts[index])

            backend.side_by_side(len(run.cuts), work)
            return run.finished()

        return evaluate


def _aggregates(loss: Loss) -> bool:
    """Returns whether its body returns the values of tokens."""
    return AGGREGATION[0] in loss.layout_parameters


def _is_ragged(loss: Loss, side: str) -> bool:
    """Returns whether the tokens of a side may be given one by one."""
    return any(i.name == f"{side}offsets" for i in loss.inputs)


def _union(left: Flags | None, right: Flags | None) -> Flags | None:
    if left is None or right is None:
        return left if right is None else right
    return left | right


# ------------------------------------------------------------------ layout


def _first_of(given: Given, side: str) -> Input:
    """The input that says how the tokens of a side are given.

    Raises:
        InvalidTensor: if it is not there, and others of its side are.
    """
    first = next(i for i in given.loss.inputs if i.side == side and i.content is Content.FLOATS)
    if first.name not in given.arrays:
        others = [i.name for i in given.loss.inputs if i.side == side and i.name in given.arrays]
        raise InvalidTensor(
            f"{first.name} must be given as one tensor with {others[0]}, got 0", field="inputs"
        )
    return first


@dataclass(frozen=True, slots=True)
class _Form:
    """How the tokens of a side are given: ``rows`` sequences in ``shape``, perhaps of classes."""

    loss: Loss
    first: str
    shape: tuple[int, ...]
    rows: int
    cells: int
    classes: tuple[int, ...] = ()

    @classmethod
    def of(cls, given: Given, side: str) -> "_Form":
        first = _first_of(given, side)
        shape, classes = given.arrays[first.name].shape, ()
        if first.axes is Axes.CLASSES:
            if not shape or shape[-1] == 0:
                raise shape_error(first.name, "a last axis of at least one class", shape)
            shape, classes = shape[:-1], shape[-1:]
        offsets, lengths = (given.arrays.get(f"{side}{n}") for n in ("offsets", "lengths"))
        if offsets is not None:
            if lengths is not None:
                raise InvalidTensor(
                    f"{side}lengths must be left out with {side}offsets, got both", field="inputs"
                )
            if len(shape) != 1:
                rule = f"one axis of tokens with {side}offsets"
                raise shape_error(first.name, rule, (*shape, *classes))
            if len(offsets.shape) != 1 or offsets.shape[0] == 0:
                rule = "one axis, of the sequences and one more"
                raise shape_error(f"{side}offsets", rule, offsets.shape)
            return cls(given.loss, first.name, shape, offsets.shape[0] - 1, shape[0], classes)
        is_ragged, has_sums = _is_ragged(given.loss, side), not _aggregates(given.loss)
        if len(shape) == 2 and is_ragged:
            return cls(given.loss, first.name, shape, shape[0], shape[0] * shape[1], classes)
        if len(shape) == 1 and has_sums:
            return cls(given.loss, first.name, shape, shape[0], shape[0])
        rules = ["axes of sequences and tokens"] * is_ragged + ["one axis of sums"] * has_sums
        hint = f": flat tokens go with {side}offsets" if is_ragged and len(shape) == 1 else ""
        raise shape_error(first.name, " or ".join(rules), (*shape, *classes), hint)

    def slot(self, declared: Input, shape: tuple[int, ...]) -> Slot:
        """The slot of one input of the side.

        Raises:
            InvalidTensor: for a shape that does not go with the others.
        """
        name, by_row = declared.name, (self.rows,)
        if declared.axes is Axes.CLASSES:
            wanted = (*self.shape, *self.classes)
            if shape != wanted:
                raise shape_error(name, f"the shape {list(wanted)} of {self.first}", shape)
            return Slot(declared, shape, (self.cells, *self.classes), is_by_example=False)
        if declared.axes in _OF_TOKENS and shape == self.shape:
            is_sums = self.shape == by_row and declared.axes is Axes.EITHER
            return Slot(declared, shape, (self.cells,), is_by_example=is_sums)
        if declared.content is Content.OFFSETS:
            return Slot(declared, shape, shape, is_classes=True, is_by_example=False)
        if declared.axes is Axes.EITHER and shape in (by_row, (self.rows, 1)):
            return Slot(declared, shape, by_row)
        if declared.axes in _OF_TOKENS:
            either = f" or {list(by_row)}" if declared.axes is Axes.EITHER else ""
            raise shape_error(name, f"the shape {list(self.shape)} of {self.first}{either}", shape)
        if shape != by_row:
            raise shape_error(name, f"the shape {list(by_row)} of the sequences", shape)
        return Slot(declared, shape, by_row, is_classes=declared.content in _LAYS_OUT)


# ------------------------------------------------------------------ which tokens count


@dataclass(frozen=True, slots=True)
class _Side:
    """Where the tokens of a side are: row i has the cells from ``starts[i]`` on.

    ``sizes`` are the cells that belong to a row, ``used`` those of them that lie within its
    length.  ``summed`` are the numbers of tokens where each row has one cell, their sum.
    """

    starts: Indices
    sizes: Indices
    used: Indices | None
    mask: Flags | None
    summed: Floats | None
    is_sums: bool

    def tokens(self, rows: Indices | slice, number: int) -> tuple[Tokens, Any]:
        """The tokens of some rows, in order, and their cells."""
        starts, sizes = self.starts[rows], self.sizes[rows]
        if self.is_sums:
            counts = None if self.summed is None else self.summed[rows]
            return Tokens(np.arange(number), counts, number), starts
        used = sizes if self.used is None else self.used[rows]
        sequence = np.repeat(np.arange(number), used)
        before = np.cumsum(used) - used
        cells: Any = np.arange(len(sequence)) + np.repeat(starts - before, used)
        if len(cells) and len(cells) == cells[-1] - cells[0] + 1:
            cells = slice(int(cells[0]), int(cells[-1]) + 1)  # to copy is quicker than to pick
        counts = used.astype(np.float64)
        if self.mask is not None:
            kept = self.mask[cells]
            if not kept.all():
                cells = np.arange(cells.start, cells.stop) if isinstance(cells, slice) else cells
                sequence, cells = sequence[kept], cells[kept]
                counts = np.bincount(sequence, minlength=number).astype(np.float64)
        return Tokens(sequence, counts, number), cells

    def counts(self) -> Floats:
        """How many tokens of each row count."""
        if self.is_sums:
            return np.ones(len(self.starts)) if self.summed is None else self.summed
        used = self.sizes if self.used is None else self.used
        if self.mask is None:
            return used.astype(np.float64)
        before: Floats = np.concatenate([[0.0], np.cumsum(self.mask)])
        found: Floats = before[self.starts + used] - before[self.starts]
        return found


def _sides(
    operands: Sequence[Operand], rows: int, excluded_by_request: Flags | None
) -> dict[str, _Side]:
    """The tokens of each side, of which rows that are not to be looked at have none.

    Raises:
        InvalidTensor: for lengths, offsets or flags that are out of bounds.
    """
    by_name = {operand.name: operand for operand in operands}
    return {
        side: _side(by_name, side, rows, excluded_by_request)
        for side in dict.fromkeys(operand.input.side for operand in operands)
    }


def _side(
    operands: Mapping[str, Operand], side: str, rows: int, excluded_by_request: Flags | None
) -> _Side:
    first = next(
        o for o in operands.values() if o.input.side == side and o.input.content is Content.FLOATS
    )
    offsets, lengths = operands.get(f"{side}offsets"), operands.get(f"{side}lengths")
    mask = operands.get(f"{side}token_mask")
    cells, used, summed = len(first.rows), None, None
    is_sums = False
    if offsets is not None:
        starts, sizes = _from_offsets(offsets, cells)
    elif len(first.shape) - len(first.rows.shape[1:]) == 2:
        width = first.shape[1]
        starts, sizes = np.arange(rows) * width, np.full(rows, width)
        used = None if lengths is None else _lengths(lengths, width, excluded_by_request)
    else:
        is_sums = True
        starts, sizes = np.arange(rows), np.ones(rows, np.intp)
        summed = (
            None
            if lengths is None
            else _lengths(lengths, None, excluded_by_request).astype(np.float64)
        )
    if excluded_by_request is not None and not is_sums:
        used = np.where(excluded_by_request, 0, sizes if used is None else used)
    for operand in operands.values():
        if operand.input.axes is Axes.EITHER and operand.input.side == side:
            _check_unambiguous(operand, cells, sizes)
    return _Side(starts, sizes, used, None if mask is None else _flags(mask), summed, is_sums)


def _from_offsets(offsets: Operand, cells: int) -> tuple[Indices, Indices]:
    given = offsets.rows
    wrong = (given < 0) | (given > cells)
    wrong[1:] |= given[1:] < given[:-1]
    wrong[0] |= given[0] != 0
    wrong[-1] |= given[-1] != cells
    if wrong.any():
        rule = f"ascending order from 0 to the number of tokens, {cells}"
        raise value_error(offsets.name, given, wrong, rule)
    found = given.astype(np.intp)
    return found[:-1], np.diff(found)


def _lengths(lengths: Operand, width: int | None, excluded_by_request: Flags | None) -> Indices:
    given = lengths.rows
    wrong = given < 0 if width is None else (given < 0) | (given > width)
    if excluded_by_request is not None:
        wrong &= ~excluded_by_request
    if wrong.any():
        rule = "[0, inf)" if width is None else f"[0, {width + 1})"
        raise value_error(lengths.name, given, wrong, rule)
    found = given.astype(np.intp)
    if excluded_by_request is not None:
        found[excluded_by_request] = 0
    return found


def _flags(mask: Operand) -> Flags:
    if mask.rows.dtype != np.bool_:
        wrong = (mask.rows != 0) & (mask.rows != 1)
        if wrong.any():
            raise value_error(mask.name, mask.rows.reshape(mask.shape), wrong, "{0, 1}")
    return mask.rows.astype(np.bool_)


def _check_unambiguous(operand: Operand, cells: int, sizes: Indices) -> None:
    """As many numbers as tokens and as sequences: which they are of shows in no shape."""
    is_both = operand.slot.shape == (cells,) and len(sizes) == cells
    if is_both and (sizes != 1).any():
        rule = f"the shape [{cells}, 1] where it is of sequences, of which there are as many as"
        raise shape_error(operand.name, f"{rule} tokens", operand.slot.shape)


def _denominators(
    loss: Loss,
    operands: Sequence[Operand],
    parameters: Mapping[str, Any],
    sides: Mapping[str, _Side],
    ignored: Flags | None,
) -> Floats | None:
    """Returns what each sequence adds to the divisor of a mean, None for 1.

    Raises:
        InvalidParameter: for a length without its aggregation, or the other way round.
        InvalidTensor: for groups without theirs, or the other way round.
    """
    aggregation = parameters["aggregation"]
    is_constant = aggregation is TokenAggregation.CONSTANT_LENGTH
    if is_constant != (parameters["sequence_length"] is not None):
        given = parameters["sequence_length"]
        raise InvalidParameter(
            f"sequence_length must be {'given' if is_constant else 'unset'} with "
            f"{aggregation.name}, got {'nothing' if given is None else f'{given:g}'}",
            field=f"loss.{loss.name}.sequence_length",
        )
    groups = next((o for o in operands if o.name == "groups"), None)
    by_group = aggregation is TokenAggregation.GROUP_MEAN
    if by_group != (groups is not None):
        raise InvalidTensor(
            f"groups must be {'given' if by_group else 'left out'} with {aggregation.name}, "
            f"got {int(groups is not None)}",
            field="inputs",
        )
    if aggregation is TokenAggregation.TOKEN_MEAN:
        return sides[""].counts()
    if groups is None:
        return None
    members, group_of = _groups(groups, ignored)
    return 1 / np.maximum(np.bincount(group_of, members), 1)[group_of]


def _groups(groups: Operand, ignored: Flags | None) -> tuple[Floats, Indices]:
    """Which rows are there, as 1 and 0, and the number of the group of each."""
    _, group_of = np.unique(groups.rows, return_inverse=True)
    members = np.ones(len(group_of)) if ignored is None else (~ignored).astype(np.float64)
    return members, group_of.reshape(-1)


# ------------------------------------------------------------------ evaluation


class _TokenRun:
    """One evaluation: every piece writes to places of its own, so no lock is needed."""

    def __init__(self, batch: Batch, buffers: Buffers, *, zero_nonfinite: bool) -> None:
        self._batch = batch
        self._buffers = buffers
        self._zero_nonfinite = zero_nonfinite
        self._sides = _sides(batch.operands, batch.rows, batch.plan.excluded_by_request)
        self._aggregates = _aggregates(batch.loss)
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
            members, group_of = _groups(self._batch.operand("groups"), self._batch.plan.masked)
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
        step = max(1, PIECE_TOKENS * int(ends[-1]) // max(1, self._batch.operands[0].rows.size))
        wanted = np.arange(step, int(ends[-1]) + step, step)
        stops = np.unique(np.append(np.searchsorted(ends, wanted, "right"), rows))
        stops = stops[(stops > 0) & (stops <= rows)]
        return [slice(int(a), int(b)) for a, b in zip([0, *stops[:-1]], stops, strict=True)]

    def piece(self, rows: slice) -> None:
        """Computes some rows, and writes what they come to."""
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
            a for i, a in zip(batch.loss.inputs, inputs, strict=True) if i.content not in _LAYS_OUT
        ]
        found = batch.loss.body(np, *given, tokens, **batch.parameters)
        values = found.value
        if self._aggregates:
            values = tokens[""].sums(values)
            if self._shares is not None:
                values = values * self._shares[present]
        self._values[present] = values
        sent = self._values[present].astype(batch.dtype)
        self._nonfinite[present] |= ~np.isfinite(sent)
        self._statuses[present] = self._said(found, tokens, number)
        for name in batch.gradients:
            self._write(name, rows, present, found.gradient(name), found_of)
        for name, out in self._buffers.outputs.items():
            out[rows] = 0
            out[present] = found.outputs[name]

    def _input(self, declared: Input, present: Any, found_of: Mapping[str, Any]) -> Array | None:
        """Returns the part of an input that the body sees; None if it is absent or only layout."""
        operand = self._batch.find(declared.name)
        if operand is None or declared.content in _LAYS_OUT:
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
