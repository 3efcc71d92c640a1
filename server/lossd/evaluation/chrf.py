"""chrF."""

import itertools
import string
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import FACTOR, BatchState, MetricExample, Score, metric
from lossd.evaluation._exact import Integers
from lossd.evaluation._ngrams import check_length, count_grams, in_pieces, shared, size_of
from lossd.evaluation._scores_of_text import (
    Statistics,
    check,
    keep_statistics,
    reference_count,
    score_of,
)
from lossd.evaluation._state import State
from lossd.evaluation._text import TEXTS, Segments, TextLevel, Tokens, observing
from lossd.losses import Interval

_PUNCTUATION = frozenset(string.punctuation)


def _result(
    state: State,
    *,
    char_order: int,
    word_order: int,
    beta: float,
    lowercase: bool,
    whitespace: bool,
    level: TextLevel,
    checkpoint: Checkpoint,
) -> Score:
    parts = {
        "nrefs": reference_count(state),
        "case": "lc" if lowercase else "mixed",
        "eff": "yes",
        "nc": char_order,
        "nw": word_order,
        "space": "yes" if whitespace else "no",
    }
    return score_of(
        state,
        level,
        _size(char_order, word_order),
        lambda counts: (_score(counts, beta), "" if any(counts) else "texts are empty"),
        signature="|".join(f"{name}:{part}" for name, part in parts.items()),
        checkpoint=checkpoint,
    )


def _size(char_order: int, word_order: int) -> int:
    """Returns how many counts a hypothesis has."""
    return 3 * (char_order + word_order)


def _score(counts: Statistics, beta: float) -> float:
    """Returns F of the mean precision and recall over the orders that both sides have."""
    precisions, recalls, orders = 0.0, 0.0, 0
    for start in range(0, len(counts), 3):
        mine, theirs, both = counts[start : start + 3]
        if mine > 0 and theirs > 0:
            precisions += both / mine
            recalls += both / theirs
            orders += 1
    if not orders or not precisions + recalls:
        return 0.0
    precision, recall = precisions / orders, recalls / orders
    factor = beta**2
    # Rounded as sacrebleu does it: of references that tie but for rounding, both choose one.
    return 100 * ((1 + factor) * precision * recall / (factor * precision + recall))


@metric(
    TEXTS,
    result=_result,
    is_result_long=True,
    observing=observing,
    surrogate="ExpectedRisk",
    tallies={"statistics": 1, "references": 1},
    check=check,
    columns={"statistics": 2},
    examples=(
        MetricExample({"hypotheses": ["a cat"], "references": [["a cat"]]}, value=100.0),
        MetricExample(
            {"hypotheses": ["Ab"], "references": [["ac"]]},
            parameters={"char_order": 1, "lowercase": True, "word_order": 1, "beta": 1.0},
            value=25.0,
        ),
        MetricExample(
            {"hypotheses": ["a b"], "references": [["ab", "a c"]]},
            parameters={"char_order": 1, "whitespace": True, "level": TextLevel.SENTENCE},
            value=100 * 5 * (2 / 3) / (4 * (2 / 3) + 1),
        ),
    ),
)
def chrf(
    prepared: Segments,
    *,
    char_order: Annotated[int, Interval(1, 16)] = 6,
    word_order: Annotated[int, Interval(0, 16)] = 0,
    beta: Annotated[float, FACTOR] = 2.0,
    lowercase: bool = False,
    whitespace: bool = False,
    level: TextLevel = TextLevel.CORPUS,
) -> BatchState:
    """Character n-grams that hypothesis and reference share, as an F-score; 0 to 100.

        value = 100 (1 + beta^2) P R / (beta^2 P + R)

    with P and R the means of precision and recall over the orders.  Among several references the
    one with the highest score counts.

    Reference: M. Popovic, chrF: character n-gram F-score for automatic MT evaluation, 2015; and
    chrF++: words helping character n-grams, 2017.
    """

    def prepare(text: str) -> tuple[str, list[str]]:
        text = text.lower() if lowercase else text
        words = _words(text) if word_order else []
        return text if whitespace else "".join(text.split()), words

    def examples() -> Iterator[list[tuple[str, list[str]]]]:
        pairs = zip(prepared.hypotheses, prepared.references, strict=True)
        for position, (hypothesis, references) in enumerate(pairs):
            prepared.checkpoint()
            check_length(hypothesis, references, position)
            yield [prepare(one) for one in (hypothesis, *references)]

    parts = []
    for piece in in_pieces(examples(), lambda each: sum(map(size_of, each))):
        sides = (
            _counts(
                [[side[number] for side in each] for each in piece], orders, prepared.checkpoint
            )
            for number, orders in enumerate((char_order, word_order))
        )
        candidates = np.concatenate(list(sides), axis=1)
        parts.append(candidates[_best(candidates, [len(each) - 1 for each in piece], beta)])
    return keep_statistics(parts, prepared, _size(char_order, word_order), level)


def _counts(piece: Sequence[Sequence[Tokens]], orders: int, checkpoint: Checkpoint) -> Integers:
    """Returns how many n-grams the hypothesis, a reference and both have, for each order.

    A row is of a reference.
    """
    pairs = [(len(mine), len(one)) for mine, *references in piece for one in references]
    own, theirs = (count_grams(one, orders) for one in np.array(pairs, np.int64).T)
    both = shared(piece, orders, checkpoint, joined=False)
    counts: Integers = np.stack([np.where(theirs > 0, own, 0), theirs, both], axis=2)
    return counts.reshape(len(pairs), -1)


def _best(candidates: Integers, numbers: Sequence[int], beta: float) -> list[int]:
    """Returns the candidate of each hypothesis with the highest score, the first of a tie."""
    firsts = itertools.accumulate(numbers, initial=0)
    return [
        first
        if number == 1
        else max(
            range(first, first + number), key=lambda row: _score(candidates[row].tolist(), beta)
        )
        for first, number in zip(firsts, numbers, strict=False)
    ]


def _words(text: str) -> list[str]:
    """Returns the words; one punctuation mark at an end of a word becomes its own word."""
    found = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            found += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            found += [word[0], word[1:]]
        else:
            found.append(word)
    return found
