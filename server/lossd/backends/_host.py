"""Kernels compiled for the CPU, in the place of bodies."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lossd.backends import Array, Computed, Piece, round_into, settle
from lossd.backends._texts import text_of
from lossd.batch import Batch, check_rules
from lossd.kernels.host import (
    HostKernel,
    HostText,
    KernelInput,
    Library,
    NoLibraryError,
    PreparedCall,
    PreparedInput,
    SoftCountsKernel,
    TokenKernel,
    TokenSums,
)
from lossd.losses import COMPUTED, Loss

# A thread that takes the next piece waits for the interpreter's lock, so pieces are few, however
# large a cache is: a kernel goes through one block by block.  But with one for each thread, all
# would wait for the slowest; and between pieces a caller that has gone is noticed.
PIECES_A_THREAD, LEAST_ELEMENTS, MOST_ELEMENTS = 4, 1 << 20, 1 << 22
# A gradient that is larger goes to memory past the caches, which spares reading it there first.
STREAMED_BYTES = 32 << 20
# A region of more classes has to have so many positions for a kernel.
FEW_CLASSES, ENOUGH_POSITIONS = 1 << 10, 16

# Writes what the body gives beside the kernel: some gradients, and all outputs.
Beside = Callable[[Piece, Sequence[str]], object]


class KernelSource(Protocol):
    """Where kernels for the CPU are looked for."""

    @property
    def description(self) -> str:
        """Which kernels there are, or why there are none."""

    def find(self, batch: Batch) -> HostKernel | None:
        """Returns the kernel that takes the place of a batch's body; None if there is none.

        Raises:
            InvalidParameter: if the body refuses a parameter, which the kernel does not look at.
        """

    def tokens(self, batch: Batch) -> TokenKernel | None:
        """Returns the kernel that computes a batch of tokens; None if there is none."""

    def token_sums(self) -> TokenSums | None:
        """Returns what adds tokens up; None if nothing was compiled."""

    def soft_counts(self, dtype: np.dtype[Any]) -> SoftCountsKernel | None:
        """Returns the counter for the body of a set; None if nothing was compiled."""


@dataclass(frozen=True, slots=True)
class NoKernels:
    """No kernels: NumPy computes everything."""

    reason: str = ""

    @property
    def description(self) -> str:
        """See ``KernelSource.description``."""
        return f"NumPy alone: {self.reason}" if self.reason else "NumPy alone"

    def find(self, batch: Batch) -> None:
        """See ``KernelSource.find``."""

    def tokens(self, batch: Batch) -> None:
        """See ``KernelSource.tokens``."""

    def token_sums(self) -> None:
        """See ``KernelSource.token_sums``."""

    def soft_counts(self, dtype: np.dtype[Any]) -> None:
        """See ``KernelSource.soft_counts``."""


NO_KERNELS = NoKernels()


def host_kernels() -> KernelSource:
    """Returns the kernels that were compiled when lossd was installed, if they can be used."""
    try:
        return HostKernels(Library())
    except NoLibraryError as error:
        return NoKernels(str(error))


class HostKernels:
    """The kernels of a library, found when they are first needed; for any number of threads."""

    def __init__(self, library: Library) -> None:
        self.description = f"kernels compiled for {library.instructions}"
        self._library = library
        self._lock = threading.Lock()
        self._found: dict[tuple[str, int, np.dtype[Any]], HostKernel] = {}
        self._tokens: dict[str, TokenKernel] = {}

    def find(self, batch: Batch) -> HostKernel | None:
        """See ``KernelSource.find``."""
        loss, text = batch.loss, text_of(batch)
        if text is None or COMPUTED.get(loss.name) is not loss:
            return None
        named = HostText(loss, loss.cuda.index(text))
        if named.template is None:
            return None
        if named.template.counts_narrowly and batch.length > _most_columns(batch.dtype):
            return None
        if text.has_class_axis and not _keeps_little(batch):
            return None
        if not _are_defaults(loss, batch.parameters):
            check_rules(batch)
        key = loss.name, named.number, batch.dtype
        with self._lock:
            if key not in self._found:
                self._found[key] = self._library.kernel(named, batch.dtype)
            return self._found[key]

    def tokens(self, batch: Batch) -> TokenKernel | None:
        """See ``KernelSource.tokens``."""
        text = text_of(batch)
        if text is None or COMPUTED.get(batch.loss.name) is not batch.loss:
            return None
        named = HostText(batch.loss, batch.loss.cuda.index(text))
        with self._lock:
            if named.name not in self._tokens:
                self._tokens[named.name] = TokenKernel(*self._library.token_entry(named))
            return self._tokens[named.name]

    def token_sums(self) -> TokenSums:
        """See ``KernelSource.token_sums``."""
        return self._library.token_sums()

    def soft_counts(self, dtype: np.dtype[Any]) -> SoftCountsKernel:
        """See ``KernelSource.soft_counts``."""
        return self._library.soft_counts(dtype)


def _most_columns(dtype: np.dtype[Any]) -> int:
    """Returns how many classes a row may have, as a kernel counts them.

    Its integers are as wide as its numbers, and count to where the next block would begin as well.
    """
    return int(np.iinfo(f"i{dtype.itemsize}").max) // 2


def _keeps_little(batch: Batch) -> bool:
    """Returns whether a kernel of classes takes no more than the loss says that it takes.

    It keeps about two kilobytes of each class, however few positions that has.
    """
    classes, *positions = batch.operands[0].rows.shape[1:]
    return classes <= FEW_CLASSES or math.prod(positions) >= ENOUGH_POSITIONS


def _are_defaults(loss: Loss, parameters: Mapping[str, Any]) -> bool:
    """Returns whether all parameters are: then no rule between them is broken."""
    return all(
        not len(parameters[p.name]) if p.is_vector else parameters[p.name] == p.default
        for p in loss.parameters
    )


def piece_elements(kernel: HostKernel, batch: Batch, threads: int) -> int:
    """Returns how many elements a piece may have: there are a few pieces for each thread.

    0 is for one block, which fits a cache, where arrays of it are made beside the kernel: by the
    body, or for a gradient that the kernel cannot round.
    """
    is_alone = not batch.outputs and all(name in kernel.gradients for name in batch.gradients)
    written = [operand for operand in batch.operands if operand.name in kernel.gradients]
    if not is_alone or not all(kernel.rounds_to(operand.rows.dtype) for operand in written):
        return 0
    elements = batch.rows * batch.length
    wanted = max(elements // (threads * PIECES_A_THREAD), LEAST_ELEMENTS)
    return min(wanted, elements // threads, MOST_ELEMENTS)


def prepared(
    kernel: HostKernel,
    batch: Batch,
    dtypes: Sequence[np.dtype[Any]],
    scale: float,
    elements: int,
) -> PreparedCall | None:
    """Prepares calls for batches like one, which has no rows itself, where the kernel gives all."""
    first = batch.operands[0]
    if batch.outputs or any(name != first.name for name in batch.gradients):
        return None
    wanted = dtypes[0] if batch.gradients else None
    if wanted is not None and not kernel.rounds_to(wanted):
        return None
    inputs = [
        PreparedInput(
            operand.slot.rows_shape,
            dtype,
            None if operand.is_classes else operand.input.domain,
            first.slot.rows_shape[-1] if operand.is_classes else None,
        )
        for operand, dtype in zip(batch.operands, dtypes, strict=True)
    ]
    with np.errstate(over="ignore"):  # a gradient is infinite then, as that of any other batch
        rounded = float(batch.dtype.type(scale))
    return kernel.prepared(
        inputs, batch.parameters, gradient=wanted, scale=rounded, elements=elements
    )


def is_large(batch: Batch, gradients: Sequence[Array | None]) -> bool:
    """Returns whether caches would not keep what a piece of a batch is written to."""
    sizes = [0 if gradient is None else gradient.itemsize for gradient in gradients]
    return batch.rows * batch.length * max(sizes) >= STREAMED_BYTES


def _place(kernel: HostKernel, out: Array | None, dtype: np.dtype[Any]) -> Array | None:
    """Returns where a kernel writes a gradient: to the reply, if it can round to its type."""
    return out if out is None or kernel.rounds_to(out.dtype) else np.empty_like(out, dtype)


def compute(kernel: HostKernel, batch: Batch, beside: Beside, piece: Piece) -> Computed:
    """Runs a kernel over a piece.

    What it gives comes from it whatever else is asked for, so that no bit of it depends on that;
    the texts know some gradients, the body all there is.
    """
    others = [name for name in piece.gradients if name not in kernel.gradients]
    outs = [piece.gradients.get(name) for name in kernel.gradients]
    places = [_place(kernel, out, batch.dtype) for out in outs]
    is_rounded = all(place is out for place, out in zip(places, outs, strict=True))
    is_all = is_rounded and not others and not piece.outputs
    statuses = np.empty(piece.count, np.uint8) if kernel.gives_statuses else None
    answer = kernel(
        [
            KernelInput(
                piece.inputs[operand.name][0], None if operand.is_classes else operand.input.domain
            )
            for operand in batch.operands
        ],
        piece.parameters,
        nonfinite=piece.nonfinite,
        values=piece.values,
        gradient=places[0],
        others=places[1:],
        scale=piece.scale,
        elements=piece.elements,
        excluded=piece.excluded,
        weights=piece.weights,
        block=piece.block,
        streams=is_large(batch, outs),
        statuses=statuses,
    )
    for place, out in zip(places, outs, strict=True):
        if place is not None and out is not None and place is not out:
            round_into(place, out)
    if others or piece.outputs:
        beside(piece, others)
    found = None if is_all else settle(piece)
    if found is not None:
        piece.nonfinite[found] = True
    return Computed(
        piece.values,
        statuses,
        sums=answer.sums,
        is_outside=answer.is_outside,
        is_flagged=found is not None or answer.nonfinite_rows > 0,
    )
