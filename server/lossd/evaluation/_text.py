"""Hypotheses and references, laid out for the metrics of text."""

import enum
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lossd.evaluation._declare import Batch, Input, InputError, Layout, Seen
from lossd.evaluation._examples import select

MAX_REFERENCES = 64

Tokens = Sequence[Any]


class TextLevel(enum.Enum):
    """The unit of text that is scored."""

    CORPUS = "corpus"
    SENTENCE = "sentence"


@dataclass(frozen=True, slots=True)
class Segments:
    """The hypotheses of the examples that count, with their references."""

    seen: Seen
    hypotheses: tuple[Any, ...]
    references: tuple[tuple[Any, ...], ...]
    are_texts: bool
    checkpoint: Callable[[], None]


def lay_out_segments(batch: Batch) -> Segments:
    """Checks that each hypothesis has references of its kind."""
    hypotheses, references = batch.sequences["hypotheses"], batch.sequences["references"]
    if batch.weights is not None:
        raise InputError("weights", "weights must be unset for sequences, got some")
    for position, group in enumerate(hypotheses.groups):
        if len(group) != 1:
            raise InputError(
                "sequences.hypotheses.counts",
                f"hypotheses must be one an example, got {len(group)} at {position}",
            )
    if len(references.groups) != len(hypotheses.groups):
        raise InputError(
            "sequences.references",
            f"references must be given for each of {len(hypotheses.groups)} hypotheses, "
            f"got {len(references.groups)}",
        )
    for position, group in enumerate(references.groups):
        if not 0 < len(group) <= MAX_REFERENCES:
            raise InputError(
                "sequences.references.counts",
                f"references must be 1 to {MAX_REFERENCES} a hypothesis, "
                f"got {len(group)} at {position}",
            )
    if hypotheses.groups and hypotheses.are_texts != references.are_texts:
        raise InputError(
            "sequences", "references must be texts where hypotheses are, got texts and token ids"
        )
    selection = select(batch, (len(hypotheses.groups),))
    rows = range(len(hypotheses.groups)) if selection.rows is None else selection.rows.nonzero()[0]
    return Segments(
        seen=selection.seen(),
        hypotheses=tuple(hypotheses.groups[row][0] for row in rows),
        references=tuple(references.groups[row] for row in rows),
        are_texts=hypotheses.are_texts,
        checkpoint=batch.checkpoint,
    )


def lay_out_texts(batch: Batch) -> Segments:
    """Does the same as ``lay_out_segments``, for texts only."""
    laid = lay_out_segments(batch)
    if laid.hypotheses and not laid.are_texts:
        raise InputError("sequences", "hypotheses must be texts for this metric, got token ids")
    return laid


def ngrams(tokens: Tokens, order: int) -> Counter[Any]:
    """Returns how often each n-gram of one order occurs."""
    if isinstance(tokens, str):
        return Counter(tokens[i : i + order] for i in range(len(tokens) - order + 1))
    return Counter(zip(*(itertools.islice(tokens, i, None) for i in range(order)), strict=False))


def overlap(left: Counter[Any], right: Counter[Any]) -> int:
    """Returns how many n-grams both have; each counts as often as in the one with fewer of it."""
    return sum(min(count, right[gram]) for gram, count in left.items() if gram in right)


HYPOTHESES = Input("hypotheses", "what the model wrote", ("texts or token ids (N)",))
REFERENCES = Input("references", "what it may have written", ("texts or token ids (N, 1 to 64)",))
SEGMENTS = Layout((HYPOTHESES, REFERENCES), lay_out_segments)
TEXTS = Layout(
    (
        Input("hypotheses", "what the model wrote", ("texts (N)",)),
        Input("references", "what it may have written", ("texts (N, 1 to 64)",)),
    ),
    lay_out_texts,
)
