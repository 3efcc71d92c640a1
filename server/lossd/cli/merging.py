"""The result of a large batch from those of its pieces, merged as the contract merges them."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message

from lossd.cli.batches import LargeBatch
from lossd.cli.failures import told
from lossd.cli.rows import Array
from lossd.client.kinds import loss_name, spec_of
from lossd.client.result import LossResult
from lossd.losses import LOSSES, Loss
from lossd.serving.loss_service.norms import euclidean_norm

Compute = Callable[..., LossResult[Any]]

# The number of a result that divides it.
_DIVISORS = {"mean": "weight_sum", "batch_mean": "example_count"}
_COUNTS = ("loss_sum", "weight_sum", "example_count", "ignored_count", "nonfinite_count")


def can_be_cut(message: Message, axes: int) -> bool:
    """Returns whether a batch whose first input has so many axes may be cut along axis 0."""
    spec = spec_of(message)
    loss = LOSSES.get(loss_name(spec))
    if loss is None or not loss.shape.can_be_cut:
        return False
    batch_dims = _number(loss, message, "batch_dims")
    if batch_dims is not None:
        return batch_dims > 0
    class_axis = _number(loss, message, "class_axis")
    return axes > 1 and (class_axis is None or class_axis % axes != 0)


def _number(loss: Loss, message: Message, name: str) -> int | None:
    """Returns a parameter that lays out the inputs; None where there is none."""
    if name not in message.DESCRIPTOR.fields_by_name:
        return None
    if message.HasField(name):
        return int(getattr(message, name))
    defaults = [one.default for one in loss.all_parameters if one.name == name]
    return defaults[0] if defaults else None


@dataclass(frozen=True, slots=True)
class Merged:
    """A result, with the norm of each gradient; those that nobody wants to have are not kept."""

    result: LossResult[Any]
    norms: Mapping[str, float]


@contextmanager
def merged(
    compute: Compute,
    batch: LargeBatch,
    options: Mapping[str, Any],
    *,
    beside: Path | None,
    keeps: Collection[str],
    watched: Callable[[Iterable[Any], int], Any],
) -> Iterator[Merged]:
    """Yields the result of all pieces; its arrays lie in files until then.

    A mean takes a pass of its own over the data, which finds its divisor.

    Args:
        compute: Computes one piece.
        batch: The pieces.
        options: Those of ``compute``.
        beside: The folder of these files; None for that of temporary ones.
        keeps: The kinds of arrays to keep: "gradients", "per_example", "outputs".
        watched: Shows how many pieces were taken, of how many.
    """
    divisor = _DIVISORS.get(options["reduction"])
    passes = 1 if divisor is None else 2
    pieces = (piece for _ in range(passes) for piece in batch.pieces())
    with (
        tempfile.TemporaryDirectory(dir=beside, prefix="lossd-") as folder,
        watched(pieces, passes * batch.piece_count) as steps,
    ):
        normalizer = None
        if divisor is not None:
            plain = {**options, "gradients": (), "per_example": False}
            first = zip(range(batch.piece_count), steps, strict=False)
            parts = (_computed(compute, batch, step, plain, arrays) for step, arrays in first)
            normalizer = sum(float(getattr(part, divisor)) for part in parts) or None
        total = _Merging(Path(folder), frozenset(keeps), batch.count)
        wanted = {**options, "normalizer": normalizer}
        for step, arrays in enumerate(steps):
            total.add(_computed(compute, batch, step, wanted, arrays))
        yield total.merged()


def _computed(
    compute: Compute,
    batch: LargeBatch,
    step: int,
    options: Mapping[str, Any],
    arrays: Mapping[str, Array],
) -> LossResult[Any]:
    """Computes a piece; an error says which row of the file is its first."""
    with told(f" (counted from row {step * batch.rows})" if step else ""):
        return compute(**arrays, **options)


@dataclass(slots=True)
class _Merging:
    """The sum of what was added."""

    folder: Path
    keeps: frozenset[str]
    count: int
    last: LossResult[Any] | None = None
    examples: int = 0
    loss: float = 0.0
    counts: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    statuses: dict[int, str] = field(default_factory=dict)
    norms: dict[str, list[float]] = field(default_factory=dict)
    files: dict[tuple[str, str], "_File"] = field(default_factory=dict)

    def add(self, result: LossResult[Any]) -> None:
        """Adds the result of the next piece."""
        self.last = result
        self.loss += result.loss or 0.0
        self.counts = {name: found + getattr(result, name) for name, found in self.counts.items()}
        self.statuses |= {index + self.examples: one for index, one in result.statuses.items()}
        self.examples += result.per_example.size
        self._keep("per_example", "", result.per_example)
        for name, output in result.outputs.items():
            self._keep("outputs", name, output)
        for name, gradient in result.gradients.items():
            self.norms.setdefault(name, []).append(euclidean_norm([gradient]))
            self._keep("gradients", name, gradient)

    def _keep(self, kind: str, name: str, array: Array) -> None:
        if (kind, name) not in self.files:
            path = self.folder / str(len(self.files)) if kind in self.keeps else None
            self.files[kind, name] = _File(path, (self.count, *array.shape[1:]), array.dtype)
        self.files[kind, name].append(array)

    def merged(self) -> Merged:
        """Returns the result of all that was added."""
        last = self.last
        if last is None:
            raise ValueError("a batch must have a piece, got none")

        def kept(kind: str) -> dict[str, Array]:
            return {name: file.array() for (own, name), file in self.files.items() if own == kind}

        result = replace(
            last,
            loss=None if last.loss is None else self.loss,
            statuses=self.statuses,
            per_example=kept("per_example").get(""),
            outputs=kept("outputs"),
            gradients=kept("gradients"),
            **self.counts,
        )
        norms = {name: euclidean_norm([np.array(parts)]) for name, parts in self.norms.items()}
        return Merged(result, norms)


@dataclass(frozen=True, slots=True)
class _File:
    """An array that grows by rows in a file; without one it is forgotten."""

    path: Path | None
    shape: tuple[int, ...]
    dtype: Any

    def append(self, rows: Array) -> None:
        if self.path is not None:
            with self.path.open("ab") as file:
                file.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)

    def array(self) -> Array:
        """Returns the array; an empty one if it was forgotten."""
        if self.path is None or 0 in self.shape:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return np.memmap(self.path, self.dtype, "r", shape=self.shape)
