"""The fewest edits that make one sequence of another.

They are found in a table in which each row follows from the one before.  Neighbouring numbers in it
differ by at most 1, so a row is two sets of positions, where it rises and where it falls, and a set
is an integer with a bit for each position.  Where one sequence has at most 64 tokens its sets are
numbers of NumPy, and a row of many pairs is computed at once: a step of Python takes longer than
all that is done about a token.

Reference: H. Hyyrö, Bit-parallel approximate string matching algorithms with transposition, 2003,
after G. Myers, 1999.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint
from lossd.evaluation._ngrams import Numbers, numbers_of, ranks_of
from lossd.evaluation._text import Tokens, listed

# Bits of a set of NumPy.
_BITS = 64
# The number of tokens whose sets of positions are kept, of at most 16 KiB each.
_MOST_KEPT = 256
# Rows of a table between two checks whether to stop: at most some 10 ms.
_TOKENS_A_CHECK = 128

Sets = npt.NDArray[np.uint64]


def total_edits(pairs: Sequence[tuple[Tokens, Tokens]], checkpoint: Checkpoint) -> int:
    """Returns the fewest edits of each pair of sequences, added up."""
    checkpoint()
    total, short = 0, []
    for left, right in pairs:
        fewer, more = (left, right) if len(left) <= len(right) else (right, left)
        if not len(fewer):
            total += len(more)
        elif len(fewer) <= _BITS and len(more) <= _TOKENS_A_CHECK:
            short.append((fewer, more))
        else:
            total += _edits_of_long(listed(left), listed(right), checkpoint)
    return total + (_edits_of_short(short) if short else 0)


def _edits_of_short(pairs: list[tuple[Tokens, Tokens]]) -> int:
    """Returns the same of pairs of which the first sequences fit a set, and are not empty."""
    pairs.sort(key=lambda pair: -len(pair[1]))  # so that those with another row are the first
    left, right = zip(*pairs, strict=True)
    sizes, lengths = (np.fromiter(map(len, side), np.int64, len(pairs)) for side in (left, right))
    equal = _equal_positions(numbers_of([*left, *right]), sizes, lengths)
    starts = np.cumsum(lengths) - lengths
    last = np.uint64(1) << (sizes - 1).astype(np.uint64)
    full = last | (last - np.uint64(1))
    rises, falls = full.copy(), np.zeros_like(full)
    one, found = np.uint64(1), int(sizes.sum())
    for row, count in enumerate(_with_row(lengths)):
        here, all_places = equal[starts[:count] + row], full[:count]
        up, down = rises[:count], falls[:count]
        kept = (((here & up) + up) ^ up) | here | down
        rising = down | (all_places & ~(kept | up))
        falling = kept & up
        found += int(np.count_nonzero(rising & last[:count]))
        found -= int(np.count_nonzero(falling & last[:count]))
        rising = rising << one | one
        rises[:count] = (falling << one | (all_places & ~(kept | rising))) & all_places
        falls[:count] = rising & kept & all_places
    return found


def _with_row(lengths: Numbers) -> list[int]:
    """Returns how many of descending lengths are beyond each row."""
    rows = np.arange(int(lengths[0]))
    counts: list[int] = np.searchsorted(-lengths, -rows, "left").tolist()
    return counts


def _equal_positions(tokens: list[Numbers], sizes: Numbers, lengths: Numbers) -> Sets:
    """Returns for each token of the second sequences where the first of its pair has it."""
    ranks = ranks_of(np.concatenate(tokens))
    total, pairs = int(sizes.sum()), np.arange(len(sizes))
    width = int(ranks.max()) + 1
    mine = np.repeat(pairs, sizes) * width + ranks[:total]
    theirs = np.repeat(pairs, lengths) * width + ranks[total:]
    places = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order = np.argsort(mine, kind="stable")
    names = mine[order]
    heads = np.flatnonzero(np.diff(names, prepend=-1) != 0)
    bits = np.uint64(1) << places[order].astype(np.uint64)
    sets = np.bitwise_or.reduceat(bits, heads)
    names = names[heads]
    at = np.minimum(np.searchsorted(names, theirs), len(names) - 1)
    return np.where(names[at] == theirs, sets[at], np.uint64(0))


def _edits_of_long(left: Tokens, right: Tokens, checkpoint: Checkpoint) -> int:
    """Returns the fewest edits, by sets that are integers of Python's, of any length."""
    if not left:
        return len(right)
    full = (1 << len(left)) - 1
    last = 1 << (len(left) - 1)
    matches = _Matches(left)
    rises, falls, found = full, 0, len(left)
    for position, token in enumerate(right):
        if position % _TOKENS_A_CHECK == 0:
            checkpoint()
        equal = matches[token]
        kept = (((equal & rises) + rises) ^ rises) | equal | falls
        up = falls | (full & ~(kept | rises))
        down = kept & rises
        found += bool(up & last) - bool(down & last)
        up = up << 1 | 1
        rises = (down << 1 | (full & ~(kept | up))) & full
        falls = up & kept & full
    return found


class _Matches:
    """The set of positions of each token in a sequence; only few tokens' sets are kept."""

    def __init__(self, tokens: Tokens) -> None:
        numbers: dict[Any, list[int]] = {}
        for position, token in enumerate(tokens):
            numbers.setdefault(token, []).append(position)
        self._positions = numbers
        self._size = len(tokens)
        self._kept: dict[Any, int] = {}

    def __getitem__(self, token: Any) -> int:
        if token not in self._positions:
            return 0
        found = self._kept.get(token)
        if found is None:
            flags = np.zeros(self._size, np.bool_)
            flags[self._positions[token]] = True
            packed = np.packbits(flags, bitorder="little")
            found = int.from_bytes(packed.tobytes(), "little")
            if len(self._kept) < _MOST_KEPT:
                self._kept[token] = found
        return found
