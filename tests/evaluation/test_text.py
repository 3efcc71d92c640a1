"""Text scores against sacrebleu, and edits against the textbook's table."""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from lossd import v1
from lossd.evaluation import InputError
from lossd.evaluation._text import TextLevel
from lossd.evaluation.bleu import BleuSmoothing, BleuTokenizer
from lossd.evaluation.word_error_rate import TextUnit
from lossd.losses import ParameterError
from lossd.serving.evaluation_service import state as evaluation_state
from tests.evaluation.run import score, score_of, state, value, values_of
from tests.evaluation.test_states import requested, same

WORDS = ["the", "cat", "The", "sat", "on", "mat.", "(hi)", "3.5%", "don't", "猫", "é", "&quot;x"]


def corpus(seed: int, *, size: int = 12, references: int = 2) -> tuple[list[str], list[list[str]]]:
    random = np.random.default_rng(seed)

    def sentence() -> str:
        return " ".join(random.choice(WORDS, random.integers(0, 9)))

    return [sentence() for _ in range(size)], [
        [sentence() for _ in range(references)] for _ in range(size)
    ]


def streams(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """As sacrebleu wants them."""
    return [list(stream) for stream in zip(*references, strict=True)]


@pytest.mark.parametrize("tokenizer", BleuTokenizer)
@pytest.mark.parametrize("smoothing", BleuSmoothing)
def test_bleu(tokenizer: BleuTokenizer, smoothing: BleuSmoothing) -> None:
    for seed, lowercase, effective in itertools.product(range(3), (False, True), (False, True)):
        hypotheses, references = corpus(seed)
        oracle = BLEU(
            tokenize=tokenizer.value, smooth_method=smoothing.value, lowercase=lowercase,
            effective_order=effective,
        )  # fmt: skip
        parameters = {
            "tokenizer": tokenizer, "smoothing": smoothing, "lowercase": lowercase,
            "effective_order": effective,
        }  # fmt: skip
        found = score("bleu", parameters, hypotheses=hypotheses, references=references)
        expected = oracle.corpus_score(hypotheses, streams(references))
        assert found.value == pytest.approx(expected.score, rel=1e-12, abs=1e-300)
        signature = str(oracle.get_signature())
        if tokenizer is BleuTokenizer.NONE:  # nothing is sacrebleu's own
            signature, _, _ = signature.partition("|version:")
        assert found.signature == signature


def test_bleu_of_each_sentence() -> None:
    hypotheses, references = corpus(5)
    oracle = BLEU(effective_order=True)
    expected = [
        oracle.sentence_score(h, r).score for h, r in zip(hypotheses, references, strict=True)
    ]
    parameters = {"effective_order": True, "level": TextLevel.SENTENCE}
    found = score("bleu", parameters, hypotheses=hypotheses, references=references)
    np.testing.assert_allclose(values_of(found), expected, rtol=1e-12)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-12)


def test_references_as_close_count_the_shorter_in_either_order() -> None:
    for references in (["a b", "a b c d"], ["a b c d", "a b"]):
        expected = BLEU(max_ngram_order=1).corpus_score(["a b x"], [[r] for r in references])
        found = value("bleu", {"order": 1}, hypotheses=["a b x"], references=[references])
        assert found == pytest.approx(expected.score, rel=1e-12)


def test_bleu_of_what_is_short_or_empty() -> None:
    short = score("bleu", hypotheses=["the cat sat"], references=[["the cat sat"]])
    assert (short.value, short.reason) == (0.0, "hypotheses have no 4-gram")
    for smoothing in BleuSmoothing:
        parameters = {"smoothing": smoothing}
        assert value("bleu", parameters, hypotheses=["x y z w"], references=[["a b c d"]]) == 0.0
    empty = score("bleu", hypotheses=["", ""], references=[["a"], [""]])
    assert (empty.value, empty.reason) == (0.0, "hypotheses are empty")
    nothing = score("bleu", hypotheses=[], references=[])
    assert (nothing.value, nothing.reason) == (None, "there is no example")


def test_each_reason_of_sentences_is_counted_in_any_order() -> None:
    def reason(*hypotheses: str) -> str:
        given: dict[str, Any] = {"references": [["a b c d"]] * len(hypotheses)}
        parameters = {"level": TextLevel.SENTENCE}
        return score("bleu", parameters, hypotheses=hypotheses, **given).reason

    for some in itertools.permutations(["a b c d", "", "a b c", "d c b a c", "b c d"]):
        assert reason(*some) == (
            "hypotheses have no 4-gram, in 2 of 5 hypotheses; "
            "hypotheses are empty, in 1 of 5 hypotheses"
        )
    assert reason("a b c", "a b c d") == "hypotheses have no 4-gram, in 1 of 2 hypotheses"
    assert reason("a b c d") == ""
    assert reason("", "a", "a b", "a b c").endswith("; ...")


