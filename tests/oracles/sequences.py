"""Losses of sequences: each takes the frames and labels of one example."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Any

import mpmath


def _softmax(logits: Sequence[Any]) -> list[Any]:
    exponentials = [mpmath.exp(x) for x in logits]
    return [x / sum(exponentials) for x in exponentials]


def _probabilities(frames: Sequence[Any], kind: str) -> list[list[Any]]:
    turns: dict[str, Any] = {
        "LOGITS": _softmax,
        "LOG_PROBABILITIES": lambda row: [mpmath.exp(x) for x in row],
        "PROBABILITIES": list,
    }
    return [turns[kind](row) for row in frames]


def ctc(
    predictions: Sequence[Any],
    targets: Sequence[int],
    prediction_lengths: int,
    target_lengths: int,
    *,
    prediction_kind: Any = None,
    blank: int = 0,
    zero_infinity: bool = True,
) -> Any:
    """Hannun, 2017: the probability of each beginning of the labels, frame by frame."""
    kind = prediction_kind.name if prediction_kind else "LOGITS"
    labels = tuple(targets[:target_lengths])
    found: dict[Any, Any] = {
        ((), True): mpmath.mpf(1)
    }  # what was read, and whether a blank is last
    for frame in _probabilities(predictions[:prediction_lengths], kind):
        after: dict[Any, Any] = defaultdict(mpmath.mpf)
        for ((read, is_blank), so_far), label in product(found.items(), range(len(frame))):
            repeats = not is_blank and bool(read) and read[-1] == label
            longer = read if label == blank or repeats else (*read, label)
            if longer == labels[: len(longer)]:
                after[longer, label == blank] += so_far * frame[label]
        found = dict(after)
    total = sum((found.get((labels, last), mpmath.mpf(0)) for last in (True, False)), mpmath.mpf(0))
    if total == 0:
        return mpmath.mpf(0) if zero_infinity else mpmath.inf
    return -mpmath.log(total)


def ctc_by_enumeration(predictions: Sequence[Any], targets: Sequence[int], blank: int = 0) -> Any:
    """Graves et al., 2006: every path of probabilities that collapses to the labels."""
    total = mpmath.mpf(0)
    for path in product(range(len(predictions[0])), repeat=len(predictions)):
        previous = (None, *path)
        collapsed = [
            x for x, before in zip(path, previous, strict=False) if x not in (blank, before)
        ]
        if collapsed == list(targets):
            total += mpmath.fprod(row[x] for row, x in zip(predictions, path, strict=True))
    return -mpmath.log(total) if total else mpmath.inf
