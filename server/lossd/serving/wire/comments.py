"""The contract's own documentation: the comments of the ``.proto`` files.

The generated code has no comments, so they are read from the files, which are installed beside it.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from types import MappingProxyType

_COMMENT = re.compile(r"\s*//\s?(.*)")
_SCOPE = re.compile(r"\s*(message|enum|oneof|service)\s+(\w+)\s*\{(\s*\})?")
_FIELD = re.compile(r"\s*(?:(?:optional|repeated)\s+)?(?:map<[^>]*>|[\w.]+)\s+(\w+)\s*=\s*\d+")
_MEMBER = re.compile(r"\s*(\w+)\s*=\s*\d+\s*;")
_END = re.compile(r"\s*\}")


@functools.cache
def comments() -> Mapping[str, str]:
    """Returns the comments by full name: ``Huber``, ``Huber.delta``, ``Mining.MINING_ALL``.

    Lines are joined; paragraphs are separated by an empty line.
    """
    found: dict[str, str] = {}
    for file in resources.files("lossd.v1").iterdir():
        if file.name.endswith(".proto"):
            found |= _commented(file.read_text(encoding="utf-8").splitlines())
    return MappingProxyType(found)


def _commented(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    scopes: list[str] = []
    above: list[str] = []
    for line in lines:
        if comment := _COMMENT.fullmatch(line):
            above.append(comment[1])
            continue
        if scope := _SCOPE.match(line):
            kind, name, closed = scope.groups()
            # The fields of a oneof are those of its message.
            path = scopes[-1] if kind == "oneof" else ".".join([*scopes[-1:], name])
            if kind != "oneof":
                yield path, _text(above)
            if not closed:
                scopes.append(path)
        elif _END.match(line):
            scopes.pop()
        elif scopes and (field := _FIELD.match(line) or _MEMBER.match(line)):
            yield f"{scopes[-1]}.{field[1]}", _text(above)
        above = []


def _text(lines: list[str]) -> str:
    paragraphs = "\n".join(lines).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
