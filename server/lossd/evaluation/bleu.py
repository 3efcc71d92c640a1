"""BLEU."""

import enum
import functools
import importlib
import importlib.metadata
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import (
    POSITIVE_FACTOR,
    BatchState,
    MetricExample,
    Score,
    metric,
)
from lossd.evaluation._exact import Integers
from lossd.evaluation._ngrams import check_length, count_grams, in_pieces, shared, size_of
from lossd.evaluation._pieces import split_by_pieces
from lossd.evaluation._scores_of_text import (
    Statistics,
    check,
    keep_statistics,
    reference_count,
    score_of,
)
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally
from lossd.evaluation._text import SEGMENTS, Segments, TextLevel, Tokens, observing
from lossd.losses import Interval, ParameterError
from lossd.schema import exactly


class BleuSmoothing(enum.Enum):
    """How n-grams without a match are smoothed."""

    NONE = "none"
    FLOOR = "floor"
    ADD_K = "add-k"
    EXPONENTIAL = "exp"


class BleuTokenizer(enum.Enum):
    """How text becomes tokens; the values are sacrebleu's names."""

    NONE = "none"
    MTEVAL_13A = "13a"
    INTERNATIONAL = "intl"
    CHARACTER = "char"
    CHINESE = "zh"


_CLASSES = {
    BleuTokenizer.MTEVAL_13A: "Tokenizer13a",
    BleuTokenizer.INTERNATIONAL: "TokenizerV14International",
    BleuTokenizer.CHARACTER: "TokenizerChar",
    BleuTokenizer.CHINESE: "TokenizerZh",
}
_SMOOTHING_VALUES = {BleuSmoothing.FLOOR: 0.1, BleuSmoothing.ADD_K: 1.0}
_KEPT_WORDS, _LONG_WORD = 1 << 11, 32  # of a batch, and characters of the longest of them
_NEVER = -9999999999.0  # the logarithm of 0, as in sacrebleu


def _result(
    state: State,
    *,
    order: int,
    smoothing: BleuSmoothing,
    smoothing_value: float | None,
    effective_order: bool,
    tokenizer: BleuTokenizer,
    lowercase: bool,
    level: TextLevel,
    checkpoint: Checkpoint,
) -> Score:
    added = _SMOOTHING_VALUES.get(smoothing, 0.0) if smoothing_value is None else smoothing_value
    signature = _signature(
        reference_count(state),
        f"{smoothing.value}[{added:.2f}]" if smoothing in _SMOOTHING_VALUES else smoothing.value,
        tokenizer if state.total("texts") else None,
        effective_order=effective_order,
        lowercase=lowercase,
    )
    return score_of(
        state,
        level,
        _size(order),
        lambda counts: _score(counts, order, smoothing, added, effective_order),
        signature=signature,
        checkpoint=checkpoint,
    )


def _size(order: int) -> int:
    """Returns how many counts a hypothesis has."""
    return 2 + 2 * order


def _signature(
    references: str,
    smooth: str,
    tokenizer: BleuTokenizer | None,
    *,
    effective_order: bool,
    lowercase: bool,
) -> str:
    """Returns sacrebleu's signature of the score's parameters."""
    parts = {
        "nrefs": references,
        "case": "lc" if lowercase else "mixed",
        "eff": "yes" if effective_order else "no",
        "tok": tokenizer.value if tokenizer else "ids",
        "smooth": smooth,
    }
    if tokenizer not in (None, BleuTokenizer.NONE):
        parts["version"] = importlib.metadata.version("sacrebleu")
    return "|".join(f"{name}:{part}" for name, part in parts.items())


