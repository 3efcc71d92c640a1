"""Derives from the contract what protoc leaves out: explanations, exact names, and a place apart.

The comments of the ``.proto`` files become docstrings, in the stubs for editors and in
``lossd/v1/docstrings.py`` for ``help``; the inputs of losses and metrics are from the catalogue.
The stubs name the members of enums, so that type checkers find a misspelt one.
``lossd/v1/losses.py`` and ``lossd/v1/metrics.py`` hold the losses and the metrics without requests,
results and enums.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalogued import Catalogued
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# What is said of each member, by its short name, by the name of the enum.
Members = Mapping[str, Mapping[str, str]]

# The modules whose constructors ``lossd.forms`` checks: they take short names of members.
_CHECKED = ("losses_pb2", "evaluation_pb2")
_WIDTH = 96  # a docstring in a stub is indented by four
_MESSAGE, _ENUM, _FIELD, _VALUE = 4, 5, 2, 2  # numbers of fields in descriptor.proto


@dataclass(frozen=True, slots=True)
class _Part:
    """The text of a parameter, an input or a member, and those of what a parameter may be."""

    text: str
    choices: Mapping[str, str] = field(default_factory=dict)


def derive(described: FileDescriptorSet, folder: Path, catalogue: Mapping[str, Catalogued]) -> None:
    """Writes everything for the files of one package, whose generated code is in a folder."""
    files = [file for file in described.file if file.package == "lossd.v1"]
    shorts = {
        value.name: _short(enum, value.name)
        for file in files
        if _module(file) in _CHECKED
        for enum in file.enum_type
        for value in enum.value
    }
    members = {
        enum.name: _said_of_members(_comments(file, shorts), place, enum)
        for file in files
        for place, enum in enumerate(file.enum_type)
    }
    losses, metrics = _members(files, "LossSpec"), _members(files, "MetricSpec")
    single = {name: kind for name, kind in losses.items() if kind != "WeightedSum"}
    bases = {"_SingleLoss": single.values(), "_AnyMetric": metrics.values()}
    docstrings: dict[str, str] = {}
    for file in files:
        found = dict(_docstrings(file, shorts, members))
        found |= {
            name: _extended(found[name], one) for name, one in catalogue.items() if name in found
        }
        stub = folder / f"{_module(file)}.pyi"
        stub.write_text(_stub(stub.read_text(), file, found, bases))
        docstrings |= {name: text for name, text in found.items() if _is_message(file, name)}
    (folder / "docstrings.py").write_text(_docstrings_module(docstrings))
    (folder / "losses.py").write_text(_losses_module(losses, single))
    (folder / "metrics.py").write_text(_metrics_module(metrics))


def _module(file: FileDescriptorProto) -> str:
    return Path(file.name).stem + "_pb2"


def _is_message(file: FileDescriptorProto, name: str) -> bool:
    return any(message.name == name for message in file.message_type)


def _short(enum: Any, name: str) -> str:
    """Returns the name of a member without the prefix that all of an enum have."""
    prefix: str = enum.value[0].name.removesuffix("UNSPECIFIED")
    return name.removeprefix(prefix)


def _comments(file: FileDescriptorProto, shorts: Mapping[str, str]) -> Callable[..., str]:
    """Returns what tells the comment of a place in a file, with the short names of members."""
    comments = {tuple(place.path): place for place in file.source_code_info.location}

    def said(*path: int) -> str:
        place = comments.get(path)
        text = "" if place is None else place.leading_comments
        return re.sub(r"\b[A-Z0-9]+(?:_[A-Z0-9]+)+\b", lambda m: _quoted(m[0], shorts), text)

    return said


def _said_of_members(said: Callable[..., str], position: int, enum: Any) -> dict[str, str]:
    return {
        _short(enum, value.name): said(_ENUM, position, _VALUE, number)
        for number, value in enumerate(enum.value)
        if value.number
    }


def _docstrings(
    file: FileDescriptorProto, shorts: Mapping[str, str], members: Members
) -> Iterator[tuple[str, str]]:
    """Yields the names of messages and enums with their docstrings."""
    said = _comments(file, shorts)
    for position, message in enumerate(file.message_type):
        fields = {
            one.name: _parameter(said(_MESSAGE, position, _FIELD, number), one, members)
            for number, one in enumerate(message.field)
        }
        yield message.name, _docstring(said(_MESSAGE, position), "Args", fields)
    for position, enum in enumerate(file.enum_type):
        values = {name: _Part(text) for name, text in members[enum.name].items()}
        yield enum.name, _docstring(said(_ENUM, position), "Members", values)


def _quoted(name: str, shorts: Mapping[str, str]) -> str:
    return f'"{shorts[name]}"' if name in shorts else name


def _parameter(comment: str, one: Any, members: Members) -> _Part:
    """Returns what is said of a field, and of the members that it may be."""
    choices = members.get(one.type_name.rpartition(".")[2], {})
    if not choices:
        return _Part(comment)
    number = "Any" if one.label == one.LABEL_REPEATED else "One"
    return _Part(f"{comment}\n{number} of:", {f'"{name}"': text for name, text in choices.items()})


def _docstring(comment: str, title: str, parts: Mapping[str, _Part]) -> str:
    """Returns a docstring in Google's style: paragraphs, and a list of parameters or members."""
    paragraphs = [
        textwrap.fill(" ".join(paragraph.split()), _WIDTH)
        for paragraph in re.split(r"\n\s*\n", comment.strip())
    ]
    if parts:
        paragraphs.append(_listed(title, parts))
    return "\n\n".join(paragraphs)


