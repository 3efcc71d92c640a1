"""Batches of sequences for the kernel texts of their losses, and what the NumPy body says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.kernels import Kernel, kernel_source, typed_arguments
from lossd.kernels.host import HostText, KernelInput, Library
from lossd.losses import LOSSES, DistributionKind, Loss, Shape
from lossd.losses._declare import CudaText
from tests.kernels.cases import FLOAT32, FLOAT64, Execute

Array = npt.NDArray[Any]

TEXTS = [
    (loss, text) for loss in LOSSES.values() if loss.shape is Shape.SEQUENCE for text in loss.cuda
]
ROWS, CLASSES, BLANK, SCALE = 7, 5, 2, -1.5
EXCLUDED, NAN_ROW, EMPTY, HOPELESS, CERTAIN, FAINT = range(1, 7)
# Frames and labels, at most: one warp and several, less and more than two rescalings.
SIZES = ((1, 1), (7, 3), (40, 0), (33, 12), (50, 40))
GUARD = 1234.5


@dataclass(frozen=True)
class Found:
    """The results of a kernel or a body."""

    values: Array
    gradient: Array
    statuses: Array

    def bits(self, row: int, frames: int) -> bytes:
        """Returns those of a row, of the frames that it has in any batch."""
        gradient = np.where(np.isnan(self.gradient), np.nan, self.gradient)[row, :frames]
        value = np.where(np.isnan(self.values[row]), np.nan, self.values[row])
        parts = value, gradient, self.statuses[row]
        return b"".join(np.asarray(part).tobytes() for part in parts)


@dataclass(frozen=True)
class Sequences:
    """Rows of every difficulty: silent, not a number, empty, too short, nearly certain, faint."""

    loss: Loss
    text: CudaText
    inputs: Mapping[str, Array]
    excluded: Array

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the text; a row without alignment is infinite, which has to be flagged."""
        return {**self.text.when, "blank": BLANK, "zero_infinity": False}

    def row(self, row: int, *, frames: int, labels: int) -> "Sequences":
        """Returns one row, with no more frames and labels than are asked for."""
        cuts = (slice(frames), slice(labels), slice(None), slice(None))
        found = {
            name: array[row : row + 1, cut].copy() if array.ndim > 1 else array[row : row + 1]
            for (name, array), cut in zip(self.inputs.items(), cuts, strict=True)
        }
        return Sequences(self.loss, self.text, found, self.excluded[row : row + 1])

    def expected(self) -> Found:
        """Returns what the body says."""
        first, *others = self.inputs.values()
        wide = first if first.dtype == FLOAT64 else first.astype(FLOAT32)
        found = self.loss.body(np, wide, *others, **self.parameters)
        values, gradient = found.value.copy(), found.gradient(self.loss.inputs[0].name) * SCALE
        statuses = found.statuses
        assert statuses is not None
        values[self.excluded], gradient[self.excluded], statuses[self.excluded] = 0, 0, 0
        return Found(values, gradient.astype(first.dtype), statuses)

    def kernel(self, dtype: np.dtype[Any]) -> Kernel:
        """Returns the CUDA kernel that computes in a type."""
        first = self.loss.inputs[0].name
        return kernel_source(self.loss, self.text, dtype, {first: self.inputs[first].dtype})

    def on_device(self, execute: Execute) -> Found:
        """Executes the CUDA kernel; it must leave alone what lies behind its workspace."""
        first, second, *others = self.inputs
        given, labels = self.inputs[first], self.inputs[second]
        rows, frames, classes = given.shape
        dtype = given.dtype if given.dtype in (FLOAT32, FLOAT64) else FLOAT32
        kernel = self.kernel(dtype)
        launch = kernel.launch(rows, frames * classes, parts=frames, labels=labels.shape[1])
        room = np.full(launch.workspace_bytes // 8 + 1, GUARD)
        found = Found(
            np.empty(rows, dtype), np.full_like(given, np.nan), np.full(rows, 9, np.uint8)
        )
        nonfinite = np.full(rows, 7, np.uint8)
        arguments = {
            "rows": rows, "columns": frames * classes, "parts": frames, "labels": labels.shape[1],
            "predictions": given, "targets": labels, **{name: self.inputs[name] for name in others},
            "scales": None, "scale": SCALE, "silent": self.excluded.astype(np.uint8),
            "values": found.values, "gradient": found.gradient, "nonfinite": nonfinite,
            "statuses": found.statuses, "workspace": room,
            **{p.name: self.parameters[p.name] for p in self.loss.parameters
               if p.name in {a.name for a in kernel.signature}},
        }  # fmt: skip
        execute(kernel, launch, typed_arguments(kernel.signature, arguments, dtype))
        assert room[-1] == GUARD
        _check_flags(found, nonfinite)
        return found

    def on_host(self, library: Library) -> Found:
        """Runs the kernel that was compiled for the CPU."""
        given = self.inputs[self.loss.inputs[0].name]
        dtype = given.dtype if given.dtype in (FLOAT32, FLOAT64) else FLOAT32
        kernel = library.kernel(HostText(self.loss, self.loss.cuda.index(self.text)), dtype)
        rows = len(given)
        found = Found(
            np.empty(rows, dtype), np.full_like(given, np.nan), np.full(rows, 9, np.uint8)
        )
        nonfinite = np.zeros(rows, np.bool_)
        kernel(
            [KernelInput(array) for array in self.inputs.values()], self.parameters,
            nonfinite=nonfinite,
            values=found.values, gradient=found.gradient, scale=SCALE, excluded=self.excluded,
            statuses=found.statuses,
        )  # fmt: skip
        _check_flags(found, nonfinite)
        return found


def _check_flags(found: Found, nonfinite: Array) -> None:
    wrong = ~(np.isfinite(found.values) & np.isfinite(found.gradient).all(axis=(1, 2)))
    np.testing.assert_array_equal(nonfinite, wrong)


def draw(loss: Loss, text: CudaText, frames: int, labels: int, dtype: np.dtype[Any]) -> Sequences:
    """Draws a batch; labels beyond the length of a row are 0, as kernels are given them."""
    rng = np.random.default_rng(frames + labels)
    scores = rng.normal(0, 1.5, (ROWS, frames, CLASSES))
    lengths = rng.integers(frames // 2, frames + 1, ROWS)
    counts = np.minimum(rng.integers(0, labels + 1, ROWS), lengths // 2)
    classes = rng.integers(0, CLASSES - 1, (ROWS, labels))
    classes += classes >= BLANK
    lengths[EMPTY], counts[EMPTY] = 0, 0
    counts[HOPELESS] = labels
    lengths[HOPELESS] = min(frames, max(labels - 1, 0))
    lengths[CERTAIN], counts[CERTAIN] = frames, 0
    scores[CERTAIN, :, BLANK] += 60
    lengths[FAINT] = frames
    scores[FAINT] *= 400
    classes[np.arange(labels) >= counts[:, None]] = 0
    scores[EXCLUDED] = np.nan
    kind = text.when["prediction_kind"]
    if kind is not DistributionKind.LOGITS:
        scores -= scores.max(axis=-1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        scores = np.minimum(scores, 0)
        if kind is DistributionKind.PROBABILITIES:
            scores = np.exp(scores)
    scores[NAN_ROW, frames // 4, BLANK] = np.nan
    lengths[NAN_ROW] = frames
    inputs = (scores.astype(dtype), classes, lengths, counts)
    names = (declared.name for declared in loss.inputs)
    excluded = np.arange(ROWS) == EXCLUDED
    return Sequences(loss, text, dict(zip(names, inputs, strict=True)), excluded)