def test_without_sacrebleu_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.tokenizers.tokenizer_zh", None)
    with pytest.raises(ParameterError, match=r"got CHINESE: pip install 'lossd\[text\]'$"):
        score("bleu", {"tokenizer": BleuTokenizer.CHINESE}, hypotheses=["a"], references=[["a"]])


@pytest.mark.parametrize("tokenizer", BleuTokenizer)
def test_space_at_the_end_of_a_text_is_no_part_of_it(tokenizer: BleuTokenizer) -> None:
    """A line break after a hyphen would join two lines to one."""
    hypotheses, references = ["a the well-\n", "a cat "], [["a the well-"], ["a cat"]]
    expected = BLEU(tokenize=tokenizer.value, max_ngram_order=2)
    assert value(
        "bleu", {"tokenizer": tokenizer, "order": 2}, hypotheses=hypotheses, references=references
    ) == pytest.approx(expected.corpus_score(hypotheses, streams(references)).score, rel=1e-12)


def test_token_ids_are_scored_as_words_are() -> None:
    hypotheses, references = corpus(6)
    plain = {"tokenizer": BleuTokenizer.NONE}
    ids: dict[str, Any] = {
        "hypotheses": [[hash(w) for w in h.split()] for h in hypotheses],
        "references": [[[hash(w) for w in r.split()] for r in group] for group in references],
    }
    assert value("bleu", **ids) == value(
        "bleu", plain, hypotheses=hypotheses, references=references
    )


@pytest.mark.parametrize("word_order", [0, 2])
@pytest.mark.parametrize("whitespace", [False, True])
@pytest.mark.parametrize("lowercase", [False, True])
def test_chrf(word_order: int, *, whitespace: bool, lowercase: bool) -> None:
    for seed in range(4):
        hypotheses, references = corpus(seed)
        options: dict[str, Any] = {
            "word_order": word_order,
            "whitespace": whitespace,
            "lowercase": lowercase,
        }
        oracle = CHRF(**options)
        expected = oracle.corpus_score(hypotheses, streams(references)).score
        given: dict[str, Any] = {"hypotheses": hypotheses, "references": references}
        found = score("chrf", options, **given)
        assert found.value == pytest.approx(expected, rel=1e-12)
        assert str(oracle.get_signature()).startswith(found.signature)
        each = [
            oracle.sentence_score(h, r).score for h, r in zip(hypotheses, references, strict=True)
        ]
        level = options | {"level": TextLevel.SENTENCE}
        found = score("chrf", level, **given)
        np.testing.assert_allclose(values_of(found), each, rtol=1e-12)


@pytest.mark.parametrize("beta", [0, 1, 2, 3])
@pytest.mark.parametrize(("char_order", "word_order"), [(6, 0), (1, 0), (6, 2), (2, 1)])
def test_of_references_that_nearly_tie_chrf_takes_that_of_sacrebleu(
    char_order: int, word_order: int, beta: int
) -> None:
    random = np.random.default_rng(100 * char_order + 10 * word_order + beta)

    def text() -> str:
        return "".join(random.choice(list("abc "), random.integers(1, 10)))

    options: dict[str, Any] = {"char_order": char_order, "word_order": word_order}
    oracle = CHRF(**options, beta=beta)
    for _ in range(40):
        hypotheses = [text() for _ in range(3)]
        references = [[text() for _ in range(6)] for _ in range(3)]
        expected = oracle.corpus_score(hypotheses, streams(references)).score
        given: dict[str, Any] = {"hypotheses": hypotheses, "references": references}
        assert value("chrf", {**options, "beta": float(beta)}, **given) == expected


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_the_scores_of_sentences_have_the_places_of_their_hypotheses(name: str) -> None:
    hypotheses, references = corpus(7)
    mask = np.arange(len(hypotheses)) % 3 != 1
    mask[:4] = False
    parameters = {"level": TextLevel.SENTENCE}
    everything = score(name, parameters, hypotheses=hypotheses, references=references)
    expected = np.where(mask, values_of(everything), np.nan)
    whole = score(name, parameters, hypotheses=hypotheses, references=references, mask=mask)
    np.testing.assert_array_equal(values_of(whole), expected)
    assert whole.value == pytest.approx(np.nanmean(expected), rel=1e-12)
    states = [
        state(name, parameters, hypotheses=h, references=r, mask=m)
        for h, r, m in (
            (hypotheses[part], references[part], mask[part])
            for part in (slice(0, 4), slice(4, 5), slice(5, None))
        )
    ]
    one = requested(name, parameters)
    one.spec.MergeFrom(v1.MetricSpec(**{name: {"level": v1.TEXT_LEVEL_SENTENCE}}))
    encoded = [evaluation_state.write([one], [kept]) for kept in states]
    read = [kept for _, kept in evaluation_state.read(encoded, [one])]
    for parts in (states, read):
        assert same(score_of(name, parts, parameters), whole)
    nothing = score(
        name, parameters, hypotheses=hypotheses[:4], references=references[:4], mask=mask[:4]
    )
    assert (nothing.value, nothing.reason) == (None, "all 4 examples are ignored")


