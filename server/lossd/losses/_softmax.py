"""The softmax of a tile of rows, in the parts that keep full relative accuracy.

With m the largest logit of a row and e_j = exp(x_j - m), the term of the largest itself is exactly
1 and is kept apart from the ``rest``.  Then

    log sum exp(x) - x_t = (m - x_t) + log1p(rest)
    1 - p_t = (sum of e_j over j != t) / (1 + rest)

neither of which subtracts nearly equal numbers, however confident the prediction is.  The textbook
form log(1 + rest) - log(e_t) is exactly 0 in float32 once the margin exceeds 17.
"""

from dataclasses import dataclass
from typing import Any

from lossd.losses._schema import Array


@dataclass(frozen=True, slots=True)
class Softmax:
    """A softmax over the last axis; every array but ``exponentials`` has one number a row."""

    logits: Array
    rows: Array  # 0, 1, 2, ...
    best: Array  # index of the largest logit, the lowest one of several
    largest: Array
    exponentials: Array  # exp(logits - largest); belongs to the caller from here on
    rest: Array  # sum of the exponentials without that of ``best``
    common: Array | None = None  # what was taken off all logits of a row

    @property
    def total(self) -> Array:
        """Sum of the exponentials."""
        return 1 + self.rest

    def log_sum_exp(self, xp: Any) -> Array:
        """Log of the sum of the exponentials of the logits."""
        log_sum = self.largest + xp.log1p(self.rest)
        return log_sum if self.common is None else log_sum + self.common

    def negative_log(self, xp: Any, classes: Array) -> Array:
        """-log p of one class a row."""
        margin = self.largest - self.logits[self.rows, classes]
        # Where the class is the best the margin is 0, also for an infinite logit (inf - inf).
        return xp.where(classes == self.best, 0, margin) + xp.log1p(self.rest)

    def negative_logs(self, xp: Any) -> Array:
        """-log p of every class."""
        margins = self.largest[:, None] - self.logits
        margins[self.rows, self.best] = 0
        return margins + xp.log1p(self.rest)[:, None]

    def entropy(self, xp: Any) -> Array:
        """-sum p log p, of terms that are never negative."""
        margins = self.largest[:, None] - self.logits
        margins *= self.exponentials
        # An impossible class has an infinite margin and no share: NaN, and nothing in the sum.
        margins = xp.where(margins > 0, margins, 0)
        return xp.log1p(self.rest) + margins.sum(axis=-1) / self.total

    def probabilities(self) -> Array:
        """The probability of every class."""
        return self.exponentials / self.total[:, None]

    def complements(self) -> Array:
        """One less the probability of every class."""
        rest = self.rest[:, None]
        others = 1 + (rest - self.exponentials)
        others[self.rows, self.best] = self.rest
        return others / (1 + rest)

    def others(self, xp: Any, classes: Array) -> Array:
        """(1 - p) times ``total`` for one class a row."""
        own = self.exponentials[self.rows, classes]
        # The largest one, which is 1, is among the others: nothing cancels.
        return xp.where(classes == self.best, self.rest, 1 + (self.rest - own))

    def surplus(self, xp: Any, shares: Array, pull: Array | None = None) -> Array:
        """(sum(s) + pull) p - s, with one number a row of ``pull``; uses up ``exponentials``.

        Without a pull it is the derivative of -sum(s log p) by the logits.  At the best class that
        is the others' shares less sum(s) (1 - p): the form that keeps its digits where p is near 1,
        and loses them where p is small.
        """
        others = shares.copy()
        others[self.rows, self.best] = 0
        mass = shares.sum(axis=-1)
        at_best = xp.where(
            self.rest < 1,
            others.sum(axis=-1) - mass * (self.rest / self.total),
            mass / self.total - shares[self.rows, self.best],
        )
        unit = mass / self.total
        if pull is not None:
            more = pull / self.total
            at_best = at_best + more
            unit = unit + more
        surplus = self.exponentials
        surplus *= unit[:, None]
        surplus -= shares
        surplus[self.rows, self.best] = at_best
        return surplus


def softmax(xp: Any, logits: Array, biases: Array | None = None) -> Softmax:
    """Computes the softmax of each row of a C-contiguous array.

    A logit of -inf is a class of probability 0.  A single +inf is a class of probability 1.  Rows
    with NaN, with several +inf or with nothing but -inf become NaN.  ``biases``, one a class, are
    added to the logits.
    """
    common = None
    if biases is not None:
        # Large logits would swallow the biases, so what all logits have in common is taken off.
        common = logits.max(axis=-1)
        common = xp.where(xp.isfinite(common), common, 0)
        logits = logits - common[:, None]
        logits += biases
    rows = xp.arange(len(logits))
    best = logits.argmax(axis=-1)
    largest = logits[rows, best]
    exponentials = logits - largest[:, None]
    xp.exp(exponentials, out=exponentials)
    exponentials[rows, best] = 0
    rest = exponentials.sum(axis=-1)
    rest[~(largest > -xp.inf)] = xp.nan  # with one class there is no other to show it
    exponentials[rows, best] = 1
    return Softmax(logits, rows, best, largest, exponentials, rest, common)
