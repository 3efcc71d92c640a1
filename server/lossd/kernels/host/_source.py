"""Makes the C++ of all kernels for the host from the texts of the losses."""

import functools
import hashlib
import importlib.resources
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.kernels._launch import Argument, Kind
from lossd.kernels._source import kernel_source, read_template
from lossd.kernels._templates import (
    Template,
    gradients_of,
    template_of,
    vectors_of,
)
from lossd.losses import COMPUTED, CudaText, Loss

TYPES: Mapping[str, np.dtype[Any]] = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}
# How functions that both devices compile are declared here.
_SHARED = """\
#define SHARED INLINE
#define SHARED_METHOD METHOD
#define SHARED_STEP_METHOD __attribute__((noinline))
#define SHARED_STEP OUTLINE
#define ONE_BY_ONE"""


@dataclass(frozen=True, slots=True)
class HostText:
    """A text of a loss, and what its kernel on the host is called."""

    loss: Loss
    number: int

    @property
    def text(self) -> CudaText:
        """The text."""
        return self.loss.cuda[self.number]

    @property
    def template(self) -> Template | None:
        """The template for losses of its shape, if there is one."""
        return template_of(self.loss, self.text)

    @property
    def gradients(self) -> tuple[str, ...]:
        """The inputs with respect to which it writes gradients."""
        return gradients_of(self.loss)

    @property
    def name(self) -> str:
        """The name of its kernels, apart from the type that they compute in."""
        return f"{self.loss.name}_{self.number}"


def host_texts() -> Iterator[HostText]:
    """Yields every text of the catalogue that there is a template for."""
    for loss in COMPUTED.values():
        for number in range(len(loss.cuda)):
            if (text := HostText(loss, number)).template:
                yield text


def library_source(type_name: str) -> str:
    """Returns all kernels that compute in ``float`` or ``double``."""
    parts = [_ground(type_name)]
    parts += [template(name) for name in ("maths.hpp", "numbers.hpp", "call.hpp")]
    parts += ("namespace counts {", template("counts.hpp"), "}  // namespace")
    parts += (_entry(name, type_name, f"counts::{name}") for name in ("count", "slope"))
    for one in dict.fromkeys(map(_template, host_texts())):
        if type_name not in one.types:
            continue
        kernels = [_kernel(t, type_name) for t in host_texts() if t.template is one]
        # The names of one template are none of the other's.
        parts += [
            f"namespace {one.name} {{",
            *_shared(one.shared),
            template(f"{one.name}.hpp"),
            *kernels,
            *(_entry(name, type_name, name, one.call) for name in one.functions),
            "}  // namespace",
        ]
    return "\n".join(parts)


def entry_source() -> str:
    """Returns the functions that serve all kernels, whatever type they compute in."""
    return "\n".join([_ground("void"), template("entry.cpp")])


def _ground(type_name: str) -> str:
    """Returns the structures that a kernel is called with, of numbers of a type."""
    return "\n".join([
        template("base.hpp"), f"typedef {type_name} T;", template("structures.hpp"),
    ])  # fmt: skip


def _shared(names: Sequence[str]) -> tuple[str, ...]:
    """Returns files for both devices, whose functions are no other object's."""
    if not names:
        return ()
    return _SHARED, "namespace {", *map(read_template, names), "}  // namespace"


@functools.cache
def digest() -> str:
    """Tells one state of texts and templates from another."""
    source = "".join(library_source(name) for name in TYPES) + entry_source()
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def signature(text: HostText, type_name: str) -> tuple[Argument, ...]:
    """Returns the parameters of a kernel, as its text has them."""
    names = {p.name for p in text.loss.parameters}
    kernel = kernel_source(text.loss, text.text, TYPES[type_name])
    return tuple(argument for argument in kernel.signature if argument.name in names)


def _kernel(text: HostText, type_name: str) -> str:
    """Returns a text in its template, and its entry point."""
    macros = {**_macros_of_inputs(text), **_macros_of_parameters(text, type_name)}
    # A function of the text that was called, not inlined, would keep loops from becoming vectors.
    inlined = re.sub(r"(\[&\]\([^()]*\))", r"\1 INLINED", text.text.host_text)
    inlined = inlined.replace("#pragma unroll", "UNROLLED")
    # It cannot be a macro, since it has macros in it: it takes the place of a line.
    body = template(f"{_template(text).name}_text.hpp")
    return "\n".join([
        f"namespace {text.name} {{",
        *(f"#define {name} {value}" for name, value in macros.items()),
        body.replace("\n    TEXT\n", f"\n{inlined}\n"),
        *(f"#undef {name.partition('(')[0]}" for name in macros),
        "}  // namespace",
        _entry(text.name, type_name, f"{text.name}::run", _template(text).call),
    ])  # fmt: skip


