"""TOKENS: one example a sequence of tokens, or a pair of them, of any lengths.

Tokens come padded (N, T), with ``lengths``; or flat (tokens,), with the ``offsets`` of the
sequences; and where a loss takes no more than sums over sequences, as these sums (N,).  Inputs
whose names begin alike, such as those of the chosen and of the rejected answers, have their own
tokens.  Where tokens have a number for each class, these lie along one more axis, the last.

The body is given the tokens that count of some sequences, flat and in float64, None for an input
that is not given, and for each side its ``Tokens``; of examples that have no part in anything it
sees nothing.  Where the shape does not aggregate, each sequence is one number, the sum of its
tokens.  A body may be run several times, see ``Whole``.  It returns the value of each example, or
where the shape aggregates, of each token, and the derivatives of the sum of all values with respect
to each number.

It computes on the host, whatever the backend: to bring the few numbers of a token to a device and
back takes longer than to compute with them.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lossd.backends import Backend
from lossd.batch import (
    Array,
    Batch,
    Given,
    Job,
    Layout,
    Operand,
    cotangent_of,
    ignored_examples,
    shape_error,
    weights_of,
)
from lossd.checkpoints import Checkpoint
from lossd.losses import Axes, Content, Input, Loss
from lossd.reduction import Flags, RowPlan, are_zero, plan_rows, union
from lossd.shapes._compiled_token_run import MOST_TOKENS, CompiledTokenRun, check_parameters
from lossd.shapes._memory import largest
from lossd.shapes._pieces import side_by_side
from lossd.shapes._shape import Buffers, Evaluated, Evaluator, ShapeRules
from lossd.shapes._summed_run import SummedRun
from lossd.shapes._token_forms import OF_TOKENS, TokenForm, aggregates, first_of, may_be_flat
from lossd.shapes._token_results import BLOCK_ROWS
from lossd.shapes._token_run import PIECE_TOKENS, TokenRun
from lossd.shapes._token_sides import denominators_of, sides_of

# What a body makes of each token of a piece: a dozen numbers in double precision.
WORKING_BYTES = 128
# A piece of tokens may be a row longer, which is no longer than one; of many classes it is a token.
MOST_OF_PIECE = 2 * PIECE_TOKENS
# What is kept for each row: where its tokens are, how many count, its scale, share and value; of a
# row that is a sum, its value.
ROW_BYTES, SUM_BYTES = 128, 12
# Outputs for which all ratios of a long sequence are kept, and sorted.
SORTED, SORTED_BYTES = {"ratio_p05", "ratio_p50", "ratio_p95"}, 24


class TokensShape(ShapeRules):
    """See the module."""

    on_host = True

    def in_place(self, loss: Loss) -> frozenset[str]:
        """See ``ShapeRules.in_place``: numbers of tokens, but not of their classes."""
        return frozenset(
            declared.name
            for declared in loss.inputs
            if declared.content is Content.FLOATS and declared.axes is not Axes.CLASSES
        )

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: pieces, a few numbers a row, and ratios that are sorted."""
        elements = largest([slot.rows_shape for slot in layout.slots])
        are_sums = _are_sums(layout)
        classes = largest([slot.rows_shape[1:] for slot in layout.slots])  # of one token
        most = workers * (BLOCK_ROWS if are_sums else max(MOST_OF_PIECE, classes))
        of_pieces = min(elements, most) * (loss.working_bytes or WORKING_BYTES)
        of_rows = layout.rows * (SUM_BYTES if are_sums else ROW_BYTES)
        is_sorted = SORTED & {member.value.name for member in parameters.get("outputs", ())}
        return of_pieces + of_rows + (elements * SORTED_BYTES if is_sorted else 0)

    def needed(  # noqa: PLR0917 - all that it follows from
        self,
        job: Job,
        layout: Layout,
        arrays: Mapping[str, Array],
        parameters: Mapping[str, Any],
        dtype: np.dtype[Any],
        workers: int,
    ) -> int:
        """See ``ShapeRules.needed``; derivatives of 16 bits are rounded from float64.

        Those of classes are so part by part, however long a sequence is.
        """
        found = super().needed(job, layout, arrays, parameters, dtype, workers)
        first = arrays[job.loss.inputs[0].name]
        if not found or first.dtype.itemsize != 2:
            return found
        size = first.size
        if job.loss.inputs[0].axes is Axes.CLASSES:
            size = min(size, workers * max(MOST_TOKENS, first.shape[-1]))
        return found + 8 * size

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        if declared.content is Content.OFFSETS:
            return ("(N + 1,)",)
        if declared.axes not in OF_TOKENS:
            return ("(N,)",)
        of_tokens = ("(N, T)", "(tokens,)") if may_be_flat(loss, declared.side) else ()
        if declared.axes is Axes.CLASSES:
            return ("(N, T, K)", "(tokens, K)")
        of_sums = not aggregates(loss) and declared.content is not Content.FLAGS
        may_be_one = of_sums or declared.axes is Axes.EITHER
        return (*of_tokens, "(N,)") if may_be_one else of_tokens

    def lay_out(self, given: Given) -> Layout:
        """Returns slots of all inputs that are given, of sides that have as many sequences each."""
        present = [i for i in given.loss.inputs if i.name in given.arrays]
        forms = {side: TokenForm.of(given, side) for side in dict.fromkeys(i.side for i in present)}
        first = next(iter(forms.values()))
        for side, form in forms.items():
            if form.rows != first.rows:
                name = first_of(given, side).name
                rule = f"as many sequences as {given.first.name}, {first.rows}"
                raise shape_error(name, rule, given.arrays[name].shape)
        slots = tuple(forms[i.side].slot(i, given.arrays[i.name].shape) for i in present)
        length = max(1, first.cells // max(1, first.rows)) * math.prod(first.classes)
        return Layout(slots, (first.rows,), first.rows, length)

    def plan(
        self,
        job: Job,
        layout: Layout,
        operands: Sequence[Operand],
        parameters: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> RowPlan:
        """See ``ShapeRules.plan``; the tokens that count are what a mean of tokens divides by."""
        ignored = ignored_examples(job, layout, None, parameters)
        weights = weights_of(job, layout, ignored)
        excluded_by_request = union(ignored, are_zero(weights))
        sides = sides_of(operands, layout.rows, excluded_by_request)
        denominators = None
        if aggregates(job.loss):
            denominators = denominators_of(
                job.loss, operands, parameters, sides, ignored, checkpoint=checkpoint
            )
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
        """Returns the operands as they are: what lays tokens out was checked for the plan."""
        del loss, excluded, parameters
        return operands

    def check_rules(self, batch: Batch) -> None:
        """See ``ShapeRules.check_rules``; a batch of no rows is evaluated like any other."""

    def evaluator(self, template: Batch, backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
        """See ``ShapeRules.evaluator``."""
        make = self._maker(template, backend)

        def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
            with np.errstate(all="ignore"):
                run = make(batch, buffers, checkpoint, zero_nonfinite=zero_nonfinite)
                run.compute(side_by_side(backend, checkpoint))
            return run.finished()

        return evaluate

    @staticmethod
    def _maker(template: Batch, backend: Backend) -> Callable[..., TokenRun | SummedRun]:
        if not aggregates(template.loss):
            return functools.partial(SummedRun, backend.token_sums())
        kernel = backend.token_kernel(template)
        if kernel is None:
            return TokenRun
        check_parameters(template)
        return functools.partial(CompiledTokenRun, kernel, backend.threads)


def _are_sums(layout: Layout) -> bool:
    """Returns whether all inputs have one number for each row."""
    return all(slot.shape == (layout.rows,) for slot in layout.slots)
