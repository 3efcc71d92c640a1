"""Splits long texts piece by piece.

A regular expression keeps the interpreter until it is done with its text: for some seconds with one
of four million characters, in which nobody else is served and nothing can be stopped.  Tokenizers
look at punctuation and what is next to it.  So a text may be cut where two words meet, and within
a long word, whose parts are put together again.
"""

import re
from collections.abc import Callable, Iterator

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import InputError

_LEAST = 1 << 13  # characters of a piece, if more follow
MOST = 1 << 16  # a hundredth of a second for each of the steps that a tokenizer takes

# A place between two letters or digits, or after a space between them.  Within a word eight on both
# sides, since some tokenizers know words such as "&quot;" and "<skipped>".
_PLACE = re.compile(r"[^\W_] (?=[^\W_])|[^\W_]{8}(?=[^\W_]{8})")


def split_by_pieces(
    text: str,
    split: Callable[[str], list[str]],
    checkpoint: Checkpoint,
    *,
    least: int = _LEAST,
    most: int = MOST,
) -> list[str]:
    """Returns what ``split`` returns for the text, which sees no more than ``most`` of it at once.

    Raises:
        InputError: if the text has no place to cut it at.
    """
    tokens: list[str] = []
    for start, end in _pieces(text, least, most):
        checkpoint()
        found = split(text[start:end])
        is_within_word = start > 0 and text[start - 1] != " "
        if is_within_word and len(split(text[start - 1 : start + 1])) == 1:
            found[0] = tokens.pop() + found[0]
        tokens += found
    return tokens


def _pieces(text: str, least: int, most: int) -> Iterator[tuple[int, int]]:
    start = 0
    while len(text) - start > most:
        place = _PLACE.search(text, start + least, start + most)
        if place is None:
            raise InputError(
                "sequences",
                f"texts must have two words or 16 letters or digits next to each other in each "
                f"{most} characters for this tokenizer, got one that has not after {start}",
            )
        yield start, place.end()
        start = place.end()
    yield start, len(text)
