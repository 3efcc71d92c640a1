"""Hypotheses and references, laid out for the metrics of text."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import (
    BatchFacts,
    InputError,
    MetricBatch,
    MetricInput,
    MetricLayout,
    Sequences,
)
from lossd.evaluation._examples import Flags, select

MAX_REFERENCES = 64

Tokens = Any  # a text, an array of integers, or a sequence of what can be compared


class TextLevel(enum.Enum):
    """The unit of text that is scored."""

    CORPUS = "corpus"
    SENTENCE = "sentence"


@dataclass(frozen=True, slots=True)
class Segments:
    """The hypotheses of the examples that count, with their references.

    ``kept`` tells which of the batch they are; None for all.
    """

    facts: BatchFacts
    hypotheses: tuple[Any, ...]
    references: tuple[tuple[Any, ...], ...]
    are_texts: bool
    kept: Flags | None
    checkpoint: Checkpoint


def lay_out_segments(batch: MetricBatch) -> Segments:
    """Returns the segments of a batch, in which each hypothesis must have references."""
    hypotheses, references = batch.sequences["hypotheses"], batch.sequences["references"]
    if batch.weights is not None:
        raise InputError("weights", "weights must be unset for sequences, got some")
    _check_groups(hypotheses, references)
    selection = select(batch, (len(hypotheses.groups),))
    rows = range(len(hypotheses.groups)) if selection.rows is None else selection.rows.nonzero()[0]
    return Segments(
        facts=selection.facts(),
        hypotheses=tuple(hypotheses.groups[row][0] for row in rows),
        references=tuple(references.groups[row] for row in rows),
        are_texts=hypotheses.are_texts,
        kept=selection.rows,
        checkpoint=batch.checkpoint,
    )


def _check_groups(hypotheses: Sequences, references: Sequences) -> None:
    """Checks that there are one hypothesis and some references for each example, all of a kind.

    Raises:
        InputError: if not, with the position.
    """
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


# Tokens, or characters, that are looked at together.
PIECE_TOKENS = 1 << 15
# Of each token or character of an example, which are looked at one example at a time, or as many as
# are a piece: its number and those of its n-grams, in order and not.
_TOKEN_BYTES = 288
_SEQUENCE_BYTES, _COUNT_BYTES = 512, 40


def observing(batch: MetricBatch, parameters: Mapping[str, Any]) -> int:
    """Returns the bytes of sequences, and of the counts of each example."""
    lengths = [
        [sum(map(len, group)) for group in named.groups] for named in batch.sequences.values()
    ]
    longest = sum(max(each, default=0) for each in lengths)
    together = max(longest, min(sum(map(sum, lengths)), PIECE_TOKENS))
    orders = sum(parameters.get(name, 0) for name in ("order", "char_order", "word_order"))
    counts = 3 * orders * len(lengths[0]) if lengths else 0
    sequences = sum(map(len, lengths))
    return _TOKEN_BYTES * together + _SEQUENCE_BYTES * sequences + _COUNT_BYTES * counts


def listed(sequence: Tokens) -> Tokens:
    """Returns a sequence as Python's own, which are quick to look at one by one."""
    return sequence.tolist() if isinstance(sequence, np.ndarray) else sequence


def lay_out_texts(batch: MetricBatch) -> Segments:
    """Does the same as ``lay_out_segments``, for texts only."""
    prepared = lay_out_segments(batch)
    if prepared.hypotheses and not prepared.are_texts:
        raise InputError("sequences", "hypotheses must be texts for this metric, got token ids")
    return prepared


HYPOTHESES = MetricInput("hypotheses", "what the model wrote", ("texts or token ids (N)",))
REFERENCES = MetricInput(
    "references", "what it may have written", ("texts or token ids (N, 1 to 64)",)
)
SEGMENTS = MetricLayout((HYPOTHESES, REFERENCES), lay_out_segments)
TEXTS = MetricLayout(
    (
        MetricInput("hypotheses", "what the model wrote", ("texts (N)",)),
        MetricInput("references", "what it may have written", ("texts (N, 1 to 64)",)),
    ),
    lay_out_texts,
)
