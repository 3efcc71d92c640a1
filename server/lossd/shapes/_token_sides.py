"""Which tokens of a side count, whose they are, and what a mean of them divides by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.batch import (
    Array,
    Operand,
    shape_error,
    value_error,
)
from lossd.checkpoints import Checkpoint
from lossd.errors import InvalidParameter, InvalidTensor
from lossd.losses import Axes, Content, Loss, Part, TokenAggregation, Tokens
from lossd.ordering import dense_ranks
from lossd.reduction import Flags, Floats
from lossd.schema import exactly

Indices = npt.NDArray[np.intp]
# Cells whose flags are counted together.
_COUNTED = 1 << 15
_NONE: Indices = np.zeros(0, np.intp)


@dataclass(frozen=True, slots=True)
class TokenSide:
    """Where the tokens of a side are: row i has the cells from ``starts[i]`` on.

    ``sizes`` are the cells that belong to a row, ``used`` those of them that lie within its
    length.  Where each row has one cell, the sum of its tokens, there are neither, and ``summed``
    are the numbers of tokens.
    """

    rows: int
    starts: Indices
    sizes: Indices
    used: Indices | None
    mask: Flags | None
    summed: Floats | None
    is_sums: bool

    @property
    def lengths(self) -> Indices:
        """How many cells of each row lie within its length."""
        return self.sizes if self.used is None else self.used

    def tokens(self, rows: Indices | slice, number: int) -> tuple[Tokens, Any]:
        """Returns the tokens of some rows, in order, and their cells."""
        if self.is_sums:
            counts = None if self.summed is None else self.summed[rows]
            return Tokens(np.arange(number), counts, number), rows
        starts, used = self.starts[rows], self.lengths[rows]
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

    def block(
        self, row: int, cells: slice, count: float = 0.0, part: Part | None = None
    ) -> tuple[Tokens, Any]:
        """Returns those of some cells of a row that count, as a part of so many tokens."""
        end = int(self.starts[row] + self.lengths[row])
        within: Any = slice(cells.start, max(cells.start, min(cells.stop, end)))
        number = within.stop - within.start
        if self.mask is not None and not self.mask[within].all():
            within = within.start + np.flatnonzero(self.mask[within])
            number = len(within)
        sequence = np.zeros(number, np.intp)
        return Tokens(sequence, np.array([count]), 1, of_sequence=part), within

    def cells(self, rows: slice) -> slice:
        """Returns all cells of some rows."""
        if rows.start == rows.stop:
            return slice(0, 0)
        last = rows.stop - 1
        return slice(int(self.starts[rows.start]), int(self.starts[last] + self.sizes[last]))

    def clear(self, out: Array, rows: slice, kept: Indices) -> None:
        """Writes 0 to the cells of some rows, but to so many at the start of each.

        The rows are one of ``cuts``: a row that is alone may have any number of cells.
        """
        sizes, part = self.sizes[rows], out[self.cells(rows)]
        if (kept == sizes).all():
            return
        if len(sizes) == 1:
            part[int(kept[0]) :] = 0
            return
        first = self.starts[rows.start]
        ends = np.repeat(self.starts[rows] - first + kept, sizes)
        part[np.arange(len(part)) >= ends] = 0

    def is_long(self, rows: slice, step: int) -> bool:
        """Returns whether these are one row, of more cells than a step."""
        return rows.stop - rows.start == 1 and int(self.sizes[rows.start]) > step

    def cuts(self, step: int) -> list[slice]:
        """Returns whole rows of about as many cells as a step; one that is longer is alone."""
        if self.is_sums or not self.rows:
            return [slice(i, min(i + step, self.rows)) for i in range(0, max(self.rows, 1), step)]
        ends = self.starts + self.sizes
        wanted = np.arange(step, int(ends[-1]) + step, step)
        long = np.flatnonzero(self.sizes > step)
        many = np.arange(step, self.rows, step)  # of rows, which may have no cells
        stops = (np.searchsorted(ends, wanted, "right"), long, long + 1, many, [self.rows])
        found = np.unique(np.concatenate(stops))
        found = found[(found > 0) & (found <= self.rows)]
        return [slice(int(a), int(b)) for a, b in zip([0, *found[:-1]], found, strict=True)]

    def in_parts(self, step: int) -> tuple["TokenSide", Indices]:
        """Returns the parts of rows, of at most so many cells each, and which row each is of.

        Where a part begins depends on its row alone.
        """
        numbers = np.maximum(-(-self.sizes // step), 1)
        row_of = np.repeat(np.arange(self.rows), numbers)
        first = np.cumsum(numbers) - numbers
        before = (np.arange(len(row_of)) - first[row_of]) * step
        sizes = np.minimum(self.sizes[row_of] - before, step)
        used = None if self.used is None else (self.used[row_of] - before).clip(0, sizes)
        starts = self.starts[row_of] + before
        return replace(self, rows=len(row_of), starts=starts, sizes=sizes, used=used), row_of

    def counts(self) -> Floats:
        """Returns how many tokens of each row count."""
        if self.is_sums:
            return np.ones(self.rows) if self.summed is None else self.summed
        used = self.lengths
        if self.mask is None:
            return used.astype(np.float64)
        found = np.zeros(self.rows)
        for rows in self.cuts(_COUNTED):
            if self.is_long(rows, _COUNTED):
                start, length = self.starts[rows.start], used[rows.start]
                found[rows] = np.count_nonzero(self.mask[start:][:length])
                continue
            cells = self.cells(rows)
            before = np.append(0, np.cumsum(self.mask[cells]))
            starts = self.starts[rows] - cells.start
            found[rows] = before[starts + used[rows]] - before[starts]
        return found


def sides_of(
    operands: Sequence[Operand], rows: int, excluded_by_request: Flags | None
) -> dict[str, TokenSide]:
    """Returns the tokens of each side, of which rows that are not to be looked at have none.

    Raises:
        InvalidTensor: for lengths, offsets or flags that are out of bounds.
    """
    by_name = {operand.name: operand for operand in operands}
    return {
        side: _side(by_name, side, rows, excluded_by_request, excluded_by_request)
        for side in dict.fromkeys(operand.input.side for operand in operands)
    }


def members_of(
    operands: Sequence[Operand],
    rows: int,
    excluded_by_request: Flags | None,
    ignored: Flags | None,
) -> TokenSide:
    """Returns the tokens of a loss with one side, also those of rows of weight 0.

    Such a row stays an example: what its group is divided by does not depend on its weight.
    """
    by_name = {operand.name: operand for operand in operands}
    return _side(by_name, "", rows, excluded_by_request, ignored)


def _side(
    operands: Mapping[str, Operand],
    side: str,
    rows: int,
    unchecked: Flags | None,
    left_out: Flags | None,
) -> TokenSide:
    """Returns a side, without the tokens of rows that are left out."""
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
        used = None if lengths is None else _lengths(lengths, width, unchecked)
    else:
        is_sums = True
        starts = sizes = _NONE
        summed = None if lengths is None else _lengths(lengths, None, unchecked).astype(np.float64)
    if left_out is not None:
        if not is_sums:
            used = np.where(left_out, 0, sizes if used is None else used)
        elif summed is not None:
            summed[left_out] = 0
    for operand in operands.values():
        if operand.input.axes is Axes.EITHER and operand.input.side == side:
            _check_unambiguous(operand, cells, sizes)
    flags = None if mask is None else _flags(mask)
    return TokenSide(rows, starts, sizes, used, flags, summed, is_sums)


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


def _lengths(lengths: Operand, width: int | None, unchecked: Flags | None) -> Indices:
    """Returns lengths; the nearest that may be, for those that are not checked."""
    given = lengths.rows
    wrong = given < 0 if width is None else (given < 0) | (given > width)
    if unchecked is not None:
        wrong &= ~unchecked
    if wrong.any():
        rule = "[0, inf)" if width is None else f"[0, {width + 1})"
        raise value_error(lengths.name, given, wrong, rule)
    return given.astype(np.intp).clip(0, width)


def _flags(mask: Operand) -> Flags:
    if mask.rows.dtype != np.bool_ and not _are_flags(mask.rows):
        wrong = (mask.rows != 0) & (mask.rows != 1)
        if wrong.any():
            raise value_error(mask.name, mask.rows.reshape(mask.shape), wrong, "{0, 1}")
    return np.ascontiguousarray(mask.rows, np.bool_)


def _are_flags(given: npt.NDArray[Any]) -> bool:
    """Returns whether integers are 0 and 1, without an array of what is wrong with each."""
    return given.dtype.kind in "iu" and given.size > 0 and given.min() >= 0 and given.max() <= 1


def _check_unambiguous(operand: Operand, cells: int, sizes: Indices) -> None:
    """Refuses as many numbers as tokens and as sequences: which they are of shows in no shape."""
    is_both = operand.slot.shape == (cells,) and len(sizes) == cells
    if is_both and (sizes != 1).any():
        rule = f"the shape [{cells}, 1] where it is of sequences, of which there are as many as"
        raise shape_error(operand.name, f"{rule} tokens", operand.slot.shape)


def denominators_of(
    loss: Loss,
    operands: Sequence[Operand],
    parameters: Mapping[str, Any],
    sides: Mapping[str, TokenSide],
    ignored: Flags | None,
    *,
    checkpoint: Checkpoint,
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
            f"{aggregation.name}, got {'nothing' if given is None else exactly(given)}",
            field=f"loss.{loss.name}.sequence_length",
        )
    groups = next((o for o in operands if o.name == "groups"), None)
    by_group = aggregation is TokenAggregation.GROUP_MEAN
    if by_group != (groups is not None):
        raise InvalidTensor(
            f"groups must be {'given' if by_group else 'left out'} with {aggregation.name}, "
            f"got {'nothing' if groups is None else 'some'}",
            field="inputs",
        )
    if aggregation is TokenAggregation.TOKEN_MEAN:
        return sides[""].counts()
    if groups is None:
        return None
    group_of = groups_of(groups, checkpoint)
    members = None if ignored is None else ~ignored
    return 1 / np.maximum(np.bincount(group_of, members), 1)[group_of]


def groups_of(groups: Operand, checkpoint: Checkpoint) -> Indices:
    """Returns the number of the group of each row."""
    return dense_ranks(groups.rows.reshape(-1), checkpoint)
