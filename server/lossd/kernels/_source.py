"""Makes the source of a kernel from the text of a loss."""

import enum
import functools
import importlib.resources
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from lossd.kernels._domains import Domain, outside
from lossd.kernels._launch import KEPT, SHARED_ARGUMENTS, SHARED_BYTES, Argument, Kind, Launch
from lossd.kernels._templates import (
    VECTORWISE,
    Size,
    Template,
    template_of,
    vectors_of,
)
from lossd.losses import Content, CudaText, Input, Loss, Parameter

# The types that a kernel computes in, and those that it can read and write besides.
_TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_STORED_TYPES = {
    **_TYPES,
    np.dtype(np.float16): "__half",
    np.dtype(ml_dtypes.bfloat16): "__nv_bfloat16",
}
_HEADERS = {
    "__half": "#include <cuda_fp16.h>\n#define HAS_HALF",
    "__nv_bfloat16": "#include <cuda_bf16.h>\n#define HAS_BFLOAT16",
}
# The flags of a row that a kernel sets: a number that is not finite, one outside its domain.
NONFINITE, OUTSIDE = 1, 2
# Inputs of whole numbers, which kernels read as they are.
_INDICES = (Content.INDICES, Content.LENGTHS)
# How functions that both devices compile are declared in CUDA.
_SHARED = """\
#define SHARED __device__ inline
#define SHARED_METHOD __device__
#define SHARED_STEP_METHOD __device__
#define SHARED_STEP __device__ inline
#define INLINED
#define ONE_BY_ONE _Pragma("unroll 1")"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loss's kernel: source for NVRTC, and how it is launched.

    ``names`` are its entry points and ``dtype`` is what it computes in.  ``stored`` has the types
    of its inputs by name, of which the first is that of the gradient too.
    """

    source: str
    names: tuple[str, ...]
    signature: tuple[Argument, ...]
    template: Template
    dtype: np.dtype[Any]
    stored: Mapping[str, np.dtype[Any]]

    def launch(
        self,
        rows: int,
        length: int,
        most_bytes: int = SHARED_BYTES,
        *,
        parts: int = 1,
        labels: int = 0,
    ) -> Launch:
        """Returns the launch for a batch that is not empty: CuPy takes a grid of 0 for one of 1.

        See ``Size`` for the arguments.
        """
        stored = tuple(dtype.itemsize for dtype in self.stored.values())
        return self.template.launch(
            self.names, Size(rows, length, parts, labels, stored, most_bytes)
        )


def find_text(
    loss: Loss, parameters: Mapping[str, Any], *, targets_are_classes: bool
) -> CudaText | None:
    """Returns the first text of a loss that applies, or None.

    A parameter that float32 cannot hold is left to the body, which then computes in float64.
    """
    if loss.is_beyond_float32(parameters):
        return None
    for text in loss.cuda:
        if text.has_class_axis and parameters["class_axis"] is None:
            continue
        if text.targets_are_classes not in (None, targets_are_classes):
            continue
        if all(parameters[name] == value for name, value in text.when.items()):
            return text
    return None


def has_plain_logits(text: CudaText, parameters: Mapping[str, Any]) -> bool:
    """Returns whether logits are used as they are, by a text that can also change them."""
    if "with_logits" not in text.text:
        return False
    return bool(parameters["temperature"] == 1 and not len(parameters["class_priors"]))


def is_stored(dtype: np.dtype[Any]) -> bool:
    """Returns whether kernels read numbers of a type without conversion."""
    return dtype in _STORED_TYPES


def checks_domains(loss: Loss) -> bool:
    """Returns whether the kernels of a loss can flag rows with a number outside its domain."""
    template = template_of(loss)
    return template is not None and template.checks_domains


