"""Word error rate."""

import enum
from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import BatchState, InputError, MetricExample, Score, metric
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally
from lossd.evaluation._text import SEGMENTS, Segments, Tokens, listed, observing

MAX_TOKENS = 1 << 17  # tokens of a sequence; the work is the product of two lengths
# The number of tokens whose sets of positions are kept, of at most 16 KiB each.
_MOST_KEPT = 256
# Rows of a table between two checks whether to stop: at most some 10 ms.
_TOKENS_A_CHECK = 128


class TextUnit(enum.Enum):
    """The unit of edits."""

    WORDS = "words"
    CHARACTERS = "characters"


def _result(state: State, *, unit: TextUnit, lowercase: bool) -> Score:
    del unit, lowercase
    edits, length = state.total("edits"), state.total("length")
    outputs = {"edits": float(edits), "length": float(length)}
    if not length:
        return Score(outputs=outputs, reason="references are empty")
    return Score(value=float(edits / length), outputs=outputs)


@metric(
    SEGMENTS,
    result=_result,
    observing=observing,
    surrogate="ExpectedRisk",
    tallies={"edits": 1, "length": 1},
    examples=(
        MetricExample(
            {"hypotheses": ["the cat sat"], "references": [["the cat sat down"]]}, value=0.25
        ),
        MetricExample(
            {"hypotheses": ["ABd"], "references": [["abc"]]},
            parameters={"unit": TextUnit.CHARACTERS, "lowercase": True},
            value=1 / 3,
        ),
        MetricExample({"hypotheses": [[1, 2, 3]], "references": [[[2, 4]]]}, value=1.0),
    ),
)
def word_error_rate(
    prepared: Segments, *, unit: TextUnit = TextUnit.WORDS, lowercase: bool = False
) -> BatchState:
    """Insertions, deletions and substitutions for each word of the references.

        value = edits / words of the references, both summed over the corpus

    Each hypothesis has one reference; both have at most 131,072 words or characters.

    Reference: V. I. Levenshtein, Binary codes capable of correcting deletions, insertions and
    reversals, 1966.
    """

    def split(sequence: str | Tokens) -> Tokens:
        if not isinstance(sequence, str):
            return sequence
        if unit is TextUnit.CHARACTERS:
            return sequence.lower() if lowercase else sequence
        words = sequence.split(None, MAX_TOKENS)  # one too many is as bad as all
        return [word.lower() for word in words] if lowercase else words

    edits = length = 0
    pairs = zip(prepared.hypotheses, prepared.references, strict=True)
    for position, (hypothesis, references) in enumerate(pairs):
        prepared.checkpoint()
        if len(references) != 1:
            raise InputError(
                "sequences.references.counts",
                f"references must be one a hypothesis for WordErrorRate, got {len(references)}",
            )
        sides = split(hypothesis), split(references[0])
        for side in sides:
            if len(side) > MAX_TOKENS:
                raise InputError(
                    "sequences",
                    f"sequences must have at most {MAX_TOKENS} tokens for WordErrorRate, "
                    f"got {len(side)} at {position}",
                )
        edits += _distance(listed(sides[0]), listed(sides[1]), prepared.checkpoint)
        length += len(sides[1])
    return BatchState(tallies={"edits": Tally.number(edits), "length": Tally.number(length)})


def _distance(left: Tokens, right: Tokens, checkpoint: Checkpoint) -> int:
    """Returns the fewest edits, from a table in which each row follows from the one before.

    Neighbouring numbers in it differ by at most 1, so a row is two sets of positions, where it
    rises and where it falls, and a set is an integer with a bit for each position.

    Reference: H. Hyyrö, Bit-parallel approximate string matching algorithms with transposition,
    2003, after G. Myers, 1999.
    """
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