def _listed(title: str, parts: Mapping[str, _Part]) -> str:
    lines = [f"{title}:"]
    for name, part in parts.items():
        lines.append(_item(name, part.text, 4))
        lines += [_item(choice, text, 8) for choice, text in part.choices.items()]
    return "\n".join(lines)


def _item(name: str, text: str, indent: int) -> str:
    said = " ".join(text.split())
    return textwrap.fill(
        f"{name}: {said}" if said else name,
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 4),
    )


def _extended(docstring: str, one: Catalogued) -> str:
    """Returns a docstring with the inputs of its loss or metric, and where more is said."""
    closing = [textwrap.fill(text, _WIDTH, break_on_hyphens=False) for text in one.closing]
    inputs = {name: _Part(text) for name, text in one.inputs.items()}
    return "\n\n".join([docstring, _listed("Inputs", inputs), *closing])


def _stub(
    text: str,
    file: FileDescriptorProto,
    docstrings: Mapping[str, str],
    bases: Mapping[str, Iterable[str]],
) -> str:
    """Returns the stub of a module with docstrings, and with the names of members spelt out."""
    for name, docstring in docstrings.items():
        text = _documented(text, name, docstring)
    return _based(_exact(text, file), bases) if _module(file) in _CHECKED else text


def _documented(text: str, name: str, docstring: str) -> str:
    """Returns a stub whose class of a name begins with a docstring."""
    opening = re.compile(rf"^(class {name}\(.*\):)( \.\.\.)?$", re.MULTILINE)
    body = textwrap.indent(_literal_of(docstring), "    ")
    return opening.sub(lambda found: f"{found[1]}\n{body}", text)


def _literal_of(docstring: str) -> str:
    end = "\n" if "\n" in docstring else ""
    return f'"""{docstring}{end}"""'


def _exact(text: str, file: FileDescriptorProto) -> str:
    """Returns a stub whose constructors take the forms that ``lossd.forms`` takes, no others."""
    text = re.sub(r"_Union\[((?:_\w+\.)?)(\w+), str\]", r"_Union[\1\2, \1_\2Name]", text)
    # NumPy's numbers are neither int nor float to a type checker.
    for kind, wider in {"int": "_SupportsIndex", "float": "_SupportsFloat"}.items():
        text = text.replace(f"_Optional[{kind}]", f"_Optional[{wider}]")
        text = text.replace(f"_Optional[_Iterable[{kind}]]", f"_Optional[_Iterable[{wider}]]")
    taken = ("Literal", "SupportsFloat", "SupportsIndex", "TypeAlias")
    lines = [f"from typing import {', '.join(f'{name} as _{name}' for name in taken)}", ""]
    for enum in file.enum_type:
        names = [value.name for value in enum.value if value.number]
        every = ", ".join(map(repr, [*(_short(enum, name) for name in names), *names]))
        lines.append(f"_{enum.name}Name: _TypeAlias = _Literal[{every}]")
    return text.replace("\n\nDESCRIPTOR:", "\n".join(["", *lines, "", "DESCRIPTOR:"]), 1)


