"""Reads parameters of losses and metrics from the texts of ``--param NAME=VALUE``."""

import json
import math
from collections.abc import Iterable, MutableSequence
from typing import Any

import click
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lossd.cli.arguments import is_in_plain_digits, pair
from lossd.naming import guess, members_of

Field = Any  # a FieldDescriptor of protobuf in Python or in C, which have no common type

_REALS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_NUMBERS = (
    *_REALS, FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64,
)  # fmt: skip
_TRUTHS = {"true": True, "false": False}
_BITS = {FieldDescriptor.CPPTYPE_INT32: 32, FieldDescriptor.CPPTYPE_INT64: 64}
_KINDS = {FieldDescriptor.CPPTYPE_BOOL: "true or false", FieldDescriptor.CPPTYPE_STRING: "a text"}
_LISTS = {
    FieldDescriptor.CPPTYPE_STRING: "texts such as a,b",
    FieldDescriptor.CPPTYPE_MESSAGE: 'JSON such as [{"weight": 2, "loss": {"huber": {}}}]',
}


def set_parameters(message: Message, texts: Iterable[str]) -> None:
    """Sets the parameters of a loss or a metric.

    Raises:
        click.UsageError: if one is unknown, given twice, or has an invalid value.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, value = pair("--param", text)
        if name in found:
            raise click.UsageError(f"--param must give {name} once, got it twice")
        found[name] = value
    for name, value in found.items():
        _set(message, name, value)


def _set(message: Message, name: str, text: str) -> None:
    known = dict(message.DESCRIPTOR.fields_by_name)  # protobuf's own takes no name but of UTF-8
    field = known.get(name)
    if field is None:
        names = ", ".join(sorted(known)) or "nothing"
        raise click.UsageError(
            f"--param must be one of {names} for {message.DESCRIPTOR.name}, got {name}"
            + guess(name, known)
        )
    is_list = isinstance(getattr(message, name), MutableSequence)
    try:
        json_format.ParseDict({name: _value(field, text, is_list=is_list)}, message)
    except json_format.ParseError as error:
        raise _refusal(field, text, is_list=is_list) from error


def _value(field: Field, text: str, *, is_list: bool) -> Any:
    """Returns the value of a text, as JSON has it."""
    value = _parsed(text)
    if is_list and not isinstance(value, list):
        value = [_scalar(field, part.strip()) for part in text.split(",")]
    elif not is_list and not isinstance(value, dict):
        value = _scalar(field, text)
    return _with_full_names(field, value)


def _scalar(field: Field, text: str) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        value = _parsed(text)
        return value if isinstance(value, str) else text
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _TRUTHS.get(text.lower(), text)
    value = _parsed(text)
    # Whole numbers may be written like 1e3; other JSON is no number.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else text


def _parsed(text: str) -> Any:
    """Returns the value of a text that is JSON with each name once, or else the text."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object must have each name once")
    return found


def _with_full_names(field: Field, value: Any) -> Any:
    """Returns the value with full names of enum members for short ones, however deep."""
    if isinstance(value, list):
        return [_with_full_names(field, one) for one in value]
    if field.enum_type is not None:
        return _member(field, value)
    if field.cpp_type in _NUMBERS and isinstance(value, str) and not is_in_plain_digits(value):
        raise json_format.ParseError(f"{field.name} must have plain digits, got {value}")
    if isinstance(value, dict) and field.message_type is not None:
        return _fields(field.message_type, value)
    return value


def _fields(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    known = kind.fields_by_name
    if kind.GetOptions().map_entry:
        return values
    for name in values:
        if name not in known and name not in kind.fields_by_camelcase_name:
            raise click.UsageError(
                f"--param must name fields of {kind.name} ({', '.join(known)}), got {name}"
                + guess(name, known)
            )
    return {
        name: _with_full_names(known.get(name) or kind.fields_by_camelcase_name[name], value)
        for name, value in values.items()
    }


def _member(field: Field, value: Any) -> str:
    """Returns the full name of a member of an enum, from its short or its full name."""
    members = members_of(field.enum_type)
    wanted = str(value).upper()
    for short, full in members.items():
        if wanted in (short, full):
            return full
    raise click.UsageError(
        f"{field.name} must be one of {', '.join(members)}, got {value}" + guess(wanted, members)
    )


def _refusal(field: Field, text: str, *, is_list: bool) -> click.UsageError:
    kind = _KINDS.get(field.cpp_type, "a number" if field.cpp_type in _REALS else "a whole number")
    if field.cpp_type in _BITS and text.strip().lstrip("+-").isdecimal():
        kind += f" of {_BITS[field.cpp_type]} bits"
    if is_list:
        kind = _LISTS.get(field.cpp_type, "numbers such as 1,2 or [1,2]")
    return click.UsageError(f"{field.name} must be {kind}, got {text}")
