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

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lossd.backends import Backend
from lossd.batch import (
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
from lossd.losses import Axes, Content, Input, Loss
from lossd.reduction import Flags, RowPlan, plan_rows
from lossd.shapes._compiled_token_run import CompiledTokenRun, check_parameters
from lossd.shapes._memory import largest
from lossd.shapes._shape import Buffers, Checkpoint, Evaluated, Evaluator, ShapeRules
from lossd.shapes._token_forms import OF_TOKENS, TokenForm, aggregates, first_of, may_be_flat
from lossd.shapes._token_run import TokenRun
from lossd.shapes._token_sides import denominators_of, sides_of


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
        if declared.axes not in OF_TOKENS:
            return ("(N,)",)
        of_tokens = ("(N, T)", "(tokens,)") if may_be_flat(loss, declared.side) else ()
        if declared.axes is Axes.CLASSES:
            return ("(N, T, K)", "(tokens, K)")
        of_sums = not aggregates(loss) and declared.content is not Content.FLAGS
        may_be_one = of_sums or declared.axes is Axes.EITHER
        return (*of_tokens, "(N,)") if may_be_one else of_tokens

    def lay_out(self, given: Given) -> Layout:
        """Slots of all inputs that are given, of sides that have as many sequences each."""
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
        self, job: Job, layout: Layout, operands: Sequence[Operand], parameters: Mapping[str, Any]
    ) -> RowPlan:
        """See ``ShapeRules.plan``; the tokens that count are what a mean of tokens divides by."""
        ignored = ignored_examples(job, layout, None, parameters)
        weights = weights_of(job, layout, ignored)
        excluded_by_request = _union(ignored, None if weights is None else weights == 0)
        sides = sides_of(operands, layout.rows, excluded_by_request)
        denominators = None
        if aggregates(job.loss):
            denominators = denominators_of(job.loss, operands, parameters, sides, ignored)
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
        kernel = backend.token_kernel(template)
        make: Callable[..., TokenRun] = TokenRun
        if kernel is not None:
            check_parameters(template)
            make = functools.partial(CompiledTokenRun, kernel, backend.threads)

        def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
            run = make(batch, buffers, zero_nonfinite=zero_nonfinite)

            def work(index: int) -> None:
                checkpoint()
                with np.errstate(all="ignore"):
                    run.piece(run.cuts[index])

            backend.side_by_side(len(run.cuts), work)
            return run.finished()

        return evaluate


def _union(left: Flags | None, right: Flags | None) -> Flags | None:
    if left is None or right is None:
        return left if right is None else right
    return left | right
