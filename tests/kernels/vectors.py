"""Batches of vectors for the kernel texts of their losses, and what the NumPy body says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.kernels import argument_of, gradients_of, kernel_source, typed_arguments
from lossd.kernels.host import HostText, KernelInput, KernelSummary, Library
from lossd.losses import LOSSES, Choices, Loss
from lossd.losses._declare import CudaText
from tests.kernels.cases import FLOAT32, FLOAT64, Execute

Array = npt.NDArray[Any]

TEXTS = [
    (loss, text)
    for loss in LOSSES.values()
    for text in loss.cuda
    if loss.shape.name == "VECTORS" or len(loss.inputs) == 1
]
ROWS = 10
EXCLUDED, NAN_ROW, INFINITE, EQUAL, NOTHING, NEAR, LARGE, TINY = range(1, 9)
# Less and more than a group of lanes, a block, and several.
LENGTHS = (1, 15, 16, 250, 512, 513, 1100)


@dataclass(frozen=True)
class Found:
    """The results of a kernel or a body."""

    values: Array
    gradients: Mapping[str, Array]
    statuses: Array
    nonfinite: Array

    def bits(self, row: int) -> bytes:
        """Returns those of a row; all NaN are one."""
        numbers = [self.values[row], *(gradient[row] for gradient in self.gradients.values())]
        settled = [np.where(np.isnan(n), n.dtype.type(np.nan), n) for n in numbers]
        return b"".join(part.tobytes() for part in (*settled, self.statuses[row]))


@dataclass(frozen=True)
class Vectors:
    """Rows of every difficulty: silent, not finite, equal, of zeros, nearly alike, large, tiny."""

    loss: Loss
    text: CudaText
    inputs: Mapping[str, Array]
    excluded: Array
    scales: Array
    parameters: Mapping[str, Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Returns what is computed in."""
        return FLOAT64 if next(iter(self.inputs.values())).dtype == FLOAT64 else FLOAT32

    def row(self, row: int) -> "Vectors":
        """Returns one row, in memory of its own."""
        own = slice(row, row + 1)
        inputs = {name: array[own].copy() for name, array in self.inputs.items()}
        return replace(
            self, inputs=inputs, excluded=self.excluded[own], scales=self.scales[own].copy()
        )

    def shifted(self) -> "Vectors":
        """Returns the same at addresses that are unfit for vectors."""

        def moved(array: Array) -> Array:
            place = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
            place[...] = array
            return place

        return replace(self, inputs={name: moved(array) for name, array in self.inputs.items()})

    def expected(self) -> Found:
        """Returns what the body says."""
        given = [array.astype(self.dtype) for array in self.inputs.values()]
        found = self.loss.body(np, *given, **self.parameters)
        gradients = {
            name: (found.gradient(name) * self.scales[:, None]).astype(self.inputs[name].dtype)
            for name in gradients_of(self.loss)
        }
        values, statuses = found.value.copy(), found.statuses
        statuses = np.zeros(len(values), np.uint8) if statuses is None else statuses
        for array in (values, statuses, *gradients.values()):
            array[self.excluded] = 0
        return Found(values, gradients, statuses, _nonfinite(values, gradients))

    def _places(self) -> Found:
        rows = len(self.scales)
        gradients = {
            name: np.full_like(self.inputs[name], np.nan) for name in gradients_of(self.loss)
        }
        values = np.full(rows, np.nan, self.dtype)
        return Found(values, gradients, np.full(rows, 9, np.uint8), np.zeros(rows, np.bool_))

    def on_device(self, execute: Execute) -> Found:
        """Executes the CUDA kernel."""
        stored = {name: array.dtype for name, array in self.inputs.items()}
        domains = {declared.name: declared.domain for declared in self.loss.inputs}
        kernel = kernel_source(self.loss, self.text, self.dtype, stored, domains)
        found = self._places()
        names = list(self.inputs)
        rows, columns = self.inputs[names[0]].shape
        gradients = [*found.gradients.values(), None, None]
        arguments = {
            "rows": rows, "columns": columns,
            "predictions": self.inputs[names[0]],
            "targets": self.inputs[names[1]] if names[1:] else None,
            **{argument_of(name): self.inputs[name] for name in names[2:]},
            "scales": self.scales, "scale": 1.0, "silent": self.excluded.astype(np.uint8),
            "values": found.values, "gradient": gradients[0], "second_gradient": gradients[1],
            "third_gradient": gradients[2], "nonfinite": found.nonfinite,
            "statuses": found.statuses,
            **{n: v for n, v in self.parameters.items() if n in {a.name for a in kernel.signature}},
        }  # fmt: skip
        launch = kernel.launch(rows, columns)
        execute(kernel, launch, typed_arguments(kernel.signature, arguments, self.dtype))
        return found

    def on_host(self, library: Library, **options: Any) -> Found:
        """Runs the kernel that was compiled for the CPU."""
        return self.answered(library, **options)[0]

    def answered(self, library: Library, **options: Any) -> tuple[Found, KernelSummary]:
        """Returns what it answers besides."""
        kernel = library.kernel(HostText(self.loss, self.loss.cuda.index(self.text)), self.dtype)
        found = self._places()
        first, *others = (found.gradients[name] for name in kernel.gradients)
        answer = kernel(
            [KernelInput(self.inputs[i.name], i.domain) for i in self.loss.inputs],
            self.parameters, nonfinite=found.nonfinite, values=found.values, gradient=first,
            others=others, scale=self.scales, excluded=self.excluded, statuses=found.statuses,
            **options,
        )  # fmt: skip
        return found, answer


def _nonfinite(values: Array, gradients: Mapping[str, Array]) -> Array:
    wrong = ~np.isfinite(values)
    for gradient in gradients.values():
        wrong |= ~np.isfinite(gradient.astype(np.float64)).all(axis=-1)
    return wrong


def draw(
    loss: Loss, text: CudaText, length: int, dtype: np.dtype[Any], **parameters: Any
) -> Vectors:
    """Draws a batch; parameters are the defaults, those of the text, and the ones given."""
    rng = np.random.default_rng(length)
    inputs = {}
    for declared in loss.inputs:
        if isinstance(declared.domain, Choices):
            inputs[declared.name] = rng.choice(np.array(declared.domain.numbers, dtype), ROWS)
        else:
            inputs[declared.name] = rng.normal(0, 1, (ROWS, length)).astype(dtype)
    vectors = [array for array in inputs.values() if array.ndim > 1]
    limits = np.finfo(FLOAT32 if dtype.kind != "f" else dtype)  # bfloat16 reaches as far
    largest, smallest = float(limits.max), float(limits.tiny)
    for array in vectors:
        array[[EXCLUDED, NAN_ROW], length // 2] = np.nan
        array[INFINITE, 0] = np.inf
        array[EQUAL] = vectors[0][EQUAL]
        array[NEAR] = vectors[0][NEAR] * (1 + array[NEAR] * dtype.type(0.001))
        array[LARGE] *= dtype.type(largest / 8)
        array[TINY] *= dtype.type(smallest)
    vectors[0][NOTHING] = 0
    every = {p.name: p.default for p in loss.parameters} | dict(text.when) | parameters
    return Vectors(
        loss, text, inputs, np.arange(ROWS) == EXCLUDED,
        rng.uniform(-2, 2, ROWS).astype(FLOAT64 if dtype == FLOAT64 else FLOAT32), every,
    )  # fmt: skip
