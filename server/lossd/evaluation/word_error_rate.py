"""Word error rate."""

import enum
from collections.abc import Iterator

from lossd.evaluation._declare import BatchState, InputError, MetricExample, Score, metric
from lossd.evaluation._edits import total_edits
from lossd.evaluation._ngrams import in_pieces, size_of
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally
from lossd.evaluation._text import SEGMENTS, Segments, Tokens, observing

MAX_TOKENS = 1 << 17  # tokens of a sequence; the work is the product of two lengths


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

    def examples() -> Iterator[tuple[Tokens, Tokens]]:
        pairs = zip(prepared.hypotheses, prepared.references, strict=True)
        for position, (hypothesis, references) in enumerate(pairs):
            prepared.checkpoint()
            if len(references) != 1:
                raise InputError(
                    "sequences.references.counts",
                    f"references must be one a hypothesis for WordErrorRate, got {len(references)}",
                )
            sides = split(hypothesis), split(references[0])
            for name, side in zip(("hypotheses", "references"), sides, strict=True):
                if len(side) > MAX_TOKENS:
                    raise InputError(
                        f"sequences.{name}",
                        f"{name} must have at most {MAX_TOKENS} tokens for WordErrorRate, "
                        f"got {len(side)} at {position}",
                    )
            yield sides

    edits = length = 0
    for piece in in_pieces(examples(), size_of):
        edits += total_edits(piece, prepared.checkpoint)
        length += sum(len(reference) for _, reference in piece)
    return BatchState(tallies={"edits": Tally.number(edits), "length": Tally.number(length)})
