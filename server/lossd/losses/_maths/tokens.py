"""Tokens of sequences, side by side: what a body of TOKENS is given, and what its losses share.

A body sees the tokens that count and no others, in float64, each input as one flat array.  So it
has no mask to mind, and what a masked token holds cannot reach anything.
"""

import enum
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lossd.checkpoints import Checkpoint, never_stop
from lossd.losses._inputs import Axes, Content, Input
from lossd.ordering import sort_in_place
from lossd.schema import POSITIVE, REQUIRED, Array, Interval, Parameter

Join = Callable[[Sequence[Array]], Array]


@dataclass(slots=True)
class Whole:
    """Sums over more than a body sees at a time: a long sequence, or all examples.

    It is run over all parts again for each sum that others wait for, until it asks for no more.
    ``checkpoint`` is called while the numbers of all parts are sorted.
    """

    parts: int
    checkpoint: Checkpoint = never_stop
    known: list[Array] = field(default_factory=list)
    _found: dict[int, Array] = field(default_factory=dict)
    _join: Join | None = None

    def part(self, index: int) -> "Part":
        """Returns the part of that number."""
        return Part(self, index)

    def add(self, index: int, join: Join, found: Array) -> None:
        """Notes what a part adds to the first of the sums that is not known; parts may be any."""
        self._join = join
        self._found[index] = found

    def learn(self) -> bool:
        """Joins what all parts added, in their order; returns whether there was anything."""
        if self._join is None:
            return False
        self.known.append(self._join([self._found[index] for index in range(self.parts)]))
        self._found, self._join = {}, None
        return True


@dataclass(slots=True)
class Part:
    """The knowledge that one part has of the whole."""

    whole: Whole
    index: int
    asked: int = 0

    @property
    def is_short(self) -> bool:
        """Whether a sum was asked for that is not known, so that what was computed is nothing."""
        return self.asked > len(self.whole.known)

    def joined(self, join: Join, found: Array) -> Array:
        """Returns the sum over the whole, of which this part finds so much."""
        number, known = self.asked, self.whole.known
        self.asked += 1
        if number < len(known):
            return known[number]
        if number == len(known):
            self.whole.add(self.index, join, found)
        return found


def _added(parts: Sequence[Array]) -> Array:
    return functools.reduce(np.add, parts)


def _largest(parts: Sequence[Array]) -> Array:
    return functools.reduce(np.maximum, parts)


