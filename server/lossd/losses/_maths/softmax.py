"""The softmax of a tile of rows, in the parts that keep full relative accuracy.

With m the largest logit of a row and e_j = exp(x_j - m), the term of the largest itself is exactly
1 and is kept apart from the ``rest``.  Then

    log sum exp(x) - x_t = (m - x_t) + log1p(rest)
    1 - p_t = (sum of e_j over j != t) / (1 + rest)

neither of which subtracts nearly equal numbers, however confident the prediction is.  The textbook
form log(1 + rest) - log(e_t) is exactly 0 in float32 once the margin exceeds 17.

A temperature divides distances to the largest logit.  Dividing the logits themselves could
overflow, or round their differences.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.schema import Array

# A distribution is close to another one if they differ by less than this part of it.
NEAR = 0.5


@dataclass(frozen=True, slots=True)
class Softmax:
    """A softmax over the last axis; arrays have one number for each row, or for each class."""

    logits: Array
    rows: Array  # 0, 1, 2, ...
    best: Array  # index of the largest logit, the lowest index of several
    largest: Array
    exponentials: Array  # exp(logits - largest); belongs to the caller from here on
    rest: Array  # sum of the exponentials except that of ``best``
    common: Array | None = None  # subtracted from all logits of a row before they were stored

    @property
    def total(self) -> Array:
        """The sum of the exponentials."""
        return 1 + self.rest

    def log_sum_exp(self, xp: Any) -> Array:
        """Returns the log of the sum of the exponentials of the logits."""
        log_sum = self.largest + xp.log1p(self.rest)
        return log_sum if self.common is None else log_sum + self.common

    def negative_log(self, xp: Any, classes: Array) -> Array:
        """Returns -log p of one class for each row."""
        margin = self.largest - self.logits[self.rows, classes]
        # Where the class is the best one the margin is 0, even for an infinite logit (inf - inf).
        return xp.where(classes == self.best, 0, margin) + xp.log1p(self.rest)

    def negative_logs(self, xp: Any) -> Array:
        """Returns -log p of every class."""
        margins = self.largest[:, None] - self.logits
        margins[self.rows, self.best] = 0
        return margins + xp.log1p(self.rest)[:, None]

    def entropy(self, xp: Any) -> Array:
        """Returns -sum p log p, from terms that are never negative."""
        margins = self.largest[:, None] - self.logits
        margins *= self.exponentials
        # An impossible class has an infinite margin and a share of 0: NaN, which the sum skips.
        margins = xp.where(margins > 0, margins, 0)
        return xp.log1p(self.rest) + margins.sum(axis=-1) / self.total

    def probabilities(self) -> Array:
        """Returns the probability of every class."""
        return self.exponentials / self.total[:, None]

    def complements(self) -> Array:
        """Returns one minus the probability of every class."""
        rest = self.rest[:, None]
        others = 1 + (rest - self.exponentials)
        others[self.rows, self.best] = self.rest
        return others / (1 + rest)

    def log_odds(self, xp: Any) -> Array:
        """Returns log(p / (1 - p)) of every class, however far from the best it is."""
        below = self.logits - self.largest[:, None]
        below[self.rows, self.best] = -xp.inf
        second = below.max(axis=-1)
        log_rest = second + xp.log(xp.exp(below - second[:, None]).sum(axis=-1))
        others = 1 + (self.rest[:, None] - self.exponentials)
        others[self.rows, self.best] = 1
        odds = below - xp.log(others)
        # A single class has no odds against it, and NaN stays NaN.
        odds[self.rows, self.best] = xp.where(second == -xp.inf, xp.inf + self.rest, -log_rest)
        return odds

    def others(self, xp: Any, classes: Array) -> Array:
        """Returns (1 - p) times ``total`` for one class of each row."""
        own = self.exponentials[self.rows, classes]
        # The largest one, which is 1, is among the others: nothing cancels.
        return xp.where(classes == self.best, self.rest, 1 + (self.rest - own))

    def logit_gradient(
        self, xp: Any, shares: Array, exact: Callable[[Array], Array] | None = None
    ) -> Array:
        """Returns sum(s) p - s, the gradient of -sum(s log p); overwrites ``exponentials``.

        The gradient is with respect to the logits.  At the best class it is the others' shares
        minus sum(s) (1 - p): the form that keeps its digits where p is near 1, and loses them where
        p is small.  Rows whose p and s are nearly uniform lose them everywhere, and are computed
        once more: from what ``exact`` returns, the shares of some rows in float64, where they were
        rounded as they were made.
        """
        others = shares.copy()
        others[self.rows, self.best] = 0
        mass = shares.sum(axis=-1)
        at_best = xp.where(
            self.rest < 1,
            others.sum(axis=-1) - mass * (self.rest / self.total),
            mass / self.total - shares[self.rows, self.best],
        )
        logit_gradient = self.exponentials
        logit_gradient *= (mass / self.total)[:, None]
        logit_gradient -= shares
        logit_gradient[self.rows, self.best] = at_best
        near = xp.flatnonzero(abs(logit_gradient).sum(axis=-1) < NEAR * mass)
        if len(near):
            apart = shares[near] - shares[near, self.best[near]][:, None]
            near = near[abs(apart).sum(axis=-1) < NEAR * mass[near]]
            doubles = shares[near].astype(np.float64) if exact is None else exact(near)
            logit_gradient[near] = self._logit_gradient_of_uniform(xp, near, doubles)
        return logit_gradient

    def _logit_gradient_of_uniform(self, xp: Any, near: Array, shares: Array) -> Array:
        """Returns the gradients of some rows, from float64 shares in float64."""
        rows, best, count = xp.arange(len(shares)), self.best[near], shares.shape[1]
        below = self.logits[near].astype(np.float64) - self.largest[near][:, None]
        below[rows, best] = 0
        mass = shares.sum(axis=-1)[:, None]
        # With f = e - 1 and a = s minus the s of the best, it is sum(a) - C a_c + sum(s) f_c -
        # s_c sum(f) over the total.  Where p and s are nearly uniform, none of these is large.
        grown = xp.expm1(below)
        apart = shares - shares[rows, best][:, None]
        more, lacking = apart.sum(axis=-1)[:, None], grown.sum(axis=-1)[:, None]
        total = count + lacking
        terms = more, -count * apart, mass * grown, -shares * lacking
        of_uniform = (terms[0] + terms[1] + terms[2] + terms[3]) / total
        size = sum(abs(term) for term in terms) / total
        logit_gradient = mass * (xp.exp(below) / total) - shares
        logit_gradient[rows, best] = 0
        logit_gradient[rows, best] = -logit_gradient.sum(axis=-1)  # all of them add up to 0
        return xp.where(size < shares, of_uniform, logit_gradient)


def softmax(
    xp: Any,
    logits: Array,
    biases: Array | None = None,
    *,
    temperature: float = 1.0,
    sharpness: float = 1.0,
    offset: float = 0.0,
) -> Softmax:
    """Computes the softmax of each row of a C-contiguous array.

    A logit of -inf is a class of probability 0.  A single +inf is a class of probability 1.  Rows
    with NaN, with several +inf or with only -inf become NaN.  Logits are divided by the
    ``temperature`` and multiplied by the ``sharpness``; then ``biases``, one for each class, and
    the ``offset`` are added.  The offset changes nothing but the log of the sum, which knows it
    to its last digit: a large one among the biases would swallow the logits.
    """
    rows = xp.arange(len(logits))
    best = logits.argmax(axis=-1)
    largest = logits[rows, best]
    if biases is None and temperature == 1 and sharpness == 1 and offset == 0:
        exponentials = logits - largest[:, None]
        xp.exp(exponentials, out=exponentials)
        rest = _rest(xp, exponentials, rows, best, largest)
        return Softmax(logits, rows, best, largest, exponentials, rest)
    # Rounded once, since a distance of 80 that is rounded to float32 is off by 4e-6.
    wide = logits.astype(np.float64)
    common = xp.where(xp.isfinite(largest), largest, 0).astype(np.float64)
    wide -= common[:, None]
    if sharpness != 1:
        wide *= sharpness
    if temperature != 1:
        wide /= temperature
    common = common * sharpness / temperature
    if biases is not None:
        wide += biases
        best = wide.argmax(axis=-1)
    largest = wide[rows, best]
    if biases is not None or not xp.isfinite(largest).all():
        wide -= largest[:, None]
    below = wide.astype(logits.dtype)
    exponentials = xp.exp(below)
    if below.dtype != wide.dtype:
        # exp(a + b) = exp(a) + b exp(a) for a b as small as a rounding error.
        wide -= below
        wide *= exponentials
        if not xp.isfinite(below).all():
            wide[below == -xp.inf] = 0
        exponentials += wide.astype(below.dtype)
    rest = _rest(xp, exponentials, rows, best, largest)
    common = (common + offset + largest).astype(logits.dtype)
    return Softmax(below, rows, best, xp.zeros_like(common), exponentials, rest, common)


def _rest(xp: Any, exponentials: Array, rows: Array, best: Array, largest: Array) -> Array:
    """Returns the sum without the best class's exponential, which is made exactly 1."""
    exponentials[rows, best] = 0
    rest = exponentials.sum(axis=-1)
    rest[~(largest > -xp.inf)] = xp.nan  # with one class there is no other that would be NaN
    exponentials[rows, best] = 1
    return rest
