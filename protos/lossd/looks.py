"""Gives messages docstrings, and representations that are short whatever they hold.

``repr`` of a message is the call that makes it, with the short names of enum members, and with long
lists cut off; ``str`` stays protobuf's text.
"""

import itertools
from collections.abc import Mapping, MutableSequence
from types import ModuleType
from typing import Any

from google.protobuf.message import Message

from lossd.naming import name_of

_ITEMS = 6  # of a longer list the first ones are shown
_LETTERS = 64
_LEVELS = 5  # of messages that are deeper inside only the names are shown


def apply(module: ModuleType, docstrings: Mapping[str, str]) -> None:
    """Gives the messages of a module their docstrings and a short representation."""
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, Message):
            _apply(kind, docstrings)


def _apply(kind: Any, docstrings: Mapping[str, str]) -> None:
    # Changed in place, as in ``forms``: protobuf forbids subclasses of its messages.
    kind.__doc__ = docstrings.get(kind.__name__)
    kind.__repr__ = short


def short(message: Message, level: int = 0) -> str:
    """Returns the call that makes a message, without most of the items of long lists."""
    name, fields = message.DESCRIPTOR.name, message.ListFields()
    if fields and level == _LEVELS:
        return f"{name}(...)"
    given = (f"{field.name}={_value(field, value, level + 1)}" for field, value in fields)
    return f"{name}({', '.join(given)})"


def _value(field: Any, value: Any, level: int) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{key!r}: {one!r}" for key, one in itertools.islice(value.items(), _ITEMS)]
        return f"{{{_listed(pairs, len(value))}}}"
    if isinstance(value, MutableSequence):
        items = [_item(field, one, level) for one in value[:_ITEMS]]
        return f"[{_listed(items, len(value))}]"
    return _item(field, value, level)


def _listed(shown: list[str], count: int) -> str:
    left = count - len(shown)
    return ", ".join([*shown, f"... {left} more"] if left else shown)


def _item(field: Any, value: Any, level: int) -> str:
    if isinstance(value, Message):
        return short(value, level)
    if field.enum_type is not None:
        is_known = value in field.enum_type.values_by_number
        return repr(name_of(field.enum_type, value) if is_known else value)
    if isinstance(value, bytes) and len(value) > _LETTERS:
        return f"<{len(value)} bytes>"
    if isinstance(value, str) and len(value) > _LETTERS:
        return f"{value[:_LETTERS]!r}..."
    return repr(value)