def _score(
    counts: Statistics,
    order: int,
    smoothing: BleuSmoothing,
    added: float,
    effective_order: bool,  # noqa: FBT001 - a parameter of the metric, passed on
) -> tuple[float, str]:
    length, reference_length = counts[0], counts[1]
    matches, totals = counts[2 : 2 + order], counts[2 + order :]
    if not (length and totals[0]):
        return 0.0, "hypotheses are empty"
    if not any(matches):
        return 0.0, ""
    logs, used, halvings = 0.0, order, 1.0
    reached = 0
    for match, total in zip(matches, totals, strict=True):
        plus = added if smoothing is BleuSmoothing.ADD_K and reached else 0.0
        if total + plus == 0:
            break
        reached += 1
        if effective_order:
            used = reached
        if match + plus > 0:
            precision = 100.0 * (match + plus) / (total + plus)
        elif smoothing is BleuSmoothing.EXPONENTIAL:
            halvings *= 2
            precision = 100.0 / (halvings * total)
        else:
            precision = 100.0 * added / total if smoothing is BleuSmoothing.FLOOR else 0.0
        logs += math.log(precision) if precision else _NEVER
    logs += _NEVER * (used - min(reached, used))
    penalty = 1.0 if length >= reference_length else math.exp(1 - reference_length / length)
    reason = "" if reached >= used else f"hypotheses have no {reached + 1}-gram"
    return penalty * math.exp(logs / used), reason


@metric(
    SEGMENTS,
    result=_result,
    is_result_long=True,
    observing=observing,
    surrogate="ExpectedRisk",
    tallies={"statistics": 1, "references": 1, "texts": 1},
    columns={"statistics": 2},
    check=check,
    examples=(
        MetricExample(
            {"hypotheses": [[1, 2, 3, 4, 5]], "references": [[[1, 2, 3, 4, 5]]]}, value=100.0
        ),
        MetricExample(
            {"hypotheses": [[1, 2, 3, 4]], "references": [[[1, 2, 3, 9], [9, 9, 9, 9]]]},
            parameters={"order": 2, "smoothing": BleuSmoothing.NONE},
            value=100 * math.sqrt(0.75 * 2 / 3),
        ),
        MetricExample(
            {"hypotheses": [[1, 2]], "references": [[[1, 3]]]},
            parameters={"order": 2, "smoothing": BleuSmoothing.FLOOR, "smoothing_value": 0.5},
            value=50.0,
        ),
        MetricExample(
            {"hypotheses": ["a b"], "references": [["a b c d"]]},
            parameters={
                "tokenizer": BleuTokenizer.NONE,
                "effective_order": True,
                "level": TextLevel.SENTENCE,
                "lowercase": True,
            },
            value=100 * math.exp(-1),
        ),
    ),
)
def bleu(
    prepared: Segments,
    *,
    order: Annotated[int, Interval(1, 16)] = 4,
    smoothing: BleuSmoothing = BleuSmoothing.EXPONENTIAL,
    smoothing_value: Annotated[float | None, POSITIVE_FACTOR] = None,
    effective_order: bool = False,
    tokenizer: BleuTokenizer = BleuTokenizer.MTEVAL_13A,
    lowercase: bool = False,
    level: TextLevel = TextLevel.CORPUS,
) -> BatchState:
    """Precision of the hypotheses' n-grams, with a penalty for brevity; 0 to 100.

        value = 100 min(1, exp(1 - r / h)) (prod_n matches_n / ngrams_n)^(1 / order)

    with h tokens in the hypotheses and r in the references of the closest length, the shorter one
    of a tie. The score of a corpus is computed from summed counts; it is not the mean of the
    sentences' scores.

    Reference: K. Papineni et al., BLEU: a method for automatic evaluation of machine translation,
    2002; M. Post, A call for clarity in reporting BLEU scores, 2018.
    """
    del effective_order
    if smoothing_value is not None and smoothing not in _SMOOTHING_VALUES:
        raise ParameterError(
            "smoothing_value",
            f"smoothing_value must go with FLOOR or ADD_K, got {exactly(smoothing_value)}",
        )
    split: Callable[[Any], Tokens] = _unsplit
    if prepared.are_texts:
        split = _splitter(tokenizer, prepared.checkpoint, lowercase=lowercase)

    def examples() -> Iterator[list[Tokens]]:
        pairs = zip(prepared.hypotheses, prepared.references, strict=True)
        for position, (hypothesis, references) in enumerate(pairs):
            prepared.checkpoint()
            check_length(hypothesis, references, position)
            yield [split(one) for one in (hypothesis, *references)]

    pieces = in_pieces(examples(), size_of)
    parts = [_counts(piece, order, prepared.checkpoint) for piece in pieces]
    kept = keep_statistics(parts, prepared, _size(order), level)
    texts = Tally.number(len(prepared.hypotheses) if prepared.are_texts else 0)
    return BatchState(tallies={**kept.tallies, "texts": texts}, table=kept.table)


