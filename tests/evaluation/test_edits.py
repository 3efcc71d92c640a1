"""Edits of many pairs are counted together as they would be one by one."""

from typing import Any

import numpy as np
import pytest

from lossd.evaluation import _edits
from lossd.evaluation._edits import total_edits


def fewest(left: Any, right: Any) -> int:
    """Returns the fewest edits by the table itself."""
    row = list(range(len(right) + 1))
    for number, token in enumerate(left, start=1):
        before, row = row, [number]
        for place, other in enumerate(right, start=1):
            row.append(min(before[place] + 1, row[-1] + 1, before[place - 1] + (token != other)))
    return row[-1]


def as_kind(tokens: Any, kind: str) -> Any:
    if kind == "texts":
        return "".join("aé𝄞"[token] for token in tokens)
    if kind == "words":
        return [f"word{token}" for token in tokens]
    if kind == "far ids":
        return np.array([-(2**63), 0, 2**63 - 1])[tokens]
    return np.array([0, 2**63, 2**64 - 1], np.uint64)[tokens]


@pytest.mark.parametrize("kind", ["texts", "words", "far ids", "unsigned ids"])
@pytest.mark.parametrize("bits", [0, 64])
def test_edits_are_those_of_a_table(monkeypatch: pytest.MonkeyPatch, kind: str, bits: int) -> None:
    """Of empty sequences, of those that just fit a set of 64 positions, and of longer ones."""
    monkeypatch.setattr(_edits, "_BITS", bits)
    random = np.random.default_rng(bits)
    sizes = [0, 1, 2, 7, 31, 32, 33, 63, 64, 65, 130]
    pairs = []
    for size in sizes:
        for other in sizes:
            given = random.integers(0, 3, size)
            changed = np.resize(given, other) if size else random.integers(0, 3, other)
            changed = np.where(random.random(other) < 0.4, random.integers(0, 3, other), changed)
            pairs.append((as_kind(given, kind), as_kind(changed, kind)))
    each = [total_edits([pair], lambda: None) for pair in pairs]
    assert each == [fewest(left, right) for left, right in pairs]
    assert total_edits(pairs, lambda: None) == sum(each)
    assert total_edits([pair[::-1] for pair in pairs], lambda: None) == sum(each)


def test_there_is_no_table_of_its_own_for_each_short_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_edits, "_edits_of_long")
    pairs = [("kitten", "sitting"), ("", "ab"), ("a" * 64, "b" * 128)] * 100
    assert total_edits(pairs, lambda: None) == 100 * (3 + 2 + 128)
    assert total_edits([], lambda: None) == 0
