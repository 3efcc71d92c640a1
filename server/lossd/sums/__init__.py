"""Sums of losses: several terms over the same inputs, with one combined gradient.

A term is a job of its own.  Whatever the sum is asked for (a reduction, weights, a mask, a
cotangent), each term is asked for, and has to support.
"""

from lossd.sums._jobs import MAX_TERMS, SumJob, Term, of_term
from lossd.sums._run import run

__all__ = ["MAX_TERMS", "SumJob", "Term", "of_term", "run"]
