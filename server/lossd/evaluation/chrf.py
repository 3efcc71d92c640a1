"""chrF."""

import string
from collections.abc import Sequence
from typing import Annotated

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import FACTOR, BatchState, MetricExample, Score, metric
from lossd.evaluation._ngrams import check_length, count_grams, grams, overlap
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

    rows = []
    pairs = zip(prepared.hypotheses, prepared.references, strict=True)
    for position, (hypothesis, references) in enumerate(pairs):
        prepared.checkpoint()
        check_length(hypothesis, references, position)
        characters, words = zip(*map(prepare, (hypothesis, *references)), strict=True)
        of_characters = _counts(characters, char_order, prepared.checkpoint)
        of_words = _counts(words, word_order, prepared.checkpoint)
        candidates = [a + b for a, b in zip(of_characters, of_words, strict=True)]
        rows.append(max(candidates, key=lambda counts: _score(counts, beta)))
    return keep_statistics(rows, prepared, _size(char_order, word_order), level)


def _counts(each: Sequence[Tokens], orders: int, checkpoint: Checkpoint) -> list[list[int]]:
    """Returns how many n-grams the hypothesis, each reference and both have, for each order."""
    hypothesis, *references = each
    counts: list[list[int]] = [[] for _ in references]
    for order, found_in_each in enumerate(grams(each, orders, checkpoint), start=1):
        mine = next(found_in_each)
        for reference, found, row in zip(references, found_in_each, counts, strict=True):
            size = count_grams(len(reference), order)
            own = count_grams(len(hypothesis), order) if size else 0
            row += [own, size, overlap(mine, found)]
    return counts


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
