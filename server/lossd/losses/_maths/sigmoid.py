"""Cross-entropy of a sigmoid, in the parts that keep full relative accuracy.

With low = min(x, 0) and high = max(x, 0), -log p is log(1 + exp(-|x|)) - low and -log(1 - p) is
log(1 + exp(-|x|)) + high.  Of exp(low) and exp(-high), which are in proportion to p and 1 - p, one
is 1: their product is exp(-|x|) to the bit, and nothing overflows.  Nothing is selected by sign:
where signs are random, NumPy's ``where`` takes longer than an exponential.

For a target near 1/2, the derivative with respect to a logit near 0 is the small difference of two
large numbers.  There 1 is subtracted from both, as expm1 does.  So it is where labels are smoothed
until next to nothing is left of them: what the two weights differ by is ``apart``, which who makes
them of other numbers computes from these.
"""

from dataclasses import dataclass
from typing import Any

from lossd.schema import Array

# The same in a kernel: value and gradient from `prediction`, `positive`, `negative`, and `apart`,
# which is `negative` minus `positive`.  The fma is explicit: otherwise the compiler would choose
# for each kernel which product to round.
SIGMOID_COST = """
    const T tail = exp(-fabs(prediction));
    const T common = log1p_of_share(tail);
    const T large = 1 / (1 + tail);
    const T small = tail * large;
    const T yes = prediction >= 0 ? large : small;
    const T no = prediction >= 0 ? small : large;
    value = weighed(positive, fmax(-prediction, T(0)) + common)
          + weighed(negative, fmax(prediction, T(0)) + common);
    gradient = tail > T(0.5)
        ? large * fma(prediction < 0 ? negative : -positive, expm1(-fabs(prediction)),
                      apart)
        : fma(negative, yes, -(positive * no));
"""


@dataclass(frozen=True, slots=True)
class SigmoidCost:
    """The cost of yes-or-no answers, and the parts of derivatives; the caller owns the arrays.

    p is ``yes`` / (``negative`` (1 + ``tail``)), so the derivative of the cost with respect to the
    logit, which is negative p - positive (1 - p), is (``yes`` - ``no``) / (1 + ``tail``).
    """

    value: Array  # -positive log p - negative log(1 - p)
    yes: Array
    no: Array
    tail: Array  # exp(-|x|)
    logits: Array
    positive: Array
    negative: Array
    apart: Array  # negative - positive

    def derivative(self, xp: Any, out: Array | None = None) -> Array:
        """Returns the derivative with respect to the logit; ``out`` may be ``yes``."""
        derivative = xp.subtract(self.yes, self.no, out=out)
        even = abs(self.apart) < 0.25 * self.negative
        if even.any():
            logits, positive, negative, apart = (
                a[even] for a in (self.logits, self.positive, self.negative, self.apart)
            )
            shrunk = xp.expm1(-abs(logits))
            shrunk *= xp.where(logits < 0, negative, -positive)
            shrunk += apart
            derivative[even] = xp.where(self.tail[even] > 0.5, shrunk, derivative[even])
        derivative /= 1 + self.tail
        return derivative


def sigmoid_cost(
    xp: Any,
    logits: Array,
    positive: Array,
    negative: Array,
    *,
    apart: Array | None = None,
    weights: Any = None,
) -> SigmoidCost:
    """Computes the cost of logits, with the weight ``positive`` for yes and ``negative`` for no.

    ``apart`` is what no weighs more than yes, where the difference of both would have fewer digits.
    ``weights`` are None where the two always add up to 1.
    """
    # NumPy's clip takes a third of the time of its minimum and maximum with a number.
    low, high = xp.clip(logits, -xp.inf, 0), xp.clip(logits, 0, xp.inf)
    yes, no = xp.exp(low), -high
    xp.exp(no, out=no)
    tail = yes * no
    value = xp.log1p(tail)
    if weights is not None:
        value *= positive + negative
    high *= negative
    low *= positive
    if not xp.isfinite(logits).all():  # a share of 0 gives 0, even of an infinite cost
        high[negative == 0] = 0
        low[positive == 0] = 0
    value += high
    value -= low
    yes *= negative
    no *= positive
    if apart is None:
        apart = negative - positive
    return SigmoidCost(value, yes, no, tail, logits, positive, negative, apart)


def softplus(xp: Any, numbers: Array) -> tuple[Array, Array]:
    """Returns log(1 + exp(x)) and its derivative, which is the sigmoid."""
    tail = xp.exp(-abs(numbers))
    derivative = xp.exp(xp.clip(numbers, -xp.inf, 0))  # the tail below 0, else 1
    value = xp.log1p(tail)
    value += xp.clip(numbers, 0, xp.inf)
    tail += 1
    derivative /= tail
    return value, derivative