def _in_order(parts: Sequence[Array], checkpoint: Checkpoint) -> Array:
    found = np.concatenate(parts)
    sort_in_place(found, checkpoint)
    return found


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of some sequences: which sequence each is of, and how many each sequence has.

    Where a sequence comes as one number, the sum over its tokens, ``sequence`` has one entry for
    it; ``counts`` are None unless the caller told how many tokens were summed.  They may be a part
    of one sequence (``of_sequence``), of which ``counts`` has all tokens, or some sequences of a
    batch (``of_batch``).
    """

    sequence: Array
    counts: Array | None
    number: int  # of sequences
    of_sequence: Part | None = None
    of_batch: Part | None = None

    def sums(self, values: Array) -> Array:
        """Sums over each sequence, token after token, so that its bits depend on it alone."""
        found = np.bincount(self.sequence, values, self.number)
        return found if self.of_sequence is None else self.of_sequence.joined(_added, found)

    def total(self, values: Array) -> float:
        """Returns the sum of numbers of sequences, over the batch."""
        found = values.sum()
        return float(found if self.of_batch is None else self.of_batch.joined(_added, found))

    def means(self, values: Array) -> Array:
        """Returns the mean over each sequence; 0 where it has no token."""
        return self.means_together([values])[0]

    def means_together(self, several: Sequence[Array]) -> list[Array]:
        """Returns the means of several values of each token, for which parts wait once."""
        if self.counts is None:
            raise TypeError("means take the number of tokens")
        sums: Array = np.zeros((len(several), self.number))
        for row, values in zip(sums, several, strict=True):
            row[:] = np.bincount(self.sequence, values, self.number)
        if self.of_sequence is not None and len(several):
            sums = self.of_sequence.joined(_added, sums)
        return list(sums / np.maximum(self.counts, 1))

    def largest(self, values: Array) -> Array:
        """Returns the largest of each sequence; 0 where it has no token."""
        found = np.zeros(self.number)
        if len(values):
            starts = np.flatnonzero(np.diff(self.sequence, prepend=-1))
            found[self.sequence[starts]] = np.maximum.reduceat(values, starts)
        return found if self.of_sequence is None else self.of_sequence.joined(_largest, found)

    def ordered(self, values: Array) -> Array:
        """Returns the values of each sequence in ascending order."""
        if self.of_sequence is not None:
            checkpoint = self.of_sequence.whole.checkpoint
            join = functools.partial(_in_order, checkpoint=checkpoint)
            return self.of_sequence.joined(join, values)
        return values[np.lexsort((values, self.sequence))]

    def percentile(self, ordered: Array, percent: int) -> Array:
        """Returns the least value of each sequence that so many percent are at most; 0 of no token.

        It is one of the values, so that what lies between a finite and an infinite one is not made
        up.
        """
        counts = np.bincount(self.sequence, minlength=self.number)
        if self.of_sequence is not None:
            counts = np.array([len(ordered)])
        positions = np.cumsum(counts) - counts + np.maximum(-(-percent * counts // 100), 1) - 1
        found = np.zeros(self.number)
        found[counts > 0] = ordered[positions[counts > 0]]
        return found

    def spread(self, numbers: Array) -> Array:
        """Returns for each token what its sequence has."""
        return numbers[self.sequence]


class TokenAggregation(enum.Enum):
    """How the losses of tokens become those of sequences, and what their mean divides by."""

    SUM = "the sum over a sequence; the mean divides by the number of sequences"
    TOKEN_MEAN = "the sum over a sequence; the mean divides by its tokens"  # noqa: S105 - of text
    SEQUENCE_MEAN = "the mean over a sequence; the mean divides by the number of sequences"
    CONSTANT_LENGTH = (
        "the sum over a sequence, by one constant; the mean divides by the number of sequences"
    )
    GROUP_MEAN = (
        "the sum over a sequence, by the tokens of its group; the mean divides by the number of "
        "groups"
    )


# The parameters that the shape aggregates by; a body that returns values of tokens sees neither.
AGGREGATION = (
    Parameter("aggregation", TokenAggregation, REQUIRED),
    Parameter("sequence_length", float, None, POSITIVE),
)
COUNTED = Interval(0, np.inf, high_open=True)


def layout_inputs(side: str = "", of: str = "", *, may_be_sums: bool = False) -> tuple[Input, ...]:
    """Returns the inputs that say which tokens there are and which of them count."""
    sums = ", or how many each sum is of" if may_be_sums else ""

    def declared(name: str, description: str, content: Content, axes: Axes) -> Input:
        return Input(
            f"{side}{name}", description, content=content, is_optional=True, axes=axes, side=side
        )

    return (
        declared(
            "token_mask",
            f"which {of}tokens count; all if not given",
            Content.FLAGS,
            Axes.TOKENS,
        ),
        declared(
            "lengths",
            f"how many {of}tokens of each padded row there are{sums}; all if not given",
            Content.LENGTHS,
            Axes.EXAMPLES,
        ),
        declared(
            "offsets",
            f"where each sequence of flat {of}tokens begins, and where the last one ends",
            Content.OFFSETS,
            Axes.EXAMPLES,
        ),
    )


GROUPS = Input(
    "groups",
    "which sequences have a prompt in common, for GROUP_MEAN; equal numbers belong together",
    content=Content.LABELS,
    is_optional=True,
    axes=Axes.EXAMPLES,
)
TOKEN_WEIGHTS = Input(
    "token_weights",
    "what the loss of each token is multiplied by, and nothing else; 1 if not given",
    is_optional=True,
    domain=COUNTED,
    axes=Axes.TOKENS,
)
