"""N-grams that sequences share.

Of short sequences they are counted one by one.  Of long ones that would take a kilobyte for each
token, and keep the interpreter for as long as it takes; so each n-gram gets a number there, made of
the number of all its tokens but the last and of that one's, and numbers are sorted and counted.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import InputError
from lossd.evaluation._text import Tokens, listed

# Tokens of an example with its references: what is done about so many takes a second for an order.
MAX_TOKENS = 1 << 22
# Fewer are counted one by one, which is quicker.
_FEW_TOKENS = 1 << 12

Numbers = npt.NDArray[np.int64]
Grams = Any  # a Counter, or how often each number occurs


def check_length(hypothesis: Tokens, references: Sequence[Tokens], position: int) -> None:
    """Raises InputError for more tokens, or characters, than are looked at."""
    count = len(hypothesis) + sum(map(len, references))
    if count > MAX_TOKENS:
        raise InputError(
            "sequences",
            f"sequences must have at most {MAX_TOKENS} tokens or characters with their references, "
            f"got {count} at {position}",
        )


def grams(
    sequences: Sequence[Tokens], orders: int, checkpoint: Checkpoint
) -> Iterator[Iterator[Grams]]:
    """Yields for each order from 1 on the n-grams of each sequence.

    They are counted one sequence after the other: of long ones the counts take as much memory as
    all distinct n-grams of all, so that two of them at a time is what a caller should keep.
    """
    if sum(map(len, sequences)) <= _FEW_TOKENS:
        checkpoint()
        each = [listed(one) for one in sequences]
        for order in range(1, orders + 1):
            yield (_counted(one, order) for one in each)
        return
    tokens, count = _numbered(_as_numbers(sequences), checkpoint)
    ends, found, known = tokens, count, count
    for order in range(1, orders + 1):
        if order > 1:
            pairs = [
                left[:-1] * known + token[order - 1 :]
                for left, token in zip(ends, tokens, strict=True)
            ]
            ends, found = _numbered(pairs, checkpoint)
        yield (np.bincount(one, minlength=found) for one in ends)


def union(left: Grams, right: Grams) -> Grams:
    """Returns all n-grams of both, each as often as the one that has it more often."""
    return left | right if isinstance(left, Counter) else np.maximum(left, right)


def overlap(left: Grams, right: Grams) -> int:
    """Returns how many n-grams both have, each as often as the one that has it less often."""
    if isinstance(left, Counter):
        return sum(min(count, right[gram]) for gram, count in left.items() if gram in right)
    return int(np.minimum(left, right).sum())


def count_grams(length: int, order: int) -> int:
    """Returns how many n-grams of an order a sequence of a length has."""
    return max(0, length - order + 1)


def _counted(tokens: Tokens, order: int) -> Counter[Any]:
    if isinstance(tokens, str):
        return Counter(tokens[i : i + order] for i in range(len(tokens) - order + 1))
    return Counter(zip(*(itertools.islice(tokens, i, None) for i in range(order)), strict=False))


def _as_numbers(sequences: Sequence[Tokens]) -> list[Numbers]:
    """Returns numbers that are equal where tokens are."""
    if all(isinstance(one, str) for one in sequences):
        encoded = (str(one).encode("utf-32-le", "surrogatepass") for one in sequences)
        return [np.frombuffer(one, np.uint32).astype(np.int64) for one in encoded]
    # Of the unsigned ones of 64 bits some would become negative.
    if all(isinstance(one, np.ndarray) and one.dtype != np.uint64 for one in sequences):
        return [np.asarray(one).astype(np.int64) for one in sequences]
    known: dict[Any, int] = {}
    each = map(listed, sequences)
    return [
        np.fromiter((known.setdefault(token, len(known)) for token in one), np.int64, len(one))
        for one in each
    ]


def _numbered(keys: list[Numbers], checkpoint: Checkpoint) -> tuple[list[Numbers], int]:
    """Returns the rank of each key among those of all sequences, and how many ranks there are."""
    checkpoint()
    names, ranks = np.unique(np.concatenate(keys), return_inverse=True)
    return np.split(ranks, np.cumsum([len(one) for one in keys])[:-1]), len(names)
