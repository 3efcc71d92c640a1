"""Scores of pairs: one gradient, and its opposite for the other side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.backends import Backend, round_into
from lossd.batch import Array, Batch
from lossd.checkpoints import Checkpoint
from lossd.reduction import Flags
from lossd.shapes._scores import SideScores, flag_nonfinite, widened, windows_of, zeroed
from lossd.shapes._shape import Buffers, Evaluated, Evaluator


def pairs(scores: SideScores, backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
    """Returns the function that computes pairs, whose two gradients are opposite."""

    def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
        part = scores.batch(batch, scores.names[:1] if buffers.gradients else ())
        pair = _Opposites.of(scores.names, buffers.gradients)
        values = buffers.values
        is_widened = pair.are_rounded(part.operands[0].rows.dtype)
        if is_widened:
            part = widened(part)
            pair = replace(pair, place=np.empty(part.operands[0].rows.shape, batch.dtype))
            if values is None and zero_nonfinite:
                values = np.empty(batch.rows, batch.dtype)
        places = {scores.name: pair.place} if buffers.gradients else {}
        found = scores.evaluate(part, Buffers(values, places, {}), checkpoint)
        flags = np.zeros(batch.rows, np.bool_) if found.nonfinite is None else found.nonfinite
        windows = windows_of(*part.operands[0].rows.shape)

        def spread(index: int) -> None:
            checkpoint()
            pair.spread(windows[index], flags)

        if pair.are_to_spread:
            backend.side_by_side(len(windows), spread)
        if pair.second is not None and batch.plan.excluded is not None:
            pair.second[batch.plan.excluded] = 0
        found.nonfinite = flags if flags.any() else None
        if zero_nonfinite and is_widened and found.nonfinite is not None and values is not None:
            found.sums = zeroed(batch, values, buffers, (scores,), flags)
        return found

    return evaluate


@dataclass(frozen=True, slots=True)
class _Opposites:
    """The gradients of pairs in the reply, None where one is not wanted.

    The first is computed in ``place``, which is that of either of them, unless they are rounded,
    once each, from what both come of.  The second is its negative.
    """

    first: Array | None
    second: Array | None
    place: Any  # None where neither is wanted

    @classmethod
    def of(cls, names: Sequence[str], gradients: Mapping[str, Any]) -> "_Opposites":
        """Returns those of two inputs, to be computed in one of them."""
        first, second = (gradients.get(name) for name in names)
        return cls(first, second, second if first is None else first)

    @property
    def are_to_spread(self) -> bool:
        """Whether any is to be written from its place."""
        return self.second is not None or self.first is not self.place

    def are_rounded(self, dtype: np.dtype[Any]) -> bool:
        """Returns whether one is of another type than their input."""
        return any(one is not None and one.dtype != dtype for one in (self.first, self.second))

    def spread(self, window: tuple[slice, slice], flags: Flags) -> None:
        """Writes a window of both, and flags the rows where a rounded one is not finite."""
        found = self.place[window]
        if self.second is not None and self.second.dtype == self.place.dtype:
            np.negative(found, out=self.second[window])
        elif self.second is not None:
            _round_scores(-found, self.second[window], flags[window[0]])
        if self.first is not None and self.first is not self.place:
            _round_scores(found, self.first[window], flags[window[0]])


def _round_scores(found: Array, out: Array, flags: Flags) -> None:
    """Writes scores, rounded, and flags the rows where one is not finite in the type of ``out``."""
    with np.errstate(all="ignore"):
        round_into(found, out)
    flag_nonfinite(out, flags)
