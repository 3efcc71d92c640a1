"""N-grams that sequences share.

They are counted as numbers, which are sorted: dictionaries would take a kilobyte for each token,
and keep the interpreter for as long as it takes.  Of short sequences those of many examples are
counted together, since a call of NumPy takes as long as some hundred tokens.  An n-gram gets a
number that is made of those of the two that it has of one token less.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import InputError
from lossd.evaluation._text import PIECE_TOKENS, Tokens, listed

# Tokens of an example with its references: what is done about so many takes a second for an order.
MAX_TOKENS = 1 << 22
# Of a place in a piece: a number of an example, one of a token, and a place are one integer.
_PLACE_BITS = PIECE_TOKENS.bit_length()
_MOST_APART = 1 << 30  # numbers of tokens; of others their ranks are taken

Numbers = npt.NDArray[np.int64]
Example = TypeVar("Example")


def check_length(hypothesis: Tokens, references: Sequence[Tokens], position: int) -> None:
    """Raises InputError for more tokens, or characters, than are looked at."""
    count = len(hypothesis) + sum(map(len, references))
    if count > MAX_TOKENS:
        raise InputError(
            "sequences",
            f"sequences must have at most {MAX_TOKENS} tokens or characters with their references, "
            f"got {count} at {position}",
        )


def in_pieces(
    examples: Iterable[Example], size: Callable[[Example], int]
) -> Iterator[list[Example]]:
    """Yields examples of up to so many tokens at a time; one that has more is alone."""
    piece: list[Example] = []
    room = PIECE_TOKENS
    for example in examples:
        taken = size(example)
        if taken > room and piece:
            yield piece
            piece, room = [], PIECE_TOKENS
        piece.append(example)
        room -= taken
    if piece:
        yield piece


def size_of(sequences: Sequence[Tokens]) -> int:
    """Returns how many tokens an example has, and one for each sequence, which may be empty."""
    return len(sequences) + sum(map(len, sequences))


def shared(
    piece: Sequence[Sequence[Tokens]], orders: int, checkpoint: Checkpoint, *, joined: bool
) -> Numbers:
    """Returns how many n-grams the first sequence of an example shares with the others.

    A column is of an order, from 1 on.  A row is of another sequence, or where these are
    ``joined``, of an example: its n-grams count as often as the sequence has them that has them
    most.  The examples are a piece, or one that is alone.
    """
    checkpoint()
    if len(piece) == 1 and size_of(piece[0]) > PIECE_TOKENS:
        return _shared_of_long(piece[0], orders, checkpoint, joined=joined)
    return _TokenTable.of(piece).shared(orders, joined=joined)


def count_grams(lengths: Numbers, orders: int) -> Numbers:
    """Returns how many n-grams sequences of such lengths have, a column for each order."""
    counts: Numbers = np.maximum(lengths[:, None] - np.arange(orders), 0)
    return counts


@dataclass(frozen=True, slots=True)
class _TokenTable:
    """The tokens of some examples one after the other, with the sequence that each is of."""

    tokens: Numbers
    sequence: Numbers
    lengths: Numbers
    example_of: Numbers  # of each sequence
    is_first: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, examples: Sequence[Sequence[Tokens]]) -> "_TokenTable":
        """Returns the tokens of examples."""
        each = list(itertools.chain.from_iterable(examples))
        lengths = np.fromiter(map(len, each), np.int64, len(each))
        example_of = np.repeat(np.arange(len(examples)), list(map(len, examples)))
        return cls(
            tokens=np.concatenate(numbers_of(each)),
            sequence=np.repeat(np.arange(len(each)), lengths),
            lengths=lengths,
            example_of=example_of,
            is_first=np.diff(example_of, prepend=-1) != 0,
        )

    def shared(self, orders: int, *, joined: bool) -> Numbers:
        """See ``shared``."""
        rows = int(self.is_first.sum()) if joined else len(self.lengths)
        found = np.zeros((orders, rows), np.int64)
        names, places = self._names(), np.arange(len(self.tokens))
        ends = np.repeat(np.cumsum(self.lengths), self.lengths)
        for order in range(1, orders + 1):
            if not len(places):
                break
            counted = _GramCounts.of(names, places, self.sequence, self.is_first)
            if joined:
                row_of, numbers = self.example_of[counted.owners], counted.best
            else:
                row_of, numbers = counted.run_sequences, counted.both
            found[order - 1] = np.bincount(row_of, numbers, rows)
            places, names = counted.longer(ends, order)
        return (found if joined else found[:, ~self.is_first]).T

    def _names(self) -> Numbers:
        """Returns numbers that are equal where tokens of one example are."""
        low = int(self.tokens.min(initial=0))
        width = int(self.tokens.max(initial=0)) - low + 1
        tokens = self.tokens - low if width <= _MOST_APART else ranks_of(self.tokens)
        return self.example_of[self.sequence] * min(width, _MOST_APART) + tokens


@dataclass(frozen=True, slots=True)
class _GramCounts:
    """N-grams of one order in order of their names, and of sequences within a name.

    A run is of one n-gram in one sequence, a group of one n-gram in an example.  ``both`` are how
    often a run has what the first sequence has as well, ``best`` the largest of each group, and
    ``owners`` a sequence of its example.
    """

    places: Numbers
    groups: Numbers  # of each place
    run_sequences: Numbers
    both: Numbers
    best: Numbers
    owners: Numbers

    @classmethod
    def of(
        cls, names: Numbers, places: Numbers, sequence: Numbers, is_first: npt.NDArray[np.bool_]
    ) -> "_GramCounts":
        """Counts the n-grams of such names at such places."""
        keys = names << _PLACE_BITS | places
        keys.sort()
        places = keys & ((1 << _PLACE_BITS) - 1)
        keys >>= _PLACE_BITS
        is_new = np.diff(keys, prepend=-1) != 0
        groups = np.cumsum(is_new) - 1
        sequences = sequence[places]
        runs = np.flatnonzero(is_new | (np.diff(sequences, prepend=-1) != 0))
        counts = np.diff(runs, append=len(keys))
        run_sequences, run_groups = sequences[runs], groups[runs]
        heads = np.flatnonzero(is_new[runs])
        owners = run_sequences[heads]
        has_first = is_first[owners]
        own = np.where(has_first, counts[heads], 0)
        both = np.minimum(counts, own[run_groups])
        both[heads[has_first]] = 0
        return cls(places, groups, run_sequences, both, np.maximum.reduceat(both, heads), owners)

    def longer(self, ends: Numbers, order: int) -> tuple[Numbers, Numbers]:
        """Returns the places of n-grams of one token more that may be shared, and their names.

        Those are whose beginning and end are shared.
        """
        kept = self.best[self.groups] > 0
        ranks = np.full(len(ends) + 1, -1)
        ranks[self.places[kept]] = self.groups[kept]
        places = self.places[kept]
        places = places[places + order < ends[places]]
        places = places[ranks[places + 1] >= 0]
        return places, ranks[places] * len(self.best) + ranks[places + 1]


def _shared_of_long(
    example: Sequence[Tokens], orders: int, checkpoint: Checkpoint, *, joined: bool
) -> Numbers:
    found = []
    for counts in _grams(example, orders, checkpoint):
        mine = next(counts)
        others = [functools.reduce(np.maximum, counts)] if joined else counts
        found.append([int(np.minimum(mine, one).sum()) for one in others])
    return np.array(found, np.int64).reshape(orders, -1).T


def _grams(
    sequences: Sequence[Tokens], orders: int, checkpoint: Checkpoint
) -> Iterator[Iterator[Numbers]]:
    """Yields for each order from 1 on how often each sequence has each n-gram.

    They are counted one sequence after the other: of long ones the counts take as much memory as
    all distinct n-grams of all, so that two of them at a time is what a caller should keep.
    """
    tokens, count = _numbered(numbers_of(sequences), checkpoint)
    ends, found, known = tokens, count, count
    for order in range(1, orders + 1):
        if order > 1:
            pairs = [
                left[:-1] * known + token[order - 1 :]
                for left, token in zip(ends, tokens, strict=True)
            ]
            ends, found = _numbered(pairs, checkpoint)
        yield (np.bincount(one, minlength=found) for one in ends)


def numbers_of(sequences: Sequence[Tokens]) -> list[Numbers]:
    """Returns numbers that are equal where tokens are."""
    if all(isinstance(one, str) for one in sequences):
        encoded = (str(one).encode("utf-32-le", "surrogatepass") for one in sequences)
        return [np.frombuffer(one, np.uint32).astype(np.int64) for one in encoded]
    # Of the unsigned ones of 64 bits some would become negative.
    if all(isinstance(one, np.ndarray) and one.dtype != np.uint64 for one in sequences):
        return [np.asarray(one).astype(np.int64) for one in sequences]
    each = list(map(listed, sequences))
    known = dict(zip(dict.fromkeys(itertools.chain.from_iterable(each)), itertools.count()))
    return [np.fromiter(map(known.__getitem__, one), np.int64, len(one)) for one in each]


def _numbered(keys: list[Numbers], checkpoint: Checkpoint) -> tuple[list[Numbers], int]:
    """Returns the rank of each key among those of all sequences, and how many ranks there are."""
    checkpoint()
    names, ranks = np.unique(np.concatenate(keys), return_inverse=True)
    return np.split(ranks, np.cumsum([len(one) for one in keys])[:-1]), len(names)


def ranks_of(tokens: Numbers) -> Numbers:
    """Returns how many different ones are less than each."""
    ranks: Numbers = np.unique(tokens, return_inverse=True)[1]
    return ranks