def test_a_punctuation_mark_alone_is_one_word() -> None:
    hypotheses, references = ["a . b !", "- c"], [["a . c !"], ["- c"]]
    expected = CHRF(word_order=2).corpus_score(hypotheses, streams(references)).score
    found = value("chrf", {"word_order": 2}, hypotheses=hypotheses, references=references)
    assert found == pytest.approx(expected, rel=1e-12)


def distance(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Levenshtein's table, cell by cell."""
    table = {(i, 0): i for i in range(len(left) + 1)} | {(0, j): j for j in range(len(right) + 1)}
    for i, j in itertools.product(range(1, len(left) + 1), range(1, len(right) + 1)):
        table[i, j] = min(
            table[i - 1, j] + 1,
            table[i, j - 1] + 1,
            table[i - 1, j - 1] + (left[i - 1] != right[j - 1]),
        )
    return table[len(left), len(right)]


def test_word_and_character_errors() -> None:
    for seed in range(5):
        hypotheses, groups = corpus(seed, references=1)
        references = [group[0] for group in groups]
        given: dict[str, Any] = {"hypotheses": hypotheses, "references": groups}
        pairs = list(zip(hypotheses, references, strict=True))
        edits = sum(distance(h.split(), r.split()) for h, r in pairs)
        length = sum(len(r.split()) for r in references)
        assert value("word_error_rate", **given) == edits / length
        characters = sum(distance(h, r) for h, r in pairs) / sum(map(len, references))
        parameters = {"unit": TextUnit.CHARACTERS}
        assert value("word_error_rate", parameters, **given) == characters
    empty = score("word_error_rate", hypotheses=["a"], references=[[""]])
    assert (empty.value, empty.reason) == (None, "references are empty")


def test_long_sequences_take_no_table() -> None:
    tokens = list(range(100_000))
    wrong = [tokens[1], *tokens[:50_000], *tokens[50_002:]]
    found = score("word_error_rate", hypotheses=[wrong], references=[[tokens]])
    assert found.outputs["edits"] == 3


def test_wrong_sequences_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"hypotheses": ["a"], "references": []}, "references must be given for each of 1"),
        ({"hypotheses": ["a"], "references": [[]]}, "references must be 1 to 64 a hypothesis"),
        ({"hypotheses": ["a"], "references": [["a"] * 65]}, "references must be 1 to 64 a"),
        ({"hypotheses": ["a"], "references": [["a"]], "weights": [1.0]}, "weights must be unset"),
        ({"hypotheses": ["a"], "references": [[[1]]]}, "references must be texts where"),
    ]
    for given, message in wrong:
        with pytest.raises(InputError, match=message):
            score("bleu", **given)
    with pytest.raises(InputError, match="must be texts for this metric"):
        score("chrf", hypotheses=[[1]], references=[[[1]]])
    with pytest.raises(InputError, match="must be one a hypothesis"):
        score("word_error_rate", hypotheses=["a"], references=[["a", "b"]])
    long, rule = "a " * 131073, "must have at most 131072 tokens for WordErrorRate, got 131073 at 1"
    two_long: dict[str, dict[str, Any]] = {
        "hypotheses": {"hypotheses": ["a", long], "references": [["a"], ["a"]]},
        "references": {"hypotheses": ["a", "a"], "references": [["a"], [long]]},
    }
    for side, given in two_long.items():
        with pytest.raises(InputError, match=f"^{side} {rule}$") as got:
            score("word_error_rate", **given)
        assert got.value.field == f"sequences.{side}"
    with pytest.raises(ParameterError, match="smoothing_value must go with"):
        score("bleu", {"smoothing_value": 0.1}, hypotheses=["a"], references=[["a"]])
