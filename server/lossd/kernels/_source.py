"""Makes the source of a kernel from the text of a loss."""

import functools
import importlib.resources
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossd.kernels._launch import (
    SHARED_ARGUMENTS,
    Argument,
    Kind,
    Launch,
    launch_elements,
    launch_rows,
)
from lossd.losses import Loss, Parameter, Shape
from lossd.losses._declare import CudaText

_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_EVALUATE = {
    Shape.POINTWISE: (
        "const T prediction, const T target, const long long column, T& value, T& gradient"
    ),
    Shape.ROWWISE: "const Row& row, const long long columns, const long long label, T& value",
}
_TEMPLATES = {Shape.POINTWISE: "pointwise.cuh", Shape.ROWWISE: "rowwise.cuh"}


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loss's kernel: source for NVRTC, and what it wants to be launched with.

    ``names`` are its entry points.
    """

    source: str
    names: tuple[str, ...]
    signature: tuple[Argument, ...]
    shape: Shape
    dtype: np.dtype[Any]

    def launch(self, rows: int, length: int) -> Launch:
        """The launch for a batch, which must not be empty: a grid of 0 is a grid of 1 to CuPy."""
        if self.shape is Shape.POINTWISE and length == 1:
            return launch_elements(self.names[1], rows, 16 // self.dtype.itemsize)
        return launch_rows(self.names[0], rows, length)


def find_text(
    loss: Loss, parameters: Mapping[str, Any], *, targets_are_classes: bool
) -> CudaText | None:
    """The first text of a loss that applies, or None.

    A number that float32 has not is left to the body, which then computes in float64.
    """
    if loss.is_beyond_float32(parameters):
        return None
    for text in loss.cuda:
        if text.targets_are_classes not in (None, targets_are_classes):
            continue
        if all(parameters[name] == value for name, value in text.when.items()):
            return text
    return None


def kernel_source(loss: Loss, text: CudaText, dtype: np.dtype[Any]) -> Kernel:
    """Fills a text into the template of the loss's shape, for float32 or float64."""
    parameters = [p for p in loss.parameters if p.is_vector or p.type in (float, bool)]
    others = [declared.name for declared in loss.inputs[2:]]
    parts = [
        _prelude(loss, text, parameters, _TYPES[dtype]),
        _prelude_of_others(others),
        _template("common.cuh"),
        _template(_TEMPLATES[loss.shape]),
        f"__device__ inline void evaluate({_EVALUATE[loss.shape]} OTHERS PARAMETERS) {{",
        _located(loss, text),
        "}\n",
    ]
    entry_points = ("rows", "elements") if loss.shape is Shape.POINTWISE else ("rows",)
    return Kernel(
        source="\n".join(parts),
        names=tuple(f"{loss.name}_{entry_point}" for entry_point in entry_points),
        signature=(
            *SHARED_ARGUMENTS,
            *(Argument(name, Kind.ARRAY) for name in others),
            *(_argument(p) for p in parameters),
        ),
        shape=loss.shape,
        dtype=dtype,
    )


def _argument(parameter: Parameter) -> Argument:
    return Argument(parameter.name, Kind.ARRAY if parameter.is_vector else Kind.DOUBLE)


def _prelude(loss: Loss, text: CudaText, parameters: list[Parameter], type_name: str) -> str:
    """Everything that differs between two kernels of one template, but the text."""
    types = (("Weights" if p.is_vector else "double", p.name) for p in parameters)
    declared = "".join(f", const {kind} {name}" for kind, name in types)
    passed = "".join(f", {p.name}" for p in parameters)
    return "\n".join([
        f"typedef {type_name} T;",
        f"typedef {'long long' if text.targets_are_classes else 'T'} TARGET;",
        f"#define TARGETS_ARE_CLASSES {int(bool(text.targets_are_classes))}",
        f"#define ROWS_KERNEL {loss.name}_rows",
        f"#define ELEMENTS_KERNEL {loss.name}_elements",
        f"#define PARAMETERS {declared}",
        f"#define ARGUMENTS {passed}",
    ])  # fmt: skip


def _prelude_of_others(names: list[str]) -> str:
    """The inputs beyond two: a kernel takes the array ``variances``, a text ``variance``."""
    arrays = "".join(f", const T* {name}" for name in names)
    loads = " ".join(f"const Pack pack_of_{n} = load({n} + (place), left);" for n in names)
    elements = "".join(f", pack_of_{name}.items[i]" for name in names)
    numbers = "".join(f", const T {name.removesuffix('s')}" for name in names)
    return "\n".join([
        f"#define OTHER_ARRAYS {arrays}",
        f"#define LOAD_OTHERS(place) {loads}",
        f"#define OTHER_ELEMENTS(i) {elements}",
        f"#define OTHERS {numbers}",
    ])  # fmt: skip


@functools.cache
def _template(name: str) -> str:
    text = importlib.resources.files(__package__ or __name__).joinpath(name).read_text("utf-8")
    return f'#line 1 "lossd/kernels/{name}"\n{text}'


def _located(loss: Loss, text: CudaText) -> str:
    """The text with the place it comes from, so that the compiler's errors point there."""
    path = Path(inspect.getsourcefile(inspect.unwrap(loss.body)) or "")
    before, found, _ = path.read_text("utf-8").partition(text.text) if path.is_file() else ("",) * 3
    line = before.count("\n") + 1 if found else 1
    return f'#line {line} "lossd/losses/{loss.name}.py"\n{text.text}'