def kernel_source(
    loss: Loss,
    text: CudaText,
    dtype: np.dtype[Any],
    stored: Mapping[str, np.dtype[Any]] | None = None,
    domains: Mapping[str, Domain] | None = None,
    *,
    has_plain_logits: bool = False,
) -> Kernel:
    """Fills a text into the template of the loss's shape, to compute in float32 or float64.

    ``stored`` has the types of the inputs that have another one, by name.  ``domains`` are those
    that are to be checked; a row with a number outside has ``OUTSIDE`` among its flags.
    ``has_plain_logits`` promises what a function of that name returns.
    """
    template = template_of(loss, text)
    if template is None:
        raise ValueError(f"{loss.name} must have a shape that there is a template for")
    parameters = known_parameters(loss, template)
    inputs = known_inputs(loss, template)
    types = {
        declared.name: (stored or {}).get(declared.name, dtype)
        for declared in inputs
        if not holds_indices(loss, text, declared)
    }
    others = [declared.name for declared in inputs[2:]]
    other_types = {
        argument_of(name): _STORED_TYPES[types[name]] if name in types else "long long"
        for name in others
    }
    parts = [
        _prelude_of_types(loss, text, dtype, types),
        f"#define HAS_PLAIN_LOGITS {int(has_plain_logits)}",
        _prelude(loss, template, parameters),
        _prelude_of_others(other_types),
        _prelude_of_domains(inputs, dtype, domains or {}),
        *((_prelude_of_vectors(loss, other_types),) if template is VECTORWISE else ()),
        read_template("common.cuh"),
        *((read_template("kept.cuh"),) if KEPT in template.arguments else ()),
        *((_SHARED, *map(read_template, template.shared)) if template.shared else ()),
        read_template(f"{template.name}.cuh"),
        f"__device__ inline void evaluate({template.evaluate} PARAMETERS) {{",
        _located(loss, text),
        "}\n",
    ]
    return Kernel(
        source="\n".join(parts),
        names=tuple(f"{loss.name}_{entry_point}" for entry_point in template.entry_points),
        signature=(
            *SHARED_ARGUMENTS,
            *template.arguments,
            *(Argument(argument_of(name), Kind.ARRAY) for name in others),
            *(_argument(p) for p in parameters),
        ),
        template=template,
        dtype=dtype,
        stored=types,
    )


def known_inputs(loss: Loss, template: Template) -> tuple[Input, ...]:
    """Returns the inputs that a text knows."""
    return tuple(i for i in loss.inputs if i.content not in template.unknown)


def known_parameters(loss: Loss, template: Template) -> list[Parameter]:
    """Returns the parameters that a text knows."""
    return [
        p
        for p in loss.parameters
        if p.is_vector
        or p.type in (float, bool, int)
        or (template.knows_choices and not p.is_list and p.choices)
    ]


def number_of(value: Any) -> float:
    """Returns a parameter as a kernel is given it: unset is NaN, true 1, a choice its number."""
    if isinstance(value, enum.Enum):
        return float(list(type(value)).index(value))
    return np.nan if value is None else float(value)


def holds_indices(loss: Loss, text: CudaText, declared: Input) -> bool:
    """Returns whether an input is of whole numbers, where a text applies."""
    is_target = declared in loss.inputs[1:2]
    return declared.content in _INDICES or (is_target and bool(text.targets_are_classes))


def argument_of(name: str) -> str:
    """Returns what a kernel calls an input after the second: "targets" is its second."""
    return f"other_{name}" if any(name == a.name for a in SHARED_ARGUMENTS) else name


def _argument(parameter: Parameter) -> Argument:
    return Argument(parameter.name, Kind.ARRAY if parameter.is_vector else Kind.DOUBLE)


def _is_short(text: CudaText) -> bool:
    """Returns whether all of the text of a row may be repeated for each element of a pack."""
    return "surplus" not in text.text


def _prelude_of_types(
    loss: Loss, text: CudaText, dtype: np.dtype[Any], stored: Mapping[str, np.dtype[Any]]
) -> str:
    """Returns the types to compute in and to read, and the headers that they need."""
    names = [_STORED_TYPES[of_input] for of_input in stored.values()]
    # Unused where it is class indices, or where there is none.
    second = next((stored.get(declared.name, dtype) for declared in loss.inputs[1:2]), dtype)
    return "\n".join([
        *(_HEADERS[name] for name in dict.fromkeys(names) if name in _HEADERS),
        f"typedef {_TYPES[dtype]} T;",
        f"typedef {names[0]} FIRST;",
        f"typedef {_STORED_TYPES[second]} SECOND;",
        f"typedef {'long long' if text.targets_are_classes else 'SECOND'} TARGET;",
        f"#define INPUTS {len(loss.inputs)}",
        f"#define TARGETS_ARE_CLASSES {int(bool(text.targets_are_classes))}",
        f"#define IS_SHORT bool({int(_is_short(text))})",
    ])  # fmt: skip


