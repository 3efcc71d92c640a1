"""Counts the bytes that a job takes, before any is taken."""

from collections.abc import Callable

from lossd.plan import Plan

Hold = Callable[[int], None]


def hold_nothing(_: int) -> None:
    """Stands for whoever counts bytes, where nobody does."""


def hold_needed(plan: Plan, hold: Hold, *, with_answered: bool) -> None:
    """Counts what a job takes, if it is much, before any of it is taken."""
    laid = plan.laid
    if laid.needed:
        answered = laid.gradient_bytes + sum(output.nbytes for output in plan.outputs)
        hold(laid.needed + (answered if with_answered else 0))
