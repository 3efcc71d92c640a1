"""Batches of regions of classes for the kernel texts of their losses, and what the body says."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import nonfinite_rows
from lossd.kernels import OUTSIDE, kernel_source, number_of, typed_arguments
from lossd.kernels.host import HostText, KernelInput, KernelSummary, Library
from lossd.losses import LOSSES, DistributionKind, Loss
from lossd.losses._declare import CudaText
from lossd.losses._maths.overlap import EmptyTarget
from lossd.schema import UNIT
from tests.kernels.cases import FLOAT32, FLOAT64, Execute

Array = npt.NDArray[Any]

TEXTS = [(loss, text) for loss in LOSSES.values() for text in loss.cuda if text.has_class_axis]
ROWS = 7
EXCLUDED, NAN_ROW, INFINITE, IMPOSSIBLE, CONFIDENT, FAINT = range(1, 7)
# Classes and positions: one of each; more than are added up together; less and more than a block.
SIZES = ((1, 1), (1, 40), (3, 1), (2, 33), (21, 600), (150, 70))


@dataclass(frozen=True)
class Found:
    """The results of a kernel or a body."""

    values: Array
    gradient: Array
    flags: Array

    def bits(self, row: int) -> bytes:
        """Returns those of a row; all NaN are one."""
        return b"".join(
            np.where(np.isnan(n), n.dtype.type(np.nan), n).tobytes()
            for n in (self.values[row], self.gradient[row])
        )


@dataclass(frozen=True)
class Classes:
    """Rows of every difficulty: silent, not finite, impossible, nearly certain, and faint."""

    loss: Loss
    text: CudaText
    predictions: Array
    targets: Array
    excluded: Array
    scales: Array
    parameters: Mapping[str, Any]
    domains: Mapping[str, Any] = field(default_factory=dict)
    is_differentiated: bool = True

    @property
    def dtype(self) -> np.dtype[Any]:
        """Returns what is computed in."""
        return FLOAT64 if self.predictions.dtype == FLOAT64 else FLOAT32

    def row(self, row: int) -> "Classes":
        """Returns one row, in memory of its own."""
        own = slice(row, row + 1)
        return replace(
            self, predictions=self.predictions[own].copy(), targets=self.targets[own].copy(),
            excluded=self.excluded[own].copy(), scales=self.scales[own].copy(),
        )  # fmt: skip

    def turned(self) -> "Classes":
        """Returns the same with the classes of a position side by side."""
        return replace(
            self,
            predictions=_turned(self.predictions),
            targets=_turned(self.targets) if self.targets.ndim > 2 else self.targets,
        )

    def expected(self) -> Found:
        """Returns what the body says in double."""
        given = (self.predictions, self.targets)
        inputs = [x if x.dtype == np.int64 else x.astype(FLOAT64) for x in given]
        found = self.loss.body(np, *inputs, **self.parameters)
        gradient = found.gradient("predictions") * self.scales[:, None, None]
        values, gradient = found.value.astype(self.dtype), gradient.astype(self.predictions.dtype)
        values[self.excluded], gradient[self.excluded] = 0, 0
        return Found(values, gradient, ~np.isfinite(values) | nonfinite_rows(gradient))

    def _places(self) -> Found:
        rows = len(self.scales)
        gradient = np.full_like(self.predictions, np.nan)
        return Found(np.full(rows, np.nan, self.dtype), gradient, np.zeros(rows, np.uint8))

    def on_device(self, execute: Execute) -> Found:
        """Executes the CUDA kernel."""
        given = {"predictions": self.predictions, "targets": self.targets}
        stored = {name: array.dtype for name, array in given.items() if array.dtype != np.int64}
        kernel = kernel_source(self.loss, self.text, self.dtype, stored, self.domains)
        found = self._places()
        rows, classes, positions = self.predictions.shape
        launch = kernel.launch(rows, classes * positions, parts=classes)
        arguments = {
            "rows": rows, "columns": classes * positions, "parts": classes, **given,
            "scales": self.scales, "scale": 1.0, "silent": self.excluded.astype(np.uint8),
            "values": found.values, "nonfinite": found.flags,
            "gradient": found.gradient if self.is_differentiated else None,
            "workspace": np.full(launch.workspace_bytes // 8, np.nan), "segment": launch.segment,
            **{name: number_of(value) for name, value in self.parameters.items()},
        }  # fmt: skip
        typed = typed_arguments(kernel.signature, arguments, self.dtype)
        for step in launch.steps:
            execute(kernel, step, typed)
        return found

    def on_host(self, library: Library, **options: Any) -> Found:
        """Runs the kernel that was compiled for the CPU."""
        return self.answered(library, **options)[0]

    def answered(self, library: Library, **options: Any) -> tuple[Found, KernelSummary]:
        """Returns what it answers besides."""
        kernel = library.kernel(HostText(self.loss, self.loss.cuda.index(self.text)), self.dtype)
        found = self._places()
        answer = kernel(
            [KernelInput(self.predictions, self.domains.get("predictions")),
             KernelInput(self.targets, self.domains.get("targets"))],
            self.parameters, nonfinite=found.flags.view(np.bool_), values=found.values,
            gradient=found.gradient, scale=self.scales, excluded=self.excluded, **options,
        )  # fmt: skip
        if answer.is_outside:
            found.flags[:] |= OUTSIDE
        return found, answer


def _turned(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(0, 2, 1)).transpose(0, 2, 1)


def draw(
    loss: Loss, text: CudaText, size: tuple[int, int], dtype: np.dtype[Any], **parameters: Any
) -> Classes:
    """Draws a batch; parameters are the defaults, those of the text, and the ones given."""
    classes, positions = size
    rng = np.random.default_rng(size)
    logits = rng.normal(0, 3, (ROWS, classes, positions))
    every = {p.name: p.default for p in loss.parameters} | parameters | dict(text.when)
    labels = rng.integers(0, classes, (ROWS, positions))
    labels[FAINT] = 0
    logits[FAINT, 1:] -= 200
    logits[CONFIDENT, 0] += 60
    logits[INFINITE, classes // 2, positions // 2] = np.inf
    logits[IMPOSSIBLE, :, 0] = -np.inf
    predictions = _as_kind(logits, every["prediction_kind"])
    predictions[[EXCLUDED, NAN_ROW], classes // 2, positions // 2] = np.nan
    targets: Array = labels
    if not text.targets_are_classes:
        targets = (rng.random(predictions.shape) * (labels[:, None] != 0)).astype(dtype)
    return Classes(
        loss, text, predictions.astype(dtype), targets, np.arange(ROWS) == EXCLUDED,
        rng.uniform(-2, 2, ROWS).astype(FLOAT64 if dtype == FLOAT64 else FLOAT32), every,
    )  # fmt: skip


def _as_kind(logits: Array, kind: DistributionKind) -> Array:
    """Returns the shares that logits stand for, as numbers of a kind; none is infinite."""
    if kind is DistributionKind.LOGITS:
        return logits
    finite = np.nan_to_num(logits, posinf=9, neginf=-9)
    shares: Array = np.exp(finite - finite.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares if kind is DistributionKind.PROBABILITIES else np.log(shares)


# Beside the defaults; those that a loss has not are left out.
PARAMETERS: tuple[dict[str, Any], ...] = (
    {},
    {"smooth": 0.0, "alpha": 0.25, "beta": 0.75, "gamma": 1.5},
    {"prediction_kind": DistributionKind.PROBABILITIES, "smooth": 0.0},
    {"prediction_kind": DistributionKind.LOG_PROBABILITIES, "empty_target": EmptyTarget.SKIP},
    {"empty_target": EmptyTarget.SKIP},
)


def own(loss: Loss, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters that a loss has."""
    known = {p.name for p in loss.parameters}
    return {name: value for name, value in parameters.items() if name in known}


def with_domains(batch: Classes) -> Classes:
    """Returns the same with probabilities and true shares looked at."""
    return replace(batch, domains={"predictions": UNIT, "targets": UNIT})
