"""Whose the numbers of an input are, and so those of the gradient with respect to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossd.batch import Array, Slot
from lossd.reduction import Flags
from lossd.shapes._lay_out import Laid
from lossd.shapes._token_forms import OF_TOKENS


@dataclass(frozen=True, slots=True)
class Owners:
    """Tells which example each number belongs to, of arrays in the shape of an input.

    The first axes count the examples of a ``part``, None for all; with ``offsets`` axis 0 has the
    tokens of all examples, one after the other.
    """

    slot: Slot
    part: slice | None = None
    offsets: Array | None = None

    @property
    def are_all(self) -> bool:
        """Whether all examples share the numbers."""
        return self.offsets is None and not self.slot.leads_with_examples

    def flag_nonfinite(self, array: Array, flags: Flags) -> None:
        """Flags the examples that have a number that is not finite."""
        rows = self.slot.moved(array)
        axes = flags.ndim if self.offsets is None else 1
        wrong: Flags = np.asarray(~np.isfinite(rows).all(axis=tuple(range(axes, rows.ndim))))
        if self.offsets is None:
            self._own(flags)[...] |= wrong
            return
        # A sequence without tokens begins where the next one does, which has the token.
        flags[np.searchsorted(self.offsets, wrong.nonzero()[0], "right") - 1] = True

    def clear(self, array: Array, flags: Flags) -> None:
        """Makes the numbers of flagged examples 0."""
        own = self._own(flags)
        if self.offsets is not None:
            own = np.repeat(own, np.diff(self.offsets))
        self.slot.moved(array)[own] = 0

    def _own(self, flags: Flags) -> Flags:
        return flags if self.part is None else flags[self.part]


def owners_of(laid: Laid, arrays: Sequence[Array | None]) -> list[Owners]:
    """Returns whose the numbers of each input are; the inputs are those of a valid batch.

    ``arrays`` are its tensors in the order of the slots.
    """
    by_name = {slot.name: array for slot, array in zip(laid.slots, arrays, strict=True)}
    parts = laid.layout.parts or (None,) * len(laid.slots)
    return [
        Owners(slot, part, _offsets(slot, by_name))
        for slot, part in zip(laid.slots, parts, strict=True)
    ]


def _offsets(slot: Slot, arrays: Mapping[str, Array | None]) -> Array | None:
    """Returns where the sequences begin whose tokens an input has flat; None for any other."""
    offsets = arrays.get(f"{slot.input.side}offsets")
    if offsets is None or slot.leads_with_examples or slot.input.axes not in OF_TOKENS:
        return None
    return offsets.astype(np.intp)
