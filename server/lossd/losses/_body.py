"""The contract of a loss's body: what it is given besides its inputs, and what it returns."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lossd.checkpoints import Checkpoint, never_stop
from lossd.schema import Array

Gradient = Array | Callable[[], Array]


class Status(enum.IntEnum):
    """Why the result of an example, or of a whole set, is special; 0 in an array means none."""

    NONFINITE = 1
    INFEASIBLE = 2
    ZERO_NORM = 3
    NO_POSITIVE = 4
    EMPTY_TARGET = 5
    UNDEFINED = 6


@dataclass(frozen=True, slots=True)
class Output:
    """One more number for each example that a loss can return, for losses of rows only.

    A loss that has some takes a parameter ``outputs``, a list of members of an enum whose values
    are these, and its body returns those that were asked for.  ``is_index`` marks an int64; other
    outputs have the type that is computed in.
    """

    name: str
    description: str
    is_index: bool = False


@dataclass(frozen=True, slots=True)
class BodyResult:
    """The result of a body: the value of each example or element, gradients, and outputs.

    A gradient that is computed on request only is given as a function.
    ``statuses`` has the number of a Status for each example, 0 for none; ``status`` is that of
    the whole, for losses of a set.
    """

    value: Array
    gradients: Mapping[str, Gradient]
    outputs: Mapping[str, Array] = field(default_factory=dict)
    statuses: Array | None = None
    status: Status | None = None

    def gradient(self, name: str) -> Array:
        """Returns the gradient with respect to an input."""
        found = self.gradients[name]
        return found() if callable(found) else found


def in_turn(count: int, work: Callable[[int], None]) -> None:
    """Calls ``work`` with 0 to ``count`` - 1, one after the other."""
    for index in range(count):
        work(index)


class SoftCounts(Protocol):
    """A counter of the examples of labels, with p the sigmoid of a logit and t its true share.

    Inputs have axes of examples and labels and lie in that order; ``weights`` has one number for
    each example, None for 1.
    """

    def count(
        self, predictions: Array, targets: Array, weights: Array | None, products: Array | None
    ) -> Array:
        """Returns the sums of p t, p (1 - t) and (1 - p) t for each label, in float64.

        Writes p (1 - p) to ``products``, if given, which has the type that is computed in.
        """

    def slope(
        self,
        targets: Array,
        weights: Array | None,
        by_share: tuple[Array, Array],
        products: Array,
    ) -> None:
        """Multiplies ``products`` by the weights and by derivatives with respect to p.

        ``by_share`` has those of each label for a share t and for 1 - t, of the products' type.
        """


@dataclass(frozen=True, slots=True)
class BatchContext:
    """The argument after the inputs, for a body that sees the whole batch.

    The inputs hold the examples that are present.  The body returns the value of each, or one value
    of all, and the gradients of the sum of all values times their ``scales``.
    ``weights`` has one number for each example, of float64: its weight in a mean of examples.
    ``scales`` has one number for each value, of float64; a scale of 0 gives 0, even for infinity
    and NaN.  ``wanted`` are the gradients that will be read.  ``for_each`` calls a function with
    0 to count - 1, in any order and perhaps at the same time; each call writes to memory of its
    own, so that the result has the same bits at any number of threads.  ``in_cache`` says that a
    piece should fit the caches of a CPU; a device is faster with few large ones.
    ``is_weighted`` is False where all weights are 1.  ``soft_counts`` counts, where something was
    compiled for it.  ``places`` has memory for gradients in the type that is computed in, where
    they are sent as they are: a body that writes one there returns that array.  ``checkpoint`` is
    to be called on the way of what takes long and is not a piece of ``for_each``; it may raise.
    """

    weights: Array
    scales: Array
    wanted: frozenset[str] = frozenset()
    for_each: Callable[[int, Callable[[int], None]], None] = in_turn
    in_cache: bool = True
    is_weighted: bool = True
    soft_counts: SoftCounts | None = None
    places: Mapping[str, Array] = field(default_factory=dict)
    checkpoint: Checkpoint = never_stop