def _unsplit(sequence: Any) -> Tokens:
    """Returns the tokens, which are split already."""
    tokens: Tokens = sequence
    return tokens


def _splitter(
    tokenizer: BleuTokenizer, checkpoint: Checkpoint, *, lowercase: bool
) -> Callable[[str], Tokens]:
    tokenize = _tokenizer(tokenizer)
    if tokenize is None:
        return lambda text: (text.lower() if lowercase else text).split()

    def split_at_once(piece: str) -> list[str]:
        return tokenize(piece).split()

    is_by_words = tokenizer is BleuTokenizer.MTEVAL_13A
    split_piece = _by_words(split_at_once) if is_by_words else split_at_once

    def split(text: str) -> Tokens:
        text = (text.lower() if lowercase else text).rstrip()
        return split_by_pieces(text, split_piece, checkpoint)

    return split


def _by_words(split: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Returns what does the same as 13a, word by word: it looks at no two of them together.

    Its expressions take longer than a look at what they made of a word before.
    """

    @functools.lru_cache(_KEPT_WORDS)
    def remembered(word: str) -> Sequence[str]:
        return tuple(split(word))

    def split_words(text: str) -> list[str]:
        if "-\n" in text or "<skipped>" in text:  # joins two words, or makes that
            return split(text)
        tokens: list[str] = []
        for word in text.split():
            if word.isalnum():
                tokens.append(word)
            else:
                tokens += remembered(word) if len(word) <= _LONG_WORD else split(word)
        return tokens

    return split_words


def _tokenizer(kind: BleuTokenizer) -> Callable[[str], str] | None:
    if kind is BleuTokenizer.NONE:
        return None
    try:  # here, because it is installed with the extra "text" only
        module = importlib.import_module(f"sacrebleu.tokenizers.tokenizer_{kind.value}")
    except ModuleNotFoundError as error:
        raise ParameterError(
            "tokenizer",
            f"tokenizer must be NONE where the server has no sacrebleu, got {kind.name}: "
            "pip install 'lossd[text]'",
        ) from error
    made: Callable[[str], str] = getattr(module, _CLASSES[kind])()

    def tokenize(text: str) -> str:
        found = made(text)
        _forget(made)
        return found

    return tokenize


def _forget(tokenizer: object) -> None:
    """Empties the caches of a tokenizer, and of those it is made of: they keep 65,536 texts."""
    for one in (tokenizer, *vars(tokenizer).values()):
        clear = getattr(vars(type(one)).get("__call__"), "cache_clear", None)
        if clear is not None:
            clear()


def _counts(piece: list[list[Tokens]], order: int, checkpoint: Checkpoint) -> Integers:
    """Counts tokens of hypotheses and closest references, then matches and n-grams by order."""
    lengths = np.array([len(hypothesis) for hypothesis, *_ in piece], np.int64)
    closest = np.array([_closest(len(hypothesis), them) for hypothesis, *them in piece], np.int64)
    matches = shared(piece, order, checkpoint, joined=True)
    return np.column_stack([lengths, closest, matches, count_grams(lengths, order)])


def _closest(length: int, references: list[Tokens]) -> int:
    """Returns the length that is closest to another, the shorter of a tie."""
    return min(map(len, references), key=lambda n: (abs(n - length), n))
