"""Computes one score for a corpus, or one for each hypothesis, from counts of n-grams."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import BatchState, Score
from lossd.evaluation._exact import Integers
from lossd.evaluation._examples import Flags
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally
from lossd.evaluation._text import Segments, TextLevel

Statistics = Sequence[int]

_ROWS = 1 << 12  # that become numbers at once: all would keep the interpreter
_REASONS = 3  # that are told
_IGNORED = -1  # instead of each count


def keep_statistics(
    parts: Sequence[Integers], prepared: Segments, size: int, level: TextLevel
) -> BatchState:
    """Returns the counts, summed or for each hypothesis, and the numbers of references.

    A row of a part has ``size`` counts.  Among those of each hypothesis, one that is ignored has
    its place.
    """
    references = np.bincount([len(group) for group in prepared.references] or [0])
    count = references.astype(np.int64) if prepared.references else references * 0
    tallies = {"references": Tally(count)}
    table = np.concatenate([np.zeros((0, size), np.int64), *parts])
    if level is TextLevel.CORPUS:
        sums = {"statistics": Tally(table.sum(axis=0))} if len(table) else {}
        return BatchState(tallies={**tallies, **sums})
    if prepared.kept is not None:
        among = np.full((len(prepared.kept), size), _IGNORED)
        among[prepared.kept] = table
        table = among
    return BatchState(tallies=tallies, table={"statistics": table} if len(table) else None)


def check(state: State) -> str:
    """Returns the fault of a state from elsewhere, or an empty text."""
    for name, tally in state.tallies.items():
        if tally.fractions:
            return f"{name} must be counts, got fractions"
    for table in state.tables:
        rows = table["statistics"]
        if rows.dtype != np.int64 or (rows.min(axis=1, initial=0)[~_ignored(rows)] < 0).any():
            return "statistics must be counts, got others"
        if np.count_nonzero(~_ignored(rows)) > state.example_count:
            return f"statistics must be of {state.example_count} examples, got more"
    return ""


def _ignored(rows: Integers) -> Flags:
    """Returns which rows are of ignored hypotheses."""
    return np.asarray((rows == _IGNORED).all(axis=1))


def score_of(
    state: State,
    level: TextLevel,
    size: int,
    score: Callable[[Statistics], tuple[float, str]],
    *,
    signature: str,
    checkpoint: Checkpoint,
) -> Score:
    """Returns the score of the corpus, or the mean of the scores of the hypotheses.

    ``score`` takes ``size`` counts and returns the number, and a remark or an empty text;
    ``checkpoint`` is called between many.
    """
    if level is TextLevel.CORPUS:
        value, reason = score(_padded(state.tally("statistics").integers[None], size).tolist()[0])
        return Score(value=value, reason=reason, signature=signature)
    table = state.table().get("statistics", np.zeros((0, size), np.int64))
    kept = ~_ignored(table)
    padded = _padded(table[kept], size)
    found: list[tuple[float, str]] = []
    for start in range(0, len(padded), _ROWS):
        checkpoint()
        found += map(score, padded[start : start + _ROWS].tolist())
    if not found:
        return Score(reason="there is no hypothesis", signature=signature)
    each = [value for value, _ in found]
    values = np.full(len(table), np.nan)
    values[kept] = each
    return Score(
        value=math.fsum(each) / len(each),
        values=values,
        reason=_reason([reason for _, reason in found]),
        signature=signature,
    )


def _reason(each: Sequence[str]) -> str:
    """Returns how many hypotheses have which remark, the most frequent first."""
    counts = Counter(reason for reason in each if reason)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{reason}, in {count} of {len(each)} hypotheses" for reason, count in ordered]
    return "; ".join(said[:_REASONS]) + ("; ..." if len(said) > _REASONS else "")


def _padded(rows: Integers, size: int) -> Integers:
    """Returns rows of so many columns; what is not there is 0."""
    found = np.zeros((len(rows), size), np.int64)
    found[:, : rows.shape[1]] = rows[:, :size]
    return found


def reference_count(state: State) -> str:
    """Returns how many references a hypothesis has; "var" where they differ."""
    used = np.flatnonzero(state.tally("references").integers)
    return str(used[0]) if len(used) == 1 else "var"
