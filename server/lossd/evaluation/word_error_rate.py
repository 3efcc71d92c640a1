"""Word error rate."""

import enum

import numpy as np

from lossd.evaluation._declare import Example, InputError, Kept, Score, metric
from lossd.evaluation._state import State, Tally
from lossd.evaluation._text import SEGMENTS, Segments, Tokens

MAX_TOKENS = 1 << 14  # of a sequence; the work is the product of two lengths


class TextUnit(enum.Enum):
    """What is edited."""

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
    surrogate="ExpectedRisk",
    tallies={"edits": 1, "length": 1},
    examples=(
        Example({"hypotheses": ["the cat sat"], "references": [["the cat sat down"]]}, value=0.25),
        Example(
            {"hypotheses": ["ABd"], "references": [["abc"]]},
            parameters={"unit": TextUnit.CHARACTERS, "lowercase": True},
            value=1 / 3,
        ),
        Example({"hypotheses": [[1, 2, 3]], "references": [[[2, 4]]]}, value=1.0),
    ),
)
def word_error_rate(
    laid: Segments, *, unit: TextUnit = TextUnit.WORDS, lowercase: bool = False
) -> Kept:
    """Insertions, deletions and substitutions for each word of the references.

        value = edits / words of the references, both summed over the corpus

    Each hypothesis has one reference.

    Reference: V. I. Levenshtein, Binary codes capable of correcting deletions, insertions and
    reversals, 1966.
    """

    def split(sequence: str | Tokens) -> Tokens:
        if not isinstance(sequence, str):
            return sequence
        text = sequence.lower() if lowercase else sequence
        return text.split() if unit is TextUnit.WORDS else text

    edits = length = 0
    pairs = zip(laid.hypotheses, laid.references, strict=True)
    for position, (hypothesis, references) in enumerate(pairs):
        laid.checkpoint()
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
        edits += _distance(*sides)
        length += len(sides[1])
    return Kept(tallies={"edits": Tally.number(edits), "length": Tally.number(length)})


def _distance(left: Tokens, right: Tokens) -> int:
    """The fewest edits, row by row of the table; a row is computed at once.

    Coming from the left costs 1 a step, so the best way from the left is a running minimum of the
    costs less their position.
    """
    numbers: dict[object, int] = {}
    first, second = (
        np.array([numbers.setdefault(token, len(numbers)) for token in side], np.int64)
        for side in (left, right)
    )
    steps = np.arange(len(second) + 1)
    row = steps.copy()
    for position, token in enumerate(first.tolist(), start=1):
        above = row + 1
        above[1:] = np.minimum(above[1:], row[:-1] + (second != token))
        above[0] = position
        row = np.minimum.accumulate(above - steps) + steps
    return int(row[-1])