def _based(text: str, bases: Mapping[str, Iterable[str]]) -> str:
    """Returns a stub in which losses and metrics have a base each, which they have there only.

    It makes the messages of type checkers short, and a list of metrics one of metrics.
    """
    for base, kinds in bases.items():
        for kind in kinds:
            text = text.replace(f"class {kind}(_message.Message):", f"class {kind}({base}):")
        if f"({base}):" in text:
            defined = f"class {base}(_message.Message): ..."
            text = text.replace("\n\nDESCRIPTOR:", f"\n\n{defined}\n\nDESCRIPTOR:", 1)
    return text


def _docstrings_module(docstrings: Mapping[str, str]) -> str:
    texts = "".join(
        f'        "{name}": {_literal_of(text)},\n' for name, text in sorted(docstrings.items())
    )
    return f'''"""The comments of the contract, by the names of the messages that they explain.

Generated by protos/generate.py from the ``.proto`` files.
"""

# ruff: noqa: E501

from types import MappingProxyType

DOCSTRINGS = MappingProxyType(
    {{
{texts}    }}
)
'''


def _losses_module(members: Mapping[str, str], single: Mapping[str, str]) -> str:
    return f'''"""The losses, without requests and enums: ``from lossd.v1.losses import Huber``.

Generated by protos/generate.py from the members of ``LossSpec``.
"""

from typing import TYPE_CHECKING, Literal, TypeAlias

{_import("losses_pb2", members.values())}

{_alias("SingleLoss", "losses_pb2", "_SingleLoss", single.values())}
Loss: TypeAlias = SingleLoss | WeightedSum
{_literal("LossName", single)}

{_exports([*members.values(), "Loss", "LossName", "SingleLoss"])}
'''


def _metrics_module(members: Mapping[str, str]) -> str:
    return f'''"""The metrics, without requests and enums: ``from lossd.v1.metrics import RocAuc``.

Generated by protos/generate.py from the members of ``MetricSpec``.
"""

from typing import TYPE_CHECKING, Literal, TypeAlias

{_import("evaluation_pb2", members.values())}

{_alias("Metric", "evaluation_pb2", "_AnyMetric", members.values())}
{_literal("MetricName", members)}

{_exports([*members.values(), "Metric", "MetricName"])}
'''


def _members(files: Iterable[FileDescriptorProto], spec: str) -> dict[str, str]:
    """Returns the names of the messages that a spec can hold, by the names of its fields."""
    (found,) = (one for file in files for one in file.message_type if one.name == spec)
    return {field.name: field.type_name.rpartition(".")[2] for field in found.field}


def _import(module: str, kinds: Iterable[str]) -> str:
    listed = "".join(f"    {kind},\n" for kind in _ordered(kinds))
    return f"from lossd.v1.{module} import (\n{listed})"


def _alias(name: str, module: str, base: str, kinds: Iterable[str]) -> str:
    union = "(\n        " + "\n        | ".join(kinds) + "\n    )"
    return f"""if TYPE_CHECKING:
    from lossd.v1.{module} import {base} as {name}
else:
    {name} = {union}"""


def _literal(name: str, texts: Iterable[str]) -> str:
    listed = "".join(f'    "{text}",\n' for text in texts)
    return f"{name}: TypeAlias = Literal[\n{listed}]"


def _exports(names: Iterable[str]) -> str:
    return "__all__ = [\n" + "".join(f'    "{name}",\n' for name in _ordered(names)) + "]"


def _ordered(names: Iterable[str]) -> list[str]:
    """Returns names as Ruff sorts them."""
    return sorted(names, key=lambda name: (not name.isupper(), name))
