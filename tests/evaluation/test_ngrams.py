"""N-grams of many examples are counted together as they would be one by one."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lossd.evaluation import _ngrams
from lossd.evaluation._ngrams import in_pieces, shared, size_of
from lossd.evaluation._text import PIECE_TOKENS

ORDERS = 5
KINDS = ["texts", "words", "small ids", "far ids", "unsigned ids", "lists"]


def drawn(random: np.random.Generator, kind: str) -> list[Any]:
    """Some examples of a sequence and one to four others, of up to 30 tokens."""
    found = []
    for _ in range(60):
        numbers = random.integers(0, 4, 30)
        each: list[Any] = []
        for _ in range(random.integers(2, 6)):
            changed = np.where(random.random(30) < 0.3, random.integers(0, 4, 30), numbers)
            each.append(as_kind(changed[: random.integers(0, 31)], kind))
        found.append(each)
    return found


def as_kind(tokens: Any, kind: str) -> Any:
    if kind == "texts":
        return "".join("aé𝄞\ud800"[token] for token in tokens)
    if kind == "words":
        return [f"word{token}" for token in tokens]
    if kind == "far ids":
        return np.array([-(2**63), -1, 0, 2**63 - 1])[tokens]
    if kind == "unsigned ids":
        return np.array([0, 1, 2**63, 2**64 - 1], np.uint64)[tokens]
    return tokens.tolist() if kind == "lists" else tokens.astype(np.int32)


def counted(tokens: Any, order: int) -> Counter[Any]:
    each = tokens.tolist() if isinstance(tokens, np.ndarray) else tokens
    return Counter(tuple(each[i : i + order]) for i in range(len(each) - order + 1))


def expected(examples: Sequence[Any], *, joined: bool) -> list[list[int]]:
    rows = []
    for mine, *others in examples:
        found = []
        for order in range(1, ORDERS + 1):
            own, theirs = counted(mine, order), [counted(one, order) for one in others]
            if joined:
                union: Counter[Any] = Counter()
                for one in theirs:
                    union |= one
                theirs = [union]
            found.append([(own & one).total() for one in theirs])
        rows += [list(row) for row in zip(*found, strict=True)]
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("size", [1, 100, 1 << 15])
def test_they_are_those_of_a_dictionary(kind: str, size: int, *, joined: bool) -> None:
    """Of pieces of any size, each example alone among them, which is then a long one."""
    examples = drawn(np.random.default_rng(size), kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ngrams, "PIECE_TOKENS", size)
        pieces = list(in_pieces(examples, size_of))
        found = [shared(piece, ORDERS, lambda: None, joined=joined) for piece in pieces]
    assert (len(pieces) == 1) == (size > 100)
    rows = np.concatenate(found)
    assert rows.tolist() == expected(examples, joined=joined)
    assert rows[:, -1].any()


def test_a_piece_is_no_longer_than_one_in_which_places_have_room() -> None:
    many: list[list[list[int]]] = [[[], []]] * 50_000
    pieces = list(in_pieces(many, size_of))
    assert max(map(len, pieces)) <= PIECE_TOKENS / 2
    for piece in pieces:
        assert shared(piece, 2, lambda: None, joined=True).shape == (len(piece), 2)
        assert not shared(piece, 2, lambda: None, joined=False).any()