def _template(text: HostText) -> Template:
    if text.template is None:
        raise ValueError(f"{text.name} must have a template")
    return text.template


def _entry(name: str, type_name: str, function: str, call: str = "Call") -> str:
    """Returns the function by which a kernel is entered."""
    return (
        f"EXPORT bool ENTRY({name}_{type_name})({call}* call) {{\n"
        f"    return answered(*call, {function});\n"
        "}\n"
    )


def _macros_of_inputs(text: HostText) -> dict[str, Any]:
    """Returns the inputs beyond two, and how often a text takes room for a row."""
    others = [declared.name for declared in text.loss.inputs[2:]]
    packs = (f"const T* const pack_of_{n} = given.inputs[{i}];" for i, n in enumerate(others, 2))
    rooms = {
        "SOFTMAX_OF": 1, "SOFTMAX_FROM": 1, "KEPT_OF_ROW": 1, "EXPONENTIALS_OF_ROW": 1,
        "ROOM_OF_ROW": 1, "surplus_of": 3, "write_surplus": 3,
    }  # fmt: skip
    return {
        "TARGETS_ARE_CLASSES": int(bool(text.text.targets_are_classes)),
        "INPUTS": len(text.loss.inputs),
        "VECTORS": len(vectors_of(text.loss)),
        "OTHERS": "".join(f", const T {name.removesuffix('s')}" for name in others),
        "UNPACK_OTHERS": " ".join(packs),
        "OTHER_ELEMENTS(i)": "".join(f", pack_of_{name}[i]" for name in others),
        "ROOMS": sum(text.text.host_text.count(name) * number for name, number in rooms.items()),
    }


def _macros_of_parameters(text: HostText, type_name: str) -> dict[str, Any]:
    """Returns the parameters, and the versions of a text for some of them."""
    is_pointwise = _template(text).name == "pointwise"
    parameters = signature(text, type_name)
    lists = [a.name for a in parameters if a.kind is Kind.ARRAY]
    numbers = [a for a in parameters if a.kind is not Kind.ARRAY]
    types = {a.name: "T" if a.kind is Kind.REAL else "double" for a in numbers}
    types |= dict.fromkeys(lists, "Weights")
    flags = {p.name for p in text.loss.parameters if p.type is bool and is_pointwise}
    switches = [a.name for a in numbers if a.name in flags]
    index = {argument.name: i for i, argument in enumerate(numbers)}
    values = {name: f"{types[name]}(call.numbers[{i}])" for name, i in index.items()}
    values |= {name: f"SWITCHES >> {i} & 1" for i, name in enumerate(switches)}
    source = "laid" if is_pointwise else "row.vectors"
    values |= {name: f"{source}[{i}]" for i, name in enumerate(lists)}
    chosen = (f"(call.numbers[{index[name]}] != 0) << {i}" for i, name in enumerate(switches))
    power = _power(text.text.host_text)
    powers = ["0", "1", "2", "ANY_POWER"] if power else ["ANY_POWER"]
    return {
        "LISTS": len(lists),
        "PARAMETERS": "".join(f", const {types[a.name]} {a.name}" for a in parameters),
        "ARGUMENTS": "".join(f", {a.name}" for a in parameters),
        "UNPACK_PARAMETERS": " ".join(
            f"const {types[name]} {name} = {value}; (void){name};" for name, value in values.items()
        ),
        "SWITCHES_OF_CALL": " | ".join(["0", *chosen]),
        "pow(x, y)": "power_of<POWER>(x, y)",
        "POWERS": len(powers),
        "POWER_OF_TEXT": power or "0",
        "VERSIONS": _versions(powers, 1 << len(switches) if is_pointwise else None),
    }


def _versions(powers: Sequence[str], cases: int | None) -> str:
    """Returns the functions that a text is compiled to, for each case of its switches and power."""
    if cases is None:
        return ", ".join(f"evaluate<{power}>" for power in powers)
    rows = (
        ", ".join(f"evaluate_all<{case}, {power}>" for power in powers) for case in range(cases)
    )
    return ", ".join(f"{{{row}}}" for row in rows)


def _power(text: str) -> str:
    """Returns the exponent of a text's powers, which is the same in all and knows no element."""
    found = re.findall(
        r"\bpow\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*, ((?:[^(),]|\([^()]*\))*)\)", text
    )
    exponents = {re.sub(r"^(?:T|double)\((.*)\)$", r"\1", one) for one in found}
    if len(exponents) > 1:
        raise ValueError(f"a text must raise to one power, got {', '.join(sorted(exponents))}")
    return exponents.pop() if exponents else ""


@functools.cache
def template(name: str) -> str:
    text = importlib.resources.files(__package__).joinpath(name).read_text("utf-8")
    return f'#line 1 "lossd/kernels/host/{name}"\n{text}'
