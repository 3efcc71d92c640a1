"""Long texts are split piece by piece, as if they were split at once."""

from collections.abc import Callable

import numpy as np
import pytest

from lossd.errors import Abandoned
from lossd.evaluation import InputError
from lossd.evaluation._pieces import MOST, split_by_pieces
from lossd.evaluation.bleu import BleuTokenizer, _by_words, _splitter, _tokenizer
from tests.evaluation.run import score

PARTS = [
    "a", "Word", "internationalisation", "0", "2026", "3.5", "12345678901234567890", "é", "猫",
    "中文的分词方法与英文的不同因为它没有空格", "&quot;", "&amp;", "&am-\np;",
    "<skipped>", "skipped", ".", ",", "...", "-", "--", "$", "_", "(", "'", "🙂", "²",
    " ", " ", " ", "  ", "\n", "-\n", "\t", "\u3000", "\u00a0", "e\u0301",
]  # fmt: skip
TOKENIZERS = [kind for kind in BleuTokenizer if kind is not BleuTokenizer.NONE]


def splitting(kind: BleuTokenizer) -> Callable[[str], list[str]]:
    tokenize = _tokenizer(kind)
    assert tokenize is not None
    return lambda text: tokenize(text).split()


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("least", [0, 1, 7, 50])
def test_pieces_have_the_tokens_of_the_whole(kind: BleuTokenizer, least: int) -> None:
    random, split, cuts = np.random.default_rng(least), splitting(kind), 0

    def counted(piece: str) -> list[str]:
        nonlocal cuts
        cuts += 1
        return split(piece)

    for _ in range(200):
        # Two long words, which have a place, end each part of it.
        text = "".join(
            "".join(random.choice(PARTS, 20)) + " so longwordslongwords" for _ in range(10)
        )
        found = split_by_pieces(text, counted, lambda: None, least=least, most=least + 500)
        assert found == split(text)
    assert cuts > 400


@pytest.mark.parametrize("seed", range(5))
def test_texts_of_words_have_the_tokens_that_13a_makes_of_the_whole(seed: int) -> None:
    """Also where a word has been seen before, and where a hyphen at the end of a line joins two."""
    random, parts = np.random.default_rng(seed), [*PARTS, "\x1c", "\x85", "1-", "a-", ".5", "&"]
    expected = splitting(BleuTokenizer.MTEVAL_13A)
    split = _splitter(BleuTokenizer.MTEVAL_13A, lambda: None, lowercase=False)
    for _ in range(2000):
        text = "".join(random.choice(parts, random.integers(1, 12)))
        assert split(text) == expected(text.rstrip()), text


def test_13a_looks_once_at_a_word_that_recurs() -> None:
    """And at none of letters and digits alone; but at each that is too long to be kept."""
    calls: list[str] = []

    def counted(word: str) -> list[str]:
        calls.append(word)
        return splitting(BleuTokenizer.MTEVAL_13A)(word)

    split, long = _by_words(counted), "!" * 100
    for _ in range(50):
        assert split("At most $5, 3.5") == ["At", "most", "$", "5", ",", "3.5"]
    assert sorted(calls) == ["$5,", "3.5"]
    assert split(long) == split(long) == ["!"] * 100
    assert calls[2:] == [long] * 2


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_no_piece_is_long_and_each_can_be_stopped(kind: BleuTokenizer) -> None:
    split, sizes, stops = splitting(kind), [0], [0]

    def counted(piece: str) -> list[str]:
        sizes.append(len(piece))
        return split(piece)

    def checkpoint() -> None:
        stops.append(1)

    text = "a word, and 3.5 more. " * 20_000
    assert split_by_pieces(text, counted, checkpoint) == split(text)
    assert max(sizes) <= MOST
    assert sum(stops) >= len(text) / MOST


def test_a_text_that_cannot_be_cut_is_refused() -> None:
    hypotheses = [".," * MOST]
    with pytest.raises(InputError, match=f"next to each other in each {MOST} characters"):
        score("bleu", hypotheses=hypotheses, references=[["a"]])
    parameters = {"tokenizer": BleuTokenizer.NONE}
    assert score("bleu", parameters, hypotheses=hypotheses, references=[["a"]]).value == 0


def test_a_long_text_is_scored_as_a_short_one() -> None:
    text = "the cat sat on the mat, " * 10_000
    assert score("bleu", hypotheses=[text], references=[[text]]).value == pytest.approx(100)


def test_a_call_that_nobody_waits_for_stops_within_a_text() -> None:
    pieces = 0

    def checkpoint() -> None:
        if pieces == 3:
            raise Abandoned("call must be waited for")

    def split(piece: str) -> list[str]:
        nonlocal pieces
        pieces += 1
        return piece.split()

    with pytest.raises(Abandoned):
        split_by_pieces("a word " * 100_000, split, checkpoint)
    assert pieces == 3