def _prelude(loss: Loss, template: Template, parameters: list[Parameter]) -> str:
    """Returns the names and the parameters of a loss's kernel."""
    types = (("Weights" if p.is_vector else "double", p.name) for p in parameters)
    declared = "".join(f", const {kind} {name}" for kind, name in types)
    passed = "".join(f", {p.name}" for p in parameters)
    return "\n".join([
        *(f"#define {entry.upper()}_KERNEL {loss.name}_{entry}" for entry in template.entry_points),
        f"#define PARAMETERS {declared}",
        f"#define ARGUMENTS {passed}",
    ])  # fmt: skip


def _prelude_of_others(types: Mapping[str, str]) -> str:
    """Returns the inputs after the second: the kernel has ``variances``, the text ``variance``."""
    arrays = "".join(f", const {type_name}* {name}" for name, type_name in types.items())
    loads = " ".join(f"const Pack pack_of_{n} = load({n} + (place), left);" for n in types)
    elements = "".join(f", pack_of_{name}.items[i]" for name in types)
    numbers = "".join(f", const T {name.removesuffix('s')}" for name in types)
    fields = " ".join(f"const {type_name}* {name};" for name, type_name in types.items())
    names = "".join(f", {name}" for name in types)
    return "\n".join([
        f"#define OTHER_ARRAYS {arrays}",
        f"#define LOAD_OTHERS(place) {loads}",
        f"#define OTHER_ELEMENTS(i) {elements}",
        f"#define OTHERS {numbers}",
        f"#define OTHER_FIELDS {fields}",
        f"#define OTHER_NAMES {names}",
    ])  # fmt: skip


def _prelude_of_domains(
    inputs: Sequence[Input], dtype: np.dtype[Any], domains: Mapping[str, Domain]
) -> str:
    """Returns whether a row is looked at, and for what."""
    tests = {declared.name: outside(domains.get(declared.name), dtype) for declared in inputs}
    first, second, *others = [*tests.values(), "false"][: max(2, len(tests))]
    named = list(zip(list(tests)[2:], others, strict=True))
    of_others = " || ".join(f"{name}_is_outside(pack_of_{name}.items[i])" for name, _ in named)
    functions = [("first", first), ("second", second), *named]
    return "\n".join([
        f"#define CHECKS {int(any(domain is not None for domain in domains.values()))}",
        *(f"__device__ inline bool {name}_is_outside(T x);" for name, _ in functions),
        f"#define OTHERS_ARE_OUTSIDE(i) ({of_others or 'false'})",
        "#define DOMAINS "
        + " ".join(f"__device__ inline bool {name}_is_outside(T x) {{ return {test}; }}"
                   for name, test in functions),
    ])  # fmt: skip


def _prelude_of_vectors(loss: Loss, others: Mapping[str, str]) -> str:
    """Returns how many vectors an example has, and what there is beside two of them."""
    third, type_name = next(iter(others.items()), ("nullptr", "T"))
    names = [declared.name for declared in loss.inputs[2:3]]
    outside_third = next((f"{name}_is_outside(x)" for name in names), "false")
    return "\n".join([
        f"#define VECTORS {len(vectors_of(loss))}",
        f"#define THIRD_ARRAY {third}",
        f"#define THIRD_IS_OUTSIDE(x) {outside_third}",
        f"typedef {type_name} THIRD;",
    ])  # fmt: skip


@functools.cache
def read_template(name: str) -> str:
    """Returns a file of this package, with its name for the compiler."""
    text = importlib.resources.files(__package__ or __name__).joinpath(name).read_text("utf-8")
    return f'#line 1 "lossd/kernels/{name}"\n{text}'


def _located(loss: Loss, text: CudaText) -> str:
    """Returns the text with its file and line, so that the compiler's errors point there."""
    path = Path(inspect.getsourcefile(inspect.unwrap(loss.body)) or "")
    before, found, _ = path.read_text("utf-8").partition(text.text) if path.is_file() else ("",) * 3
    line = before.count("\n") + 1 if found else 1
    return f'#line {line} "lossd/losses/{loss.name}.py"\n{text.text}'
